//! The resolution of names, which runs in the background, so that no probe waits for it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use pg_leader_proxy_core::ServerAddr;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// The pending answer of a name server.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Resolves addresses.
pub trait Resolver: Send + Sync + 'static {
    /// All socket addresses of `addr`, in the order in which to try them.
    fn resolve(&self, addr: &ServerAddr) -> Lookup;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, addr: &ServerAddr) -> Lookup {
        let (host, port) = (addr.host().to_owned(), addr.port());
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }
}

/// The socket address, if the host is an IP address.
pub(super) fn literal(addr: &ServerAddr) -> Option<SocketAddr> {
    let ip: IpAddr = addr.host().parse().ok()?;
    Some(SocketAddr::new(ip, addr.port()))
}

/// Chooses one of the socket addresses of `found`, for probes and sessions.
///
/// It stays with `present`, which has sessions, while the name still resolves to it and it is not `broken`. Otherwise it
/// takes the first one that accepts a connection within `limit`.
pub(super) async fn choose(
    found: Lookup,
    (present, broken): (Option<SocketAddr>, bool),
    limit: Duration,
) -> io::Result<SocketAddr> {
    let found = found.await?;
    let stays = present.filter(|socket| found.contains(socket));
    let first = *found.first().ok_or(io::ErrorKind::NotFound)?;
    match stays {
        Some(socket) if !broken || found.len() == 1 => return Ok(socket),
        None if found.len() == 1 => return Ok(first),
        _ => {}
    }
    for socket in found.into_iter().filter(|socket| Some(*socket) != stays) {
        if matches!(timeout(limit, TcpStream::connect(socket)).await, Ok(Ok(_))) {
            return Ok(socket);
        }
    }
    Ok(stays.unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn found(sockets: &[SocketAddr]) -> Lookup {
        let sockets = sockets.to_vec();
        Box::pin(async move { Ok(sockets) })
    }

    #[test]
    fn only_an_ip_address_needs_no_name_server() {
        assert_eq!(literal(&ServerAddr::new("10.0.0.1", 5432)), Some(([10, 0, 0, 1], 5432).into()));
        assert_eq!(
            literal(&ServerAddr::new("::1", 1)).map(|socket| socket.to_string()),
            Some("[::1]:1".into())
        );
        assert_eq!(literal(&ServerAddr::new("localhost", 5432)), None);
    }

    #[tokio::test]
    async fn the_socket_in_use_is_left_only_when_the_address_does_or_it_is_broken() {
        let listening = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let [one, two] = [0, 1].map(|which: usize| listening[which].local_addr().unwrap());
        let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let chosen = async |sockets: &[SocketAddr], present: Option<SocketAddr>, broken: bool| {
            choose(found(sockets), (present, broken), LIMIT).await.unwrap()
        };
        assert_eq!(chosen(&[one, two], Some(two), false).await, two, "it stays");
        assert_eq!(chosen(&[one, two], Some(two), true).await, one, "it is broken");
        assert_eq!(chosen(&[closed], Some(two), false).await, closed, "the address leads elsewhere");
        assert_eq!(chosen(&[closed, one], None, false).await, one, "the first that listens");
        assert_eq!(chosen(&[closed, two], Some(two), true).await, two, "no other listens");
        assert!(choose(found(&[]), (None, false), LIMIT).await.is_err());
    }
}
