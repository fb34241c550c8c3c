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
        match bind(addr) {
            Ok(()) => findings.ok(&subject, "available")?,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && answers(addr) => {
                findings.ok(&subject, "in use by a running pg-leader-proxy")?;
            }
            Err(error) => findings.error(&subject, &format!("not available: {}", explain(&error)))?,
        }
    }
    Ok(())
}

/// Binds without listening: a listening socket would take clients from a proxy that runs on the same address.
fn bind(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())
}

/// Whether the admin address of a proxy answers there.
fn answers(addr: SocketAddr) -> bool {
    AdminAddress::parse(&addr.to_string()).is_ok_and(|admin| admin.get("/live").is_ok())
}

fn explain(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "in use by another program, or by the proxy of another user"),
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
        let error = bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(explain(&error).contains("another program"));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = bind("192.0.2.1:5433".parse().unwrap()).unwrap_err();
        assert!(explain(&error).contains("no such address"));
    }
}
