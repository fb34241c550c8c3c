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
