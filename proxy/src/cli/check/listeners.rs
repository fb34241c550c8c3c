//! Whether the addresses are free to listen on.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::http::AdminAddress;
use super::findings::Findings;
use crate::config::Config;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) -> io::Result<()> {
    let write = config.write.listen.iter().map(|addr| ("write", *addr));
    let read = config.read.iter().flat_map(|read| &read.listen).map(|addr| ("read", *addr));
    let running = LazyCell::new(|| RunningProxy::find(config));
    for (block, addr) in write.chain(read).chain(config.admin.map(|addr| ("admin", addr))) {
        let subject = format!("{block}.listen {addr}");
        let Err(error) = bind(addr, config.session.so_reuseport) else {
            findings.ok(&subject, "available")?;
            continue;
        };
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let holder = if in_use { running.as_ref().filter(|proxy| proxy.listens(block, addr)) } else { None };
        match holder {
            Some(proxy) if proxy.cluster == config.cluster => {
                findings.ok(&subject, "in use by the proxy of this cluster, which is running")?;
            }
            Some(proxy) => {
                let found = format!("not available: in use by the proxy of cluster {}", proxy.cluster);
                findings.error(&subject, &found)?;
            }
            None => findings.error(&subject, &format!("not available: {}", explain(&error)))?,
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

/// The proxy that answers at the configured admin address. Who else holds an address cannot be known.
#[derive(Deserialize)]
struct RunningProxy {
    cluster: String,
    listening: BTreeMap<String, Vec<SocketAddr>>,
}

impl RunningProxy {
    fn find(config: &Config) -> Option<Self> {
        let admin = AdminAddress::parse(&config.admin?.to_string()).ok()?;
        let token = config.admin_access.token.as_ref();
        serde_json::from_str(&admin.get("/routing", token).ok()?).ok()
    }

    fn listens(&self, block: &str, addr: SocketAddr) -> bool {
        self.listening.get(block).is_some_and(|addrs| addrs.contains(&addr))
    }
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
