//! The table of settings: every key an operator can set, once.

use std::time::Duration;

use super::keys::{Block, Key, Kind};

/// The blocks, in the order in which they are explained.
pub const BLOCKS: &[Block] = &[
    Block { name: "cluster", doc: "Which Patroni cluster this is." },
    Block {
        name: "etcd",
        doc: "How to read Patroni's keys. Without endpoints, `cluster.members` says whom to ask.",
    },
    Block { name: "probe", doc: "How each server is asked whether it is in recovery." },
    Block { name: "policy", doc: "What may be concluded from what is known, and for how long." },
    Block {
        name: "write",
        doc: "The route for clients that write: it leads to the leader and nowhere else.",
    },
    Block {
        name: "read",
        doc: "The route for clients that only read: it leads to replicas. It is off until it listens.",
    },
    Block { name: "session", doc: "What holds for every session of both routes." },
    Block { name: "admin", doc: "The page, the metrics and the answers to health checks." },
    Block { name: "log", doc: "What is logged, to standard error." },
];

const HOLD: Kind = duration(Duration::ZERO, Duration::from_secs(3600));
const INTERVAL: Kind = duration(Duration::from_millis(10), Duration::from_secs(10));
const PATIENCE: Kind = duration(Duration::from_millis(100), Duration::from_secs(60));
const LIMIT: Kind = duration(Duration::from_millis(100), Duration::from_secs(60));
/// Linux takes no more than 32767 seconds for a keepalive.
const KEEPALIVE: Kind = duration(Duration::from_secs(1), Duration::from_secs(7200));
const PLACES: Kind = Kind::Count(1, 1_000_000);

/// The keys, block by block.
pub const KEYS: &[Key] = &[
    Key::new("cluster.scope", Kind::Text, "The cluster's name: `scope` in Patroni's configuration. It is also the label `cluster` in metrics and stands in log \
         lines and on the page. Without etcd it is no more than that, and `static` unless given.")
        .needs_restart(),
    Key::new("cluster.namespace", Kind::Text, "Where Patroni keeps its clusters: `namespace` in its configuration.")
        .or("/service")
        .needs_restart(),
    Key::new("cluster.citus_group", Kind::Count(0, 1_000_000), "The Citus group to follow; 0 is the coordinator.")
        .needs_restart(),
    Key::new(
        "cluster.prefer_proxy_url",
        Kind::Boolean,
        "Whether a member's `proxy_url` is used instead of its `conn_url`, where it publishes one.",
    )
    .or("false"),
    Key::new(
        "cluster.address_map",
        Kind::ServerMap,
        "From the address a member publishes to the one it is reached at, for members behind NAT.",
    ),
    Key::new(
        "cluster.members",
        Kind::Servers,
        "All members of the cluster, for a cluster that is followed without etcd.",
    )
    .short("member"),
    Key::new("etcd.endpoints", Kind::Urls, "The etcd servers, each as `http://host:2379` or `https://host:2379`."),
    Key::new("etcd.user", Kind::Text, "The etcd user; it needs to read the keys below the cluster's prefix."),
    Key::new("etcd.password_file", Kind::Path, "A file that holds the password of `etcd.user`."),
    Key::new("etcd.password_env", Kind::Text, "The environment variable that holds the password of `etcd.user`.")
        .or("PGLP_ETCD_PASSWORD"),
    Key::new(
        "etcd.ca_file",
        Kind::Path,
        "The authority (PEM) that signed the certificates of `https` endpoints; the system's without it.",
    ),
    Key::new("etcd.cert_file", Kind::Path, "The certificate (PEM) to show to etcd."),
    Key::new("etcd.key_file", Kind::Path, "The private key (PEM) of `etcd.cert_file`."),
    Key::new(
        "etcd.refresh_interval",
        duration(Duration::from_millis(100), Duration::from_secs(10)),
        "How often everything is read again and the leader's lease is confirmed, beside the watch.",
    )
    .or("3s"),
    Key::new("etcd.timeout", PATIENCE, "How long one request may take before the next endpoint is tried.").or("2s"),
    Key::new("probe.user", Kind::Text, "The monitoring user; it needs no more than the right to connect.").required(),
    Key::new("probe.password_file", Kind::Path, "A file that holds the password of `probe.user`."),
    Key::new("probe.password_env", Kind::Text, "The environment variable that holds the password of `probe.user`.")
        .or("PGLP_PROBE_PASSWORD"),
    Key::new("probe.database", Kind::Text, "The database to connect to.").or("postgres"),
    Key::new("probe.interval", INTERVAL, "How often each server is asked while nothing happens.").or("500ms"),
    Key::new(
        "probe.fast_interval",
        duration(Duration::from_millis(1), Duration::from_secs(1)),
        "How often a new leader is asked whether it has left recovery, while clients wait for it.",
    )
    .or("2ms")
    .formerly(&["probe.burst_interval"]),
    Key::new(
        "probe.connect_interval",
        duration(Duration::from_millis(100), Duration::from_secs(60)),
        "How often a new connection is tried beside the kept one, to notice a server that takes none.",
    )
    .or("3s")
    .formerly(&["probe.fresh_interval"]),
    Key::new("probe.timeout", PATIENCE, "How long an answer may take.").or("2s"),
    Key::new(
        "probe.sslmode",
        Kind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
        "Whether to speak TLS and what to verify, as in libpq.",
    )
    .or("prefer"),
    Key::new("probe.ca_file", Kind::Path, "The authority (PEM) that signed the servers' certificates; the system's without it."),
    Key::new(
        "policy.on_dcs_loss",
        Kind::Choice(&["all_members", "fence"]),
        "After etcd was silent for longer than the lease: `all_members` goes on while every member answers and only \
         the last leader is out of recovery, as Patroni's failsafe mode does; `fence` forwards nothing.",
    )
    .or("all_members")
    .renamed_words(&[("evidence", "all_members")]),
    Key::new("policy.lease_margin", HOLD, "How long before the end of a lease it is no longer trusted.").or("2s"),
    Key::new("policy.max_probe_age", LIMIT, "How old the leader's last answer to a probe may be.")
        .or("5s")
        .formerly(&["policy.evidence_limit"]),
    Key::new(
        "policy.max_member_probe_age",
        LIMIT,
        "How old any member's last answer to a probe may be while etcd is silent or not used.",
    )
    .or("2s")
    .formerly(&["policy.rival_limit"]),
    Key::new("write.listen", Kind::Addresses, "The addresses to listen on.").or("0.0.0.0:5433"),
    Key::new(
        "write.hold_timeout",
        HOLD,
        "How long a client waits for a leader before it is told why there is none.",
    )
    .or("30s")
    .formerly(&["write.hold"]),
    Key::new("write.max_held", PLACES, "How many clients may wait at once; the next one is told at once.").or("10000"),
    Key::new(
        "write.max_concurrent_logins",
        PLACES,
        "How many clients may log in to the leader at once, so that a new leader is not flooded.",
    )
    .or("64")
    .formerly(&["write.max_connecting"]),
    Key::new("read.listen", Kind::Addresses, "The addresses to listen on; none switches the route off."),
    Key::new(
        "read.hold_timeout",
        HOLD,
        "How long a client waits for a replica before it is told why there is none.",
    )
    .or("30s")
    .formerly(&["read.hold"]),
    Key::new("read.max_held", PLACES, "How many clients may wait at once; the next one is told at once.").or("10000"),
    Key::new("read.max_concurrent_logins", PLACES, "How many clients may log in to replicas at once.")
        .or("64")
        .formerly(&["read.max_connecting"]),
    Key::new(
        "read.max_lag",
        Kind::Size,
        "How many bytes of log a replica may be behind and still take new sessions; any number without it.",
    ),
    Key::new(
        "read.fallback",
        Kind::Choice(&["hold", "leader"]),
        "Where readers go when no replica will do: they wait (`hold`) or go to the `leader`.",
    )
    .or("hold"),
    Key::new("session.max_sessions", PLACES, "How many sessions there may be at once, over both routes.").or("20000"),
    Key::new("session.startup_timeout", PATIENCE, "How long a client may take to send its first packet.").or("10s"),
    Key::new("session.connect_timeout", PATIENCE, "How long a server may take to accept a connection.").or("3s"),
    Key::new(
        "session.keepalive",
        KEEPALIVE,
        "After how long without traffic TCP asks whether the other side is still there.",
    )
    .or("15s"),
    Key::new(
        "session.user_timeout",
        KEEPALIVE,
        "How long sent bytes may stay unacknowledged, or untaken by a peer that does not read, before TCP gives up \
         (`TCP_USER_TIMEOUT`). A client that pauses for longer in the middle of a result is cut off. \
         Linux also lets keepalive questions go unanswered for as long.",
    )
    .or("15m"),
    Key::new("session.drain_timeout", HOLD, "How long sessions may go on after a request to stop (SIGTERM).")
        .or("30s")
        .formerly(&["session.drain"]),
    Key::new("session.workers", Kind::Count(0, 1024), "How many threads relay; 0 means one for each processor core.")
        .or("0")
        .needs_restart(),
    Key::new(
        "admin.listen",
        Kind::Address,
        "The address to listen on, or `off`. Whoever reaches it can read the names and addresses of the members.",
    )
    .or("127.0.0.1:9433")
    .needs_restart(),
    Key::new("log.format", Kind::Choice(&["text", "json"]), "Text for people or one JSON object per line.")
        .or("text")
        .needs_restart(),
    Key::new("log.filter", Kind::Text, "What to log: a level such as `info`, or `info,pg_leader_proxy=debug`.")
        .or("info"),
];

const fn duration(least: Duration, most: Duration) -> Kind {
    Kind::Duration(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_belongs_to_a_block_and_every_block_has_keys() {
        assert_eq!(BLOCKS.iter().flat_map(Block::keys).count(), KEYS.len());
        assert!(BLOCKS.iter().all(|block| block.keys().next().is_some()));
    }

    #[test]
    fn an_old_word_stands_for_a_present_one_and_is_none_itself() {
        for key in KEYS {
            for (old, new) in key.old_words {
                let Kind::Choice(words) = key.kind else { panic!("{}: no choice", key.path) };
                assert!(words.contains(new) && !words.contains(old), "{}: {old}", key.path);
            }
        }
    }

    #[test]
    fn each_key_is_explained_by_a_sentence() {
        for key in KEYS {
            assert!(key.doc.ends_with('.') && key.doc.len() > 20, "{}: {}", key.path, key.doc);
        }
    }
}
