//! Sockets: listening, connecting, TCP options and resets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// How many connections may wait to be accepted on one listening socket. The kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;
/// How many keepalive probes may go unanswered before the connection counts as broken (`TCP_KEEPCNT`).
const KEEPALIVE_RETRIES: u32 = 3;

/// Binds a non-blocking listening socket that shares its address with no other: the kernel would deal clients out to both,
/// though the other may be that of another cluster.
///
/// # Errors
/// The operating system's error, for example when the address is in use or does not belong to this machine.
pub fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    bind(addr, false)
}

/// Binds a non-blocking listening socket whose address other sockets of the same user may share (`SO_REUSEPORT`), such as
/// those of a successor process.
///
/// # Errors
/// The operating system's error, for example when somebody is listening on the address alone.
pub fn listen_shared(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    bind(addr, true)
}

fn bind(addr: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
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

/// Connects to a server within `timeout`.
///
/// # Errors
/// The error of the operating system, or `TimedOut`.
pub async fn connect(
    server: SocketAddr,
    timeout: Duration,
    options: &SocketOptions,
) -> io::Result<TcpStream> {
    let connecting = async {
        let stream = TcpStream::connect(server).await?;
        options.apply(&stream)?;
        Ok(stream)
    };
    within(timeout, connecting).await
}

/// What this machine lacks, if that is why it cannot connect; `None` if the cause is the server or the network.
pub fn local_fault(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => Some("no file descriptor is left"),
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN => Some("no local port is left"),
        Errno::NOBUFS | Errno::NOMEM => Some("no memory is left for sockets"),
        Errno::ACCESS | Errno::PERM => Some("this machine forbids it"),
        // EINVAL is what a connection gets whose route is a `blackhole` (ip-route(8)).
        Errno::NETUNREACH | Errno::NETDOWN | Errno::INVAL => Some("no route leads there"),
        _ => None,
    }
}

/// Runs `work` for at most `bound`. It is not an `async fn`, because that would store `work` twice.
///
/// # Errors
/// The errors of `work`, and `TimedOut`.
pub fn within<T>(
    bound: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> impl Future<Output = io::Result<T>> {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(bound, work).map(move |done| done.unwrap_or_else(late))
}

/// Makes closing `stream` a reset (`SO_LINGER` 0): unsent bytes are discarded, and a peer that is blocked in a write
/// fails at once.
pub fn reset_on_close(stream: &impl AsFd) {
    // Fails only if the connection is already broken.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_this_machine_is_told_from_one_of_the_server() {
        for errno in [Errno::MFILE, Errno::ADDRNOTAVAIL, Errno::NETUNREACH, Errno::INVAL] {
            assert!(local_fault(&errno.into()).is_some(), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert_eq!(local_fault(&errno.into()), None, "{errno}");
        }
        assert_eq!(local_fault(&io::ErrorKind::TimedOut.into()), None);
    }
}
