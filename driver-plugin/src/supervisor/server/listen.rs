//! Binds a listening socket that shares its address with nobody.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

/// How many connections may wait to be accepted; the kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens on `addr` without `SO_REUSEPORT`: the successor is handed the same socket, and between tasks that shared an
/// address the kernel would deal out clients at random.
///
/// # Errors
/// `AddrInUse` when anybody else listens there, or on an address that overlaps; else what the operating system says.
pub(super) fn alone(addr: SocketAddr) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier task may linger on the address.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &addr)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Checks that a descriptor that was received is a socket that listens on `addr`.
///
/// # Errors
/// `InvalidData` when it is anything else.
pub(super) fn verify(addr: SocketAddr, socket: &TcpListener) -> io::Result<()> {
    let listens = sockopt::socket_acceptconn(socket).unwrap_or(false);
    if listens && socket.local_addr().is_ok_and(|local| local == addr) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("a descriptor that does not listen on {addr}")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn nobody_else_can_listen_there_and_clients_wait() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let first = alone(ip.parse().unwrap()).unwrap();
            let addr = first.local_addr().unwrap();
            assert_eq!(alone(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert_eq!(pg_leader_proxy::net::listen(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            TcpStream::connect(addr).unwrap();
            drop(first);
            alone(addr).unwrap();
        }
    }

    #[test]
    fn only_a_socket_that_listens_on_the_address_is_accepted() {
        let listener = alone("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        verify(addr, &listener).unwrap();
        assert!(verify("127.0.0.1:1".parse().unwrap(), &listener).is_err(), "another address");
        let connected = TcpStream::connect(addr).unwrap();
        let own = connected.local_addr().unwrap();
        let descriptor = std::os::fd::OwnedFd::from(connected);
        assert!(verify(own, &TcpListener::from(descriptor)).is_err(), "it does not listen");
    }
}
