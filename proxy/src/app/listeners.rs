//! The listening sockets: those that were handed in are dealt out over the workers, the others are bound.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use super::plan::routes;
use crate::config::Config;
use crate::net;
use crate::tally::RouteKind;
use crate::worker::{Keeper, Listener};

/// The sockets of each worker, for every address that is not in `bound` yet.
///
/// # Errors
/// When an address cannot be bound, or a socket was handed in whose address no route wants.
pub(super) fn deal(
    config: &Config,
    bound: &[(RouteKind, SocketAddr)],
    handed: Vec<TcpListener>,
) -> Result<Vec<Vec<Listener>>> {
    let mut handed = addressed(handed)?;
    let mut hands: Vec<Vec<Listener>> = (0..config.session.workers).map(|_| Vec::new()).collect();
    for (route, addr) in routes(config).into_iter().filter(|known| !bound.contains(known)) {
        let kept: Vec<TcpListener> =
            handed.extract_if(.., |(of, _)| *of == addr).map(|(_, socket)| socket).collect();
        let keeper = if kept.is_empty() { Keeper::Us } else { Keeper::Holder };
        let sockets =
            if kept.is_empty() { own(route, addr, hands.len())? } else { enough(kept, hands.len())? };
        for (index, socket) in sockets.into_iter().enumerate() {
            let hand = index % hands.len();
            hands[hand].push(Listener { route, addr, socket, keeper });
        }
    }
    if let Some((addr, _)) = handed.first() {
        bail!("a listening socket was handed in for {addr}, where no route listens");
    }
    Ok(hands)
}

/// Each socket with its address, ready to be watched.
fn addressed(handed: Vec<TcpListener>) -> Result<Vec<(SocketAddr, TcpListener)>> {
    let addressed = handed.into_iter().map(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    });
    addressed.collect::<std::io::Result<_>>().context("a listening socket that was handed in cannot be used")
}

fn own(route: RouteKind, addr: SocketAddr, workers: usize) -> Result<Vec<TcpListener>> {
    let bind =
        || net::listen(addr).with_context(|| format!("{}.listen: cannot listen on {addr}", route.code()));
    (0..workers).map(|_| bind()).collect()
}

/// At least one socket for each worker. Every one that was handed in is among them, because the kernel goes on giving
/// it clients; what is missing are duplicates, because the holder would not keep the backlog of a socket of our own.
fn enough(mut kept: Vec<TcpListener>, workers: usize) -> Result<Vec<TcpListener>> {
    let handed = kept.len();
    for index in handed..workers {
        let duplicate = kept[index % handed].try_clone().context("cannot duplicate a listening socket")?;
        kept.push(duplicate);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Given, Origins, Raw};

    fn config(listen: &[SocketAddr], workers: usize) -> Config {
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        let given = [
            ("cluster.members", "a:5432".to_owned()),
            ("probe.user", "m".to_owned()),
            ("write.listen", listen.join(",")),
            ("session.workers", workers.to_string()),
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
    fn all_workers_share_exactly_the_sockets_that_were_handed_in() {
        for (handed_in, workers) in [(2, 2), (3, 1), (5, 2), (1, 3), (2, 5)] {
            let (addr, handed) = sockets(handed_in);
            let named: BTreeSet<PathBuf> = handed.iter().map(socket).collect();
            let hands = deal(&config(&[addr], workers), &[], handed).unwrap();
            let counts: Vec<usize> = hands.iter().map(Vec::len).collect();
            let total = handed_in.max(workers);
            assert_eq!((counts.len(), counts.iter().sum::<usize>()), (workers, total), "{counts:?}");
            assert!(counts.iter().all(|count| *count >= total / workers), "{counts:?}");
            let dealt = || hands.iter().flatten();
            assert!(dealt().all(|listener| listener.keeper == Keeper::Holder && listener.addr == addr));
            let accepted: BTreeSet<PathBuf> = dealt().map(|listener| socket(&listener.socket)).collect();
            assert_eq!(accepted, named, "{handed_in} sockets, {workers} workers");
        }
    }

    #[test]
    fn an_address_without_a_handed_socket_is_bound_for_each_worker() {
        let (kept, handed) = sockets(1);
        let (own, _) = sockets(1);
        let hands = deal(&config(&[kept, own], 3), &[], handed).unwrap();
        let sockets: BTreeSet<PathBuf> = hands
            .iter()
            .flatten()
            .filter(|listener| listener.addr == own)
            .inspect(|listener| assert_eq!(listener.keeper, Keeper::Us))
            .map(|listener| socket(&listener.socket))
            .collect();
        assert_eq!(sockets.len(), 3);
    }

    #[test]
    fn handed_sockets_do_not_block_whoever_accepts() {
        let (addr, handed) = sockets(1);
        handed[0].set_nonblocking(false).unwrap();
        let hands = deal(&config(&[addr], 1), &[], handed).unwrap();
        let error = hands[0][0].socket.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
