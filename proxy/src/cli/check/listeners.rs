//! Whether the addresses are free to listen on.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::super::http::AdminAddress;
use super::findings::Findings;
use crate::config::Config;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) -> io::Result<()> {
    let write = config.write.listen.iter().map(|addr| ("write.listen", *addr));
    let read = config.read.iter().flat_map(|read| &read.listen).map(|addr| ("read.listen", *addr));
    for (key, addr) in write.chain(read).chain(config.admin.map(|addr| ("admin.listen", addr))) {
        let subject = format!("{key} {addr}");
        match bind(addr, config.session.so_reuseport) {
            Ok(()) => findings.ok(&subject, "available")?,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match running_cluster(config) {
                Some(cluster) if cluster == config.cluster => {
                    findings.ok(&subject, "in use; the proxy of this cluster is running")?;
                }
                Some(cluster) => {
                    let found =
                        format!("not available: in use, and the proxy of cluster {cluster} is running");
                    findings.error(&subject, &found)?;
                }
                None => findings.error(&subject, &format!("not available: {}", explain(&error)))?,
            },
            Err(error) => findings.error(&subject, &format!("not available: {}", explain(&error)))?,
        }
    }
    Ok(())
}

/// Binds without listening: a listening socket would take clients from a proxy that runs on the same address.
fn bind(addr: SocketAddr, shared: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&addr.into())
}

/// The cluster of the proxy that answers at the configured admin address.
fn running_cluster(config: &Config) -> Option<String> {
    let admin = AdminAddress::parse(&config.admin?.to_string()).ok()?;
    let routing: serde_json::Value = serde_json::from_str(&admin.get("/routing").ok()?).ok()?;
    routing["cluster"].as_str().map(str::to_owned)
}

fn explain(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "in use by another program"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
        (io::ErrorKind::PermissionDenied, "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)"),
    ];
    let text = known.iter().find(|(kind, _)| *kind == error.kind());
    text.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap(), true).unwrap_err();
        assert!(explain(&error).contains("another program"));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = bind("192.0.2.1:5433".parse().unwrap(), false).unwrap_err();
        assert!(explain(&error).contains("no such address"));
    }
}
