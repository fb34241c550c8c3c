//! Patroni's words, and those of patroni_proxy (its documentation as of 3.10).

use super::{Word, absent, key, not_needed};

const NOT_READ_TWICE: &str = "the proxy reads it from Patroni's keys in etcd";

pub(super) const WORDS: &[Word] = &[
    not_needed(&["ttl", "loop_wait", "retry_timeout", "synchronous_mode", "standby_cluster"], NOT_READ_TWICE),
    key(&["maximum_lag_on_failover"], "read.max_lag", "it decides which replicas take readers"),
    key(&["failsafe_mode"], "policy.on_dcs_loss", "it decides what the proxy does without etcd"),
    not_needed(&["restapi"], "Patroni's REST API is not asked; the proxy asks etcd and the servers"),
    not_needed(
        &["callbacks", "on_role_change"],
        "the proxy learns of a change of role from etcd and the servers, and Patroni has to call nobody",
    ),
];

pub(super) const PROXY_WORDS: &[Word] = &[
    key(
        &["clusters"],
        "cluster.scope",
        "one process follows one cluster, and Patroni's scope need not be the name that stands here",
    ),
    key(
        &["hosts"],
        "etcd.endpoints",
        "the leader key is watched in etcd; Patroni's REST interface is not asked",
    ),
    key(
        &["tls"],
        "etcd.ca_file",
        "with `etcd.cert_file` and `etcd.key_file`: the certificates of etcd, and not those of Patroni's REST interface",
    ),
    not_needed(
        &["cluster_update_interval"],
        "changes are pushed; `etcd.refresh_interval` reads everything again beside that",
    ),
    key(
        &["ports", "roles"],
        "write.listen",
        "`leader` is the write route; `sync`, `async` and `any` are the read route",
    ),
    absent(
        &["sync", "async"],
        "synchronous and asynchronous replicas are not told apart, so all replicas take these readers",
    ),
    key(&["any"], "read.fallback", "`leader`: readers go to the leader only when no replica will do"),
    not_needed(
        &["host_port"],
        "each member publishes its own port. For a pooler in front of it there is `cluster.prefer_proxy_url`",
    ),
    key(
        &["max_lag_in_bytes"],
        "read.max_lag",
        "a replica that falls behind keeps its open sessions and gets no new ones",
    ),
    key(&["listen_address"], "admin.listen", "a page, JSON and Prometheus metrics"),
    not_needed(&["/update_clusters"], "changes are pushed"),
    key(&["RUST_LOG"], "log.filter", "a level such as `info` or `debug`"),
];
