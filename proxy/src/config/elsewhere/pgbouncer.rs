//! PgBouncer's words.

use super::{ASKED_BY_SQL, FOREGROUND, NO_IDLE_LIMIT, NO_TLS, STANDARD_ERROR, Word, absent, key, not_needed};

const NO_POOL: &str =
    "connections are not pooled: each client has a server connection of its own until it disconnects";
const NO_LOGIN: &str = "clients log in to PostgreSQL itself; the proxy passes the exchange through";
const AS_SENT: &str = "database, user and parameters reach the server as the client sends them";

pub(super) const WORDS: &[Word] = &[
    key(&["listen_addr", "listen_port"], "write.listen", "an address has its port: \"0.0.0.0:5433\""),
    absent(&["unix_socket_dir", "unix_socket_mode", "unix_socket_group"], "clients connect over TCP"),
    key(
        &["host", "port", "databases"],
        "cluster.members",
        "only for clusters without etcd; with etcd, Patroni's keys name the members. All databases are reached",
    ),
    absent(
        &[
            "dbname",
            "user",
            "password",
            "connect_query",
            "client_encoding",
            "datestyle",
            "timezone",
            "application_name_add_host",
        ],
        AS_SENT,
    ),
    not_needed(&["ignore_startup_parameters", "track_extra_parameters"], AS_SENT),
    key(&["max_client_conn"], "session.max_sessions", "each client has a server connection of its own"),
    absent(
        &[
            "pool_mode",
            "pool_size",
            "default_pool_size",
            "min_pool_size",
            "reserve_pool",
            "reserve_pool_size",
            "reserve_pool_timeout",
            "max_db_connections",
            "max_db_client_connections",
            "max_user_connections",
            "max_user_client_connections",
            "max_prepared_statements",
            "server_lifetime",
            "server_idle_timeout",
            "server_reset_query",
            "server_reset_query_always",
            "server_round_robin",
            "server_check_delay",
            "server_fast_close",
            "disable_pqexec",
            "load_balance_hosts",
        ],
        NO_POOL,
    ),
    not_needed(&["server_check_query"], ASKED_BY_SQL),
    key(
        &["query_wait_timeout"],
        "write.hold_timeout",
        "a client waits only while there is no leader, and then gets SQLSTATE 57P03",
    ),
    not_needed(
        &["server_login_retry"],
        "a client that waits is connected as soon as a server takes it, until `write.hold_timeout` is over",
    ),
    key(
        &["server_connect_timeout"],
        "session.connect_timeout",
        "a failed attempt is repeated while the client waits",
    ),
    key(
        &["client_login_timeout"],
        "session.startup_timeout",
        "it ends with the client's first packet; the login is PostgreSQL's",
    ),
    absent(
        &[
            "client_idle_timeout",
            "idle_transaction_timeout",
            "transaction_timeout",
            "query_timeout",
            "cancel_wait_timeout",
            "suspend_timeout",
        ],
        NO_IDLE_LIMIT,
    ),
    not_needed(
        &[
            "auth_type",
            "auth_file",
            "auth_user",
            "auth_query",
            "auth_dbname",
            "auth_hba_file",
            "auth_ident_file",
            "scram_iterations",
        ],
        NO_LOGIN,
    ),
    not_needed(
        &[
            "client_tls_sslmode",
            "client_tls_key_file",
            "client_tls_cert_file",
            "client_tls_ca_file",
            "client_tls_protocols",
            "client_tls_ciphers",
            "client_tls13_ciphers",
            "client_tls_dheparams",
            "client_tls_ecdhcurve",
            "server_tls_sslmode",
            "server_tls_key_file",
            "server_tls_cert_file",
            "server_tls_ca_file",
            "server_tls_protocols",
            "server_tls_ciphers",
            "server_tls13_ciphers",
        ],
        NO_TLS,
    ),
    key(&["tcp_keepidle"], "session.keepalive", "it is always on, on both sides of a session"),
    not_needed(
        &["tcp_keepalive", "tcp_keepintvl", "tcp_keepcnt"],
        "TCP keepalive is always on, on both sides of a session",
    ),
    key(&["tcp_user_timeout"], "session.user_timeout", "it is set on both sides of a session"),
    key(
        &["so_reuseport"],
        "session.so_reuseport",
        "only proxies of the same cluster and user share an address",
    ),
    not_needed(
        &[
            "tcp_defer_accept",
            "tcp_socket_buffer",
            "listen_backlog",
            "pkt_buf",
            "max_packet_size",
            "sbuf_loopcnt",
            "peer_id",
            "peers",
        ],
        "it has no setting of this kind",
    ),
    not_needed(
        &["dns_max_ttl", "dns_nxdomain_ttl", "dns_zone_check_period", "resolv_conf"],
        "the members and their addresses come from Patroni's keys in etcd",
    ),
    not_needed(
        &[
            "logfile",
            "syslog",
            "syslog_ident",
            "syslog_facility",
            "log_connections",
            "log_disconnections",
            "log_pooler_errors",
        ],
        STANDARD_ERROR,
    ),
    absent(&["stats_period", "log_stats"], "statistics are metrics on the admin address"),
    not_needed(&["pidfile", "service_name", "conffile"], FOREGROUND),
    key(&["verbose"], "log.filter", "a level such as `info` or `debug`"),
    key(
        &["admin_users", "stats_users"],
        "admin.listen",
        "it answers over HTTP, to everybody who can reach it",
    ),
    absent(&["users"], NO_POOL),
    absent(&["%include"], "the file that is named there has not been read: import it by itself"),
    not_needed(
        &["PAUSE", "RESUME", "RECONNECT"],
        "new clients wait by themselves during a switchover, and open sessions end",
    ),
];
