//! The listening sockets: those that were handed in, and bound ones for the other addresses.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use super::settings::routes;
use crate::config::Config;
use crate::net;
use crate::route::RouteKind;
use crate::worker::{Listener, ListenerOwner};

/// The sockets of every address that is not in `bound` yet.
///
/// Of those that were handed in for an address each is accepted from, because the kernel goes on giving it clients; and
/// none is bound beside them, because nobody would keep the backlog of that one.
///
/// # Errors
/// When an address cannot be bound, or a socket was handed in whose address no route wants.
pub(super) fn listeners(
    config: &Config,
    bound: &[(RouteKind, SocketAddr)],
    handed: Vec<TcpListener>,
) -> Result<Vec<Listener>> {
    let mut handed = addressed(handed)?;
    let mut listeners = Vec::new();
    for (route, addr) in routes(config).into_iter().filter(|known| !bound.contains(known)) {
        let before = listeners.len();
        let inherited = handed.extract_if(.., |(of, _)| *of == addr);
        listeners.extend(inherited.map(|(_, socket)| Listener {
            route,
            addr,
            socket,
            owner: ListenerOwner::Supervisor,
        }));
        if listeners.len() == before {
            let socket = net::listen(addr)
                .with_context(|| format!("{}.listen: cannot listen on {addr}", route.code()))?;
            listeners.push(Listener { route, addr, socket, owner: ListenerOwner::Process });
        }
    }
    if let Some((addr, _)) = handed.first() {
        bail!("a listening socket was handed in for {addr}, where no route listens");
    }
    Ok(listeners)
}

/// Each socket with its address, ready to be watched.
fn addressed(handed: Vec<TcpListener>) -> Result<Vec<(SocketAddr, TcpListener)>> {
    let addressed = handed.into_iter().map(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    });
    addressed.collect::<std::io::Result<_>>().context("a listening socket that was handed in cannot be used")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Given, Origins, Raw};

    fn config(listen: &[SocketAddr]) -> Config {
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        let given = [
            ("cluster.members", "a:5432".to_owned()),
            ("probe.user", "m".to_owned()),
            ("write.listen", listen.join(",")),
        ];
        let given = given.map(|(path, text)| Given { path: path.to_owned(), raw: Raw::Text(text) });
        Config::load(&Origins { given: given.into(), ..Origins::default() }).unwrap()
    }

    fn sockets(count: usize) -> (SocketAddr, Vec<TcpListener>) {
        let first = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        (addr, std::iter::once(first).chain((1..count).map(|_| net::listen(addr).unwrap())).collect())
    }

    /// The socket that a descriptor stands for, as the kernel names it.
    fn socket(listener: &TcpListener) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap()
    }

    #[test]
    fn exactly_the_sockets_that_were_handed_in_are_accepted_from() {
        for handed_in in [1, 3] {
            let (addr, handed) = sockets(handed_in);
            let named: BTreeSet<PathBuf> = handed.iter().map(socket).collect();
            let accepted = listeners(&config(&[addr]), &[], handed).unwrap();
            assert!(accepted.iter().all(|one| one.owner == ListenerOwner::Supervisor && one.addr == addr));
            let accepted: BTreeSet<PathBuf> = accepted.iter().map(|one| socket(&one.socket)).collect();
            assert_eq!(accepted, named);
        }
    }

    #[test]
    fn an_address_without_a_handed_socket_is_bound() {
        let (inherited, handed) = sockets(1);
        let (own, _) = sockets(1);
        let listeners = listeners(&config(&[inherited, own]), &[], handed).unwrap();
        let owners: Vec<_> = listeners.iter().map(|one| (one.addr, one.owner)).collect();
        assert_eq!(owners, [(inherited, ListenerOwner::Supervisor), (own, ListenerOwner::Process)]);
    }

    #[test]
    fn handed_sockets_do_not_block_whoever_accepts() {
        let (addr, handed) = sockets(1);
        handed[0].set_nonblocking(false).unwrap();
        let listeners = listeners(&config(&[addr]), &[], handed).unwrap();
        let error = listeners[0].socket.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
