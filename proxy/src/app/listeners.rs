//! The listening sockets: inherited ones, and newly bound ones for the other addresses.

use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use super::settings::routes;
use crate::config::Config;
use crate::net;
use crate::route::RouteKind;
use crate::worker::{Listener, ListenerOwner};

/// What to do about an address in use.
const TAKEN: &str =
    ", because another program does; session.so_reuseport lets several proxies of one cluster listen there";

/// The sockets of every address that is not in `bound` yet.
///
/// The process accepts from every socket that it inherited for an address, because the kernel keeps giving each of them
/// clients. It binds no further socket for that address, because no other process would keep its backlog.
///
/// # Errors
/// If an address cannot be bound, or an inherited socket has an address that no route listens on.
pub(super) fn listeners(
    config: &Config,
    bound: &[(RouteKind, SocketAddr)],
    inherited: Vec<TcpListener>,
) -> Result<Vec<Listener>> {
    let mut inherited = addressed(inherited)?;
    let mut listeners = Vec::new();
    for (route, addr) in routes(config).into_iter().filter(|known| !bound.contains(known)) {
        let before = listeners.len();
        let kept = inherited.extract_if(.., |(of, _)| *of == addr);
        listeners.extend(kept.map(|(_, socket)| Listener {
            route,
            addr,
            socket,
            owner: ListenerOwner::Supervisor,
        }));
        if listeners.len() == before {
            let socket = listen(route.code(), addr, config.session.so_reuseport)?;
            listeners.push(Listener { route, addr, socket, owner: ListenerOwner::Process });
        }
    }
    if let Some((addr, _)) = inherited.first() {
        bail!("no route listens on {addr}, the address of an inherited socket");
    }
    Ok(listeners)
}

/// Binds the socket of `<block>.listen`.
///
/// # Errors
/// If that fails; the error names the key, the address, and what to do.
pub(super) fn listen(block: &str, addr: SocketAddr, shared: bool) -> Result<TcpListener> {
    let bound = if shared { net::listen_shared(addr) } else { net::listen(addr) };
    bound.map_err(|error| {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        let why = if taken { TAKEN } else { "" };
        anyhow::Error::new(error).context(format!("{block}.listen: cannot listen on {addr}{why}"))
    })
}

/// Each socket with its address, in non-blocking mode.
fn addressed(inherited: Vec<TcpListener>) -> Result<Vec<(SocketAddr, TcpListener)>> {
    let addressed = inherited.into_iter().map(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    });
    addressed.collect::<io::Result<_>>().context("an inherited listening socket cannot be used")
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
        let first = net::listen_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        (addr, std::iter::once(first).chain((1..count).map(|_| net::listen_shared(addr).unwrap())).collect())
    }

    /// The kernel's name for the socket behind a descriptor.
    fn socket(listener: &TcpListener) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap()
    }

    #[test]
    fn exactly_the_inherited_sockets_are_accepted_from() {
        for count in [1, 3] {
            let (addr, inherited) = sockets(count);
            let expected: BTreeSet<PathBuf> = inherited.iter().map(socket).collect();
            let accepted = listeners(&config(&[addr]), &[], inherited).unwrap();
            assert!(accepted.iter().all(|one| one.owner == ListenerOwner::Supervisor && one.addr == addr));
            let accepted: BTreeSet<PathBuf> = accepted.iter().map(|one| socket(&one.socket)).collect();
            assert_eq!(accepted, expected);
        }
    }

    #[test]
    fn an_address_without_an_inherited_socket_is_bound() {
        let (kept, inherited) = sockets(1);
        let (own, held) = sockets(1);
        drop(held);
        let listeners = listeners(&config(&[kept, own]), &[], inherited).unwrap();
        let owners: Vec<_> = listeners.iter().map(|one| (one.addr, one.owner)).collect();
        assert_eq!(owners, [(kept, ListenerOwner::Supervisor), (own, ListenerOwner::Process)]);
    }

    #[test]
    fn an_address_is_shared_only_if_both_ask_for_it() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (held, other) = (net::listen(any).unwrap(), net::listen_shared(any).unwrap());
        let (alone, shared) = (held.local_addr().unwrap(), other.local_addr().unwrap());
        listen("write", shared, true).unwrap();
        let refusal = |addr, asked| listen("write", addr, asked).map(drop).unwrap_err();
        for (addr, asked) in [(shared, false), (alone, false), (alone, true)] {
            let error = refusal(addr, asked).to_string();
            assert!(
                error.starts_with(&format!("write.listen: cannot listen on {addr}, because another")),
                "{error}"
            );
        }
    }

    #[test]
    fn inherited_sockets_are_set_to_non_blocking() {
        let (addr, inherited) = sockets(1);
        inherited[0].set_nonblocking(false).unwrap();
        let listeners = listeners(&config(&[addr]), &[], inherited).unwrap();
        let error = listeners[0].socket.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
