//! The words of HAProxy, PgBouncer and Patroni for what is a setting here, or is not needed here.

use super::keys::Key;
use super::names;

/// A setting of another program.
pub(super) struct Word {
    /// The program.
    program: &'static str,
    /// The setting as that program writes it, with other spellings of the same.
    spellings: &'static [&'static str],
    answer: Answer,
}

/// What there is here for such a setting.
enum Answer {
    /// The path of a key, and what it does differently.
    Key(&'static str, &'static str),
    /// Nothing, because...
    NotNeeded(&'static str),
}

use Answer::{Key as Is, NotNeeded};

const fn haproxy(spellings: &'static [&'static str], answer: Answer) -> Word {
    Word { program: "HAProxy", spellings, answer }
}

const fn pgbouncer(spellings: &'static [&'static str], answer: Answer) -> Word {
    Word { program: "PgBouncer", spellings, answer }
}

const fn patroni(spellings: &'static [&'static str], answer: Answer) -> Word {
    Word { program: "Patroni", spellings, answer }
}

const ONE_ANSWER: Answer = NotNeeded(
    "no checks are counted: sessions go to the holder of the leader key that answers \"not in recovery\", and end when \
     one of the two is no longer true",
);
const ASKED_BY_SQL: Answer =
    NotNeeded("each server is asked by SQL over a kept connection (the keys in `[probe]`)");
const NO_IDLE_LIMIT: Answer = NotNeeded(
    "idle sessions are not ended; PostgreSQL can do that (idle_session_timeout), and `session.keepalive` finds clients \
     that are gone",
);
const NO_POOL: Answer = NotNeeded(
    "connections are not pooled: each client has a server connection of its own until it disconnects",
);
const NO_LOGIN: Answer =
    NotNeeded("clients log in to PostgreSQL itself; the proxy passes the exchange through");
const NO_TLS: Answer = NotNeeded(
    "client and server agree on TLS, and the proxy passes it through; `probe.sslmode` is for its own probes",
);
const NOT_READ_TWICE: Answer = NotNeeded("the proxy reads it from Patroni's keys in etcd");

const WORDS: &[Word] = &[
    haproxy(
        &["inter"],
        Is(
            "probe.interval",
            "a new leader does not wait for it, because etcd announces the leader key at once",
        ),
    ),
    haproxy(&["fastinter"], Is("probe.fast_interval", "it applies only while clients wait for a new leader")),
    haproxy(&["downinter"], Is("probe.interval", "a server that is down is asked as often as any other")),
    haproxy(&["rise"], ONE_ANSWER),
    haproxy(&["fall"], ONE_ANSWER),
    haproxy(&["maxconn"], Is("session.max_sessions", "over both routes; a client beyond it gets an error")),
    haproxy(&["maxqueue"], Is("write.max_held", "it counts the clients of one route")),
    haproxy(
        &["timeout queue"],
        Is(
            "write.hold_timeout",
            "a client waits that long while there is no leader, and then gets SQLSTATE 57P03",
        ),
    ),
    haproxy(
        &["timeout connect"],
        Is("session.connect_timeout", "a failed attempt is repeated while the client waits"),
    ),
    haproxy(
        &["timeout check"],
        Is("probe.timeout", "a late answer does not end sessions whose lease is valid"),
    ),
    haproxy(&["timeout client", "timeout server", "timeout tunnel"], NO_IDLE_LIMIT),
    haproxy(
        &["on-marked-down", "on-marked-up", "shutdown-sessions"],
        NotNeeded("sessions are always terminated when their server is no longer the leader"),
    ),
    haproxy(
        &["hard-stop-after", "grace"],
        Is("session.drain_timeout", "a second SIGTERM ends the sessions at once"),
    ),
    haproxy(&["nbthread"], Is("session.workers", "0 means one for each processor core")),
    haproxy(
        &["retries", "option redispatch", "redispatch"],
        NotNeeded(
            "a waiting client is connected to the next leader, or gets an error after `write.hold_timeout`",
        ),
    ),
    haproxy(&["balance", "weight"], NotNeeded("a reader goes to the replica with the fewest sessions")),
    haproxy(
        &["slowstart"],
        Is("write.max_concurrent_logins", "it limits how many log in to a new leader at once"),
    ),
    haproxy(
        &[
            "check",
            "option httpchk",
            "httpchk",
            "http-check",
            "option pgsql-check",
            "pgsql-check",
            "agent-check",
        ],
        ASKED_BY_SQL,
    ),
    haproxy(
        &["server", "default-server", "backend"],
        Is("cluster.members", "it is for clusters without etcd; with etcd, Patroni's keys name the members"),
    ),
    haproxy(&["bind", "frontend"], Is("write.listen", "readers have an address of their own, `read.listen`")),
    haproxy(&["stats", "stats socket"], Is("admin.listen", "it serves a page, JSON and Prometheus metrics")),
    haproxy(&["tcp-ut"], Is("session.user_timeout", "it is set on both sides of a session")),
    haproxy(
        &["option clitcpka", "option srvtcpka", "option tcpka", "clitcpka", "srvtcpka", "tcpka"],
        Is("session.keepalive", "it is always on, on both sides of a session"),
    ),
    pgbouncer(
        &["listen_addr", "listen_port"],
        Is("write.listen", "an address has its port: \"0.0.0.0:5433\""),
    ),
    pgbouncer(
        &["max_client_conn"],
        Is("session.max_sessions", "each client has a server connection of its own"),
    ),
    pgbouncer(
        &[
            "pool_mode",
            "default_pool_size",
            "min_pool_size",
            "reserve_pool_size",
            "reserve_pool_timeout",
            "max_db_connections",
            "max_user_connections",
            "max_prepared_statements",
            "server_lifetime",
            "server_idle_timeout",
            "server_reset_query",
            "server_reset_query_always",
            "server_round_robin",
            "server_check_delay",
            "server_fast_close",
        ],
        NO_POOL,
    ),
    pgbouncer(&["server_check_query"], ASKED_BY_SQL),
    pgbouncer(
        &["query_wait_timeout"],
        Is(
            "write.hold_timeout",
            "a client waits only while there is no leader, and then gets SQLSTATE 57P03",
        ),
    ),
    pgbouncer(
        &["server_login_retry"],
        NotNeeded(
            "a client that waits is connected as soon as a server takes it, until `write.hold_timeout` is over",
        ),
    ),
    pgbouncer(
        &["server_connect_timeout"],
        Is("session.connect_timeout", "a failed attempt is repeated while the client waits"),
    ),
    pgbouncer(
        &["client_login_timeout"],
        Is("session.startup_timeout", "it ends with the client's first packet; the login is PostgreSQL's"),
    ),
    pgbouncer(&["client_idle_timeout", "idle_transaction_timeout", "query_timeout"], NO_IDLE_LIMIT),
    pgbouncer(&["auth_type", "auth_file", "auth_user", "auth_query", "auth_hba_file"], NO_LOGIN),
    pgbouncer(&["client_tls_sslmode", "server_tls_sslmode"], NO_TLS),
    pgbouncer(
        &["ignore_startup_parameters", "databases"],
        NotNeeded("database, user and parameters reach the server as the client sends them"),
    ),
    pgbouncer(
        &["tcp_keepalive", "tcp_keepidle", "tcp_keepintvl", "tcp_keepcnt"],
        Is("session.keepalive", "it is always on, on both sides of a session"),
    ),
    pgbouncer(&["tcp_user_timeout"], Is("session.user_timeout", "it is set on both sides of a session")),
    pgbouncer(&["logfile", "syslog"], NotNeeded("the log goes to standard error")),
    pgbouncer(&["pidfile"], NotNeeded("the program stays in the foreground")),
    pgbouncer(&["verbose"], Is("log.filter", "a level such as `info` or `debug`")),
    pgbouncer(
        &["admin_users", "stats_users"],
        Is("admin.listen", "it answers over HTTP, to everybody who can reach it"),
    ),
    patroni(&["ttl", "loop_wait", "retry_timeout", "synchronous_mode", "standby_cluster"], NOT_READ_TWICE),
    patroni(&["maximum_lag_on_failover"], Is("read.max_lag", "it decides which replicas take readers")),
    patroni(&["failsafe_mode"], Is("policy.on_dcs_loss", "it decides what the proxy does without etcd")),
    patroni(&["restapi"], NotNeeded("Patroni's REST API is not asked; the proxy asks etcd and the servers")),
];

/// The setting of another program that `path` is, with or without one of our blocks before it.
pub(super) fn find(path: &str) -> Option<&'static Word> {
    let last = names::last(path);
    let sought = [normal(path), normal(last)];
    WORDS.iter().find(|word| word.spellings.iter().any(|spelling| sought.contains(&normal(spelling))))
}

impl Word {
    /// What to say to somebody who used this word as `path`.
    pub(super) fn explain(&self, path: &str) -> String {
        let last = names::last(path);
        match self.answer {
            Is(key, difference) => {
                format!("{}'s `{last}` is `{}` here: {difference}", self.program, beside(path, key))
            }
            NotNeeded(because) => format!("{}'s `{last}` is not needed, because {because}", self.program),
        }
    }
}

/// The key of the same name in the block of `path`, if there is one: `read.listen` for `read.bind`.
fn beside(path: &str, key: &'static str) -> &'static str {
    let name = names::last(key);
    let block = path.split_once('.').map_or("", |(block, _)| block);
    Key::find(&format!("{block}.{name}")).map_or(key, |key| key.path)
}

/// One spelling for `timeout queue`, `timeout_queue` and `timeout-queue`.
fn normal(word: &str) -> String {
    word.to_lowercase().replace([' ', '-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_leads_to_a_key_or_says_why_there_is_none() {
        let told = |path: &str| find(path).unwrap().explain(path);
        assert!(
            told("probe.fastinter").starts_with("HAProxy's `fastinter` is `probe.fast_interval` here: it ")
        );
        assert!(told("write.timeout queue").contains("`write.hold_timeout`"));
        assert!(told("read.timeout_queue").contains("`read.hold_timeout`"));
        assert!(told("read.bind").contains("`read.listen`") && told("bind").contains("`write.listen`"));
        assert!(
            told("probe.rise").starts_with("HAProxy's `rise` is not needed, because no checks are counted")
        );
        assert!(told("session.default_pool_size").contains("not pooled"));
        assert!(find("write.tomatoes").is_none());
    }

    #[test]
    fn the_keys_exist_and_no_word_is_a_name_of_ours() {
        for word in WORDS {
            if let Is(key, _) = word.answer {
                assert!(Key::find(key).is_some(), "{key}");
            }
        }
        let ours: BTreeSet<&str> = super::super::table::KEYS.iter().map(Key::name).collect();
        for spelling in WORDS.iter().flat_map(|word| word.spellings) {
            assert!(!ours.contains(spelling), "{spelling}");
        }
    }

    #[test]
    fn no_word_stands_twice() {
        let all: Vec<String> =
            WORDS.iter().flat_map(|word| word.spellings).map(|word| normal(word)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
