//! The peers' configurations: their own defaults, but for what a session of PostgreSQL needs and for the bench's sizes.

use std::net::SocketAddr;
use std::path::Path;

use super::contenders::Demand;
use super::protocol::USER;

/// HAProxy before one server. With a check it follows the server's word as fast as HAProxy can be told to.
#[must_use]
pub fn haproxy(listen: SocketAddr, demand: &Demand, splice: bool) -> String {
    let check = demand.check.map(|check| {
        (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fastinter 100ms fall 1 rise 1 on-marked-down shutdown-sessions\n",
            format!(" check port {}", check.port()),
        )
    });
    let (head, check) = check.unwrap_or_default();
    let splice = if splice { "    option splice-auto\n" } else { "" };
    format!(
        "global
    maxconn {maxconn}

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
        maxconn = demand.sessions,
        server = demand.server,
    )
}

/// PgBouncer in session mode, without a log line for each connection, which the others do not write either.
#[must_use]
pub fn pgbouncer(listen: SocketAddr, demand: &Demand, users: &Path) -> String {
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
        host = demand.server.ip(),
        port = demand.server.port(),
        address = listen.ip(),
        listen_port = listen.port(),
        users = users.display(),
        clients = demand.sessions,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(check: Option<SocketAddr>) -> Demand {
        let server = SocketAddr::from(([10, 77, 2, 2], 5432));
        Demand { server, direct: server, sessions: 100, check, wait: true }
    }

    #[test]
    fn haproxy_asks_only_where_somebody_answers() {
        let listen = SocketAddr::from(([10, 77, 1, 2], 6433));
        let plain = haproxy(listen, &demand(None), false);
        assert!(plain.contains("server leader 10.77.2.2:5432\n") && !plain.contains("check port"), "{plain}");
        assert!(!plain.contains("splice"), "{plain}");
        let checked = haproxy(listen, &demand(Some(([10, 77, 2, 2], 8008).into())), true);
        assert!(checked.contains("server leader 10.77.2.2:5432 check port 8008\n"), "{checked}");
        assert!(checked.contains("shutdown-sessions\n") && checked.contains("splice-auto\n"), "{checked}");
    }
}
