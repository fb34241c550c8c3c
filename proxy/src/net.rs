//! Sockets: how client and server connections are made, watched over, and cut.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::FutureExt as _;
use pg_leader_proxy_core::ServerAddr;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// How many connections may wait to be accepted on one listening socket; the kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;
/// How many keepalive questions go unanswered before the other side counts as gone.
const KEEPALIVE_RETRIES: u32 = 3;

/// Binds a listening socket that other sockets, of this process or of its successor, may share the address with.
///
/// # Errors
/// What the operating system says, such as an address that is in use or not of this machine.
pub fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The TCP options of a session's two sockets, beside `TCP_NODELAY`, which both always have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// How long a connection may be idle before TCP probes the other side (`TCP_KEEPIDLE`).
    pub keepalive: Duration,
    /// How long sent bytes may stay unacknowledged before TCP gives up (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
}

impl SocketOptions {
    /// Sets the options on `socket`. Linux copies those of a listening socket to each connection accepted from it.
    ///
    /// # Errors
    /// The operating system's error, for example when the connection is already broken.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive)
            .with_interval(self.keepalive / KEEPALIVE_RETRIES)
            .with_retries(KEEPALIVE_RETRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))
    }
}

/// Connects to a server within `timeout`, trying each address of its host name in turn.
///
/// # Errors
/// The error of the last address tried, or `TimedOut`.
pub async fn connect(addr: &ServerAddr, timeout: Duration, options: &SocketOptions) -> io::Result<TcpStream> {
    let connecting = async {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in resolve(addr).await? {
            match TcpStream::connect(addr).await {
                Ok(stream) => {
                    options.apply(&stream)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    };
    within(timeout, connecting).await
}

/// Gives `work` a bound: `TimedOut` when it is not done by then. Not an `async fn`, which would keep room for `work` twice.
///
/// # Errors
/// Those of `work`, and `TimedOut`.
pub fn within<T>(
    bound: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> impl Future<Output = io::Result<T>> {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(bound, work).map(move |done| done.unwrap_or_else(late))
}

async fn resolve(addr: &ServerAddr) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = addr.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, addr.port())]);
    }
    Ok(tokio::net::lookup_host((addr.host(), addr.port())).await?.collect())
}

/// Makes the close of `stream` a reset: whatever is still under way is thrown away, and a peer that is blocked in a
/// write learns of it at once.
pub fn reset_on_close(stream: &impl AsFd) {
    // Fails only on a socket that is broken already, which is what a reset is for.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
