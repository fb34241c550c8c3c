//! The configuration files of the peers: their own defaults, except for what PostgreSQL sessions and the sizes of the
//! benchmark need.

use std::net::SocketAddr;
use std::path::Path;

use super::options::StartOptions;
use crate::wire::protocol::USER;

/// HAProxy in front of one server. With a check it follows the server's role as fast as HAProxy can.
pub(super) fn haproxy(listen: SocketAddr, options: &StartOptions, splice: bool) -> String {
    let check = options.check.map(|check| {
        (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fastinter 100ms fall 1 rise 1 on-marked-down shutdown-sessions\n",
            format!(" check port {}", check.port()),
        )
    });
    let (head, check) = check.unwrap_or_default();
    let threads = if options.one_thread { "    nbthread 1\n" } else { "" };
    let splice = if splice { "    option splice-auto\n" } else { "" };
    format!(
        "global
    maxconn {maxconn}
{threads}
defaults
    mode tcp
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen primary
    bind {listen}
{splice}{head}    server leader {server}{check}
",
        maxconn = options.sessions,
        server = options.server,
    )
}

/// PgBouncer in session mode. It logs no connections, like the others.
pub(super) fn pgbouncer(listen: SocketAddr, options: &StartOptions, users: &Path) -> String {
    format!(
        "[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = {address}
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = {USER}
pool_mode = session
max_client_conn = {clients}
default_pool_size = {clients}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
",
        host = options.server.ip(),
        port = options.server.port(),
        address = listen.ip(),
        listen_port = listen.port(),
        users = users.display(),
        clients = options.sessions,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(check: Option<SocketAddr>) -> StartOptions {
        let server = SocketAddr::from(([10, 77, 2, 2], 5432));
        StartOptions {
            server,
            direct: server,
            sessions: 100,
            check,
            has_leader: true,
            one_thread: check.is_some(),
        }
    }

    #[test]
    fn haproxy_checks_the_server_only_if_there_is_something_to_ask() {
        let listen = SocketAddr::from(([10, 77, 1, 2], 6433));
        let plain = haproxy(listen, &options(None), false);
        assert!(plain.contains("server leader 10.77.2.2:5432\n") && !plain.contains("check port"), "{plain}");
        assert!(!plain.contains("splice") && !plain.contains("nbthread"), "{plain}");
        let checked = haproxy(listen, &options(Some(([10, 77, 2, 2], 8008).into())), true);
        assert!(checked.contains("server leader 10.77.2.2:5432 check port 8008\n"), "{checked}");
        assert!(checked.contains("    nbthread 1\n"), "{checked}");
        assert!(checked.contains("shutdown-sessions\n") && checked.contains("splice-auto\n"), "{checked}");
    }
}
