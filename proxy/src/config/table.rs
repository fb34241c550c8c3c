//! The table of settings: every key an operator can set, once.

use std::time::Duration;

use super::keys::{Block, Key, Kind};

/// The blocks, in the order in which they are explained.
pub const BLOCKS: &[Block] = &[
    Block { name: "cluster", doc: "Which Patroni cluster this is." },
    Block {
        name: "etcd",
        doc: "Where Patroni's keys are. Without etcd, list the members in `cluster.members` instead.",
    },
    Block {
        name: "probe",
        doc: "How each server is probed: whether it is in recovery, and on which timeline.",
    },
    Block { name: "policy", doc: "How long an answer counts, and what to do without etcd." },
    Block { name: "write", doc: "The route for clients that write. It goes to the leader and nowhere else." },
    Block {
        name: "read",
        doc: "The route for clients that only read. It goes to replicas, and is off unless `read.listen` is given.",
    },
    Block { name: "session", doc: "Limits and time-outs of the sessions of both routes." },
    Block { name: "admin", doc: "The page, the metrics and the answers to health checks." },
    Block {
        name: "control",
        doc: "The control socket, on which commands such as `sessions`, `pause` and `terminate` reach a running proxy.",
    },
    Block { name: "log", doc: "What is logged. The log goes to standard error." },
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
    Key::new("etcd.endpoints", Kind::Urls, "The etcd servers, each as `http://host:2379` or `https://host:2379`. The port is 2379 unless given, as in Patroni's \
         configuration."),
    Key::new("etcd.user", Kind::Text, "The etcd user; it needs to read the keys below the cluster's prefix."),
    Key::new("etcd.password_file", Kind::Path, "A file that holds the password of `etcd.user`."),
    Key::new("etcd.password_env", Kind::Text, "The environment variable that holds the password of `etcd.user`.")
        .or("PGLP_ETCD_PASSWORD"),
    Key::new(
        "etcd.ca_file",
        Kind::Path,
        "The CA certificates (PEM) for `https` endpoints. Without it the system's certificates are used.",
    ),
    Key::new(
        "etcd.cert_file",
        Kind::Path,
        "The client certificate (PEM) for etcd, with intermediate certificates behind it.",
    ),
    Key::new("etcd.key_file", Kind::Path, "The private key (PEM, not encrypted) for `etcd.cert_file`."),
    Key::new(
        "etcd.refresh_interval",
        duration(Duration::from_millis(100), Duration::from_secs(10)),
        "How often all keys are read again and the leader's lease is confirmed, in addition to the watch.",
    )
    .or("3s"),
    Key::new("etcd.timeout", PATIENCE, "How long one request may take before the next endpoint is tried.").or("2s"),
    Key::new("probe.user", Kind::Text, "The monitoring user. It needs no privileges beyond the right to connect.").required(),
    Key::new("probe.password_file", Kind::Path, "A file that holds the password of `probe.user`."),
    Key::new("probe.password_env", Kind::Text, "The environment variable that holds the password of `probe.user`.")
        .or("PGLP_PROBE_PASSWORD"),
    Key::new("probe.database", Kind::Text, "The database to connect to.").or("postgres"),
    Key::new("probe.interval", INTERVAL, "How often each server is probed in normal operation.").or("500ms"),
    Key::new(
        "probe.fast_interval",
        duration(Duration::from_millis(1), Duration::from_secs(1)),
        "How often a new leader is probed while clients wait for it to leave recovery.",
    )
    .or("2ms")
    .formerly(&["probe.burst_interval"]),
    Key::new(
        "probe.connect_interval",
        duration(Duration::from_millis(100), Duration::from_secs(60)),
        "How often a new connection is tried beside the kept one, to notice a server that accepts none.",
    )
    .or("3s")
    .formerly(&["probe.fresh_interval"]),
    Key::new("probe.timeout", PATIENCE, "How long a server may take to answer a probe.").or("2s"),
    Key::new(
        "probe.sslmode",
        Kind::Choice(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
        "Whether probes use TLS and what they verify, as in libpq. `prefer` goes on without TLS if the server offers none, the \
         handshake fails, or `pg_hba.conf` rejects the user with TLS. `require` with `probe.ca_file` verifies like `verify-ca`.",
    )
    .or("prefer"),
    Key::new(
        "probe.ca_file",
        Kind::Path,
        "The CA certificates (PEM) for the servers. Without it `verify-full` uses the system's certificates.",
    ),
    Key::new(
        "probe.cert_file",
        Kind::Path,
        "The client certificate (PEM) for servers that ask for one, with intermediate certificates behind it.",
    ),
    Key::new("probe.key_file", Kind::Path, "The private key (PEM, not encrypted) for `probe.cert_file`."),
    Key::new(
        "probe.require_auth",
        Kind::Text,
        "The methods by which servers may ask for authentication, as in libpq: one or several of `scram-sha-256`, `md5`, \
         `password` and `none`, separated by commas; or the forbidden ones, each with `!` before it. Without it every method \
         is allowed, except the password in the clear without TLS, which only `password` allows.",
    ),
    Key::new(
        "policy.on_dcs_loss",
        Kind::Choice(&["auto", "all_members", "fence"]),
        "What to do once etcd has been silent for longer than the leader's lease. `auto`: what Patroni does; in failsafe \
         mode, go on while every member of the `failsafe` key answers and only the last leader is out of recovery, \
         otherwise forward nothing. `all_members`: always go on while every member seen within the last hour answers and \
         only the last leader is out of recovery. `fence`: forward nothing.",
    )
    .or("auto")
    .renamed_words(&[("evidence", "all_members")]),
    Key::new("policy.lease_margin", HOLD, "How long before its end a lease stops counting.").or("2s"),
    Key::new("policy.max_probe_age", LIMIT, "How old the leader's last answer to a probe may be for new sessions to go there.")
        .or("5s")
        .formerly(&["policy.evidence_limit"]),
    Key::new(
        "policy.max_member_probe_age",
        LIMIT,
        "How old any member's last answer to a probe may be where every member must answer, and how long a new member has \
         for its first answer.",
    )
    .or("2s")
    .formerly(&["policy.rival_limit"]),
    Key::new("write.listen", Kind::Addresses, "The addresses to listen on.").or("0.0.0.0:5433"),
    Key::new(
        "write.allowed_networks",
        Kind::Networks,
        "The networks of the clients that may connect. Others get an error (SQLSTATE 28000). Without it all may.",
    ),
    Key::new(
        "write.proxy_protocol_from",
        Kind::Networks,
        "The networks of balancers that begin each connection with a PROXY protocol header, of version 1 or 2. The address in it \
         is then the client's. A connection from there without a header gets an error; one from elsewhere is never searched for \
         a header.",
    ),
    Key::new(
        "write.hold_timeout",
        HOLD,
        "How long a client waits until a leader has answered it. Then it gets an error with the reason. Unless it is given, it is \
         15 s longer than `ttl` in Patroni's configuration, and follows that: 45 s with Patroni's own default.",
    )
    .formerly(&["write.hold"]),
    Key::new("write.max_held", PLACES, "How many clients may wait at once. Further ones get an error at once.").or("10000"),
    Key::new(
        "write.max_concurrent_logins",
        PLACES,
        "How many clients may log in to the leader at once, so that a new leader is not flooded.",
    )
    .or("64")
    .formerly(&["write.max_connecting"]),
    Key::new("read.listen", Kind::Addresses, "The addresses to listen on. Without one the route is off."),
    Key::new(
        "read.allowed_networks",
        Kind::Networks,
        "The networks of the clients that may connect. Others get an error (SQLSTATE 28000). Without it all may.",
    ),
    Key::new(
        "read.proxy_protocol_from",
        Kind::Networks,
        "The networks of balancers that begin each connection with a PROXY protocol header, of version 1 or 2. The address in it \
         is then the client's. A connection from there without a header gets an error; one from elsewhere is never searched for \
         a header.",
    ),
    Key::new(
        "read.hold_timeout",
        HOLD,
        "How long a client waits until a replica has answered it. Then it gets an error with the reason.",
    )
    .or("30s")
    .formerly(&["read.hold"]),
    Key::new("read.max_held", PLACES, "How many clients may wait at once. Further ones get an error at once.").or("10000"),
    Key::new("read.max_concurrent_logins", PLACES, "How many clients may log in to replicas at once.")
        .or("64")
        .formerly(&["read.max_connecting"]),
    Key::new(
        "read.max_lag",
        Kind::Size,
        "How many bytes of WAL a replica may lag behind and still take new sessions. Without it any lag will do.",
    ),
    Key::new(
        "read.fallback",
        Kind::Choice(&["hold", "leader"]),
        "Where readers go when no replica will do: `hold` lets them wait, `leader` sends them to the leader. With `hold`, the \
         readers of a replica that was promoted end when they are idle.",
    )
    .or("hold"),
    Key::new("session.max_sessions", PLACES, "How many sessions both routes may have together. Further clients get an error.").or("20000"),
    Key::new(
        "session.max_sessions_per_address",
        PLACES,
        "How many sessions one client address may have, over both routes; of IPv6, one network of 64 bits. Without it there is no \
         limit.",
    ),
    Key::new(
        "session.max_connections_per_minute_per_address",
        Kind::Count(1, 100_000),
        "How many new connections one client address may open in a minute, all at once or spread over it; of IPv6, one network of \
         64 bits. Without it there is no limit.",
    ),
    Key::new("session.startup_timeout", PATIENCE, "How long a client may take to send its first packet, behind a balancer together with the PROXY header.").or("10s"),
    Key::new("session.connect_timeout", PATIENCE, "How long a server may take to accept a connection. After the same time without an answer to the client's first packet the client waits on, but other clients no longer wait for it to log in.").or("3s"),
    Key::new(
        "session.keepalive",
        KEEPALIVE,
        "How long a connection may be idle before TCP sends a keepalive probe.",
    )
    .or("15s"),
    Key::new(
        "session.user_timeout",
        KEEPALIVE,
        "How long sent data may stay unacknowledged before TCP closes the connection (`TCP_USER_TIMEOUT`). On Linux this \
         is also how long a client may pause in the middle of a result, and how long keepalive probes may stay \
         unanswered.",
    )
    .or("15m"),
    Key::new("session.drain_timeout", HOLD, "How long open sessions may go on after SIGTERM.")
        .or("30s")
        .formerly(&["session.drain"]),
    Key::new("session.workers", Kind::Count(0, 1024), "How many threads serve clients; 0 means one for each processor core.")
        .or("0")
        .needs_restart(),
    Key::new(
        "session.so_reuseport",
        Kind::Boolean,
        "Whether further proxies of the same cluster and user may listen on the same addresses (`SO_REUSEPORT`), such as \
         a successor. All of them need it. Without it no other program can listen there.",
    )
    .or("false")
    .needs_restart(),
    Key::new(
        "admin.listen",
        Kind::Address,
        "The address to listen on, or `off`. Everybody who can reach it can read the names and addresses of the members, unless one \
         of the next two keys says otherwise.",
    )
    .or("127.0.0.1:9433")
    .needs_restart(),
    Key::new(
        "admin.allowed_networks",
        Kind::Networks,
        "The networks from which it is answered. Connections from elsewhere are closed. Without it every connection is answered.",
    ),
    Key::new(
        "admin.token_file",
        Kind::Path,
        "A file that holds a token, without which only `/live` and `/ready` are answered. `status` and `failovers` send it.",
    ),
    Key::new(
        "control.socket",
        Kind::Path,
        "The path of the control socket (a Unix socket). Without it there is none. Only root, the proxy's own user and \
         `control.group` may use it.",
    )
    .needs_restart(),
    Key::new(
        "control.group",
        Kind::Text,
        "The group whose members may use the control socket, by name or number. The proxy's user must belong to it. Without \
         it only root and the proxy's own user may.",
    )
    .needs_restart(),
    Key::new("log.format", Kind::Choice(&["text", "json"]), "Text for people, or JSON with one object per line.")
        .or("text")
        .needs_restart(),
    Key::new(
        "log.sessions",
        Kind::Boolean,
        "Whether each session's end is logged, with how it ended, its times and its bytes. At most 100 a second are; the others \
         are counted.",
    )
    .or("true"),
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
