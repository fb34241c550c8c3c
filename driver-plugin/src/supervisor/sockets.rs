//! The listening sockets of a task: taken over from a task that has ended, or bound, and kept for the next one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::channel::Channel;
use super::client;
use super::launch::StartError;
use super::protocol::{Reply, Request, SOCKETS_PER_MESSAGE};

/// How long another supervisor may take to give its sockets away.
const YIELD_TIME: Duration = Duration::from_secs(2);
/// How long whoever gets sockets may take to say that they have arrived.
const TAKEN_TIME: Duration = Duration::from_secs(2);

/// Sockets by the address that they listen on. Each is a duplicate of what a relay accepts from, or did: as long as it is
/// here, connects wait in its backlog when nobody accepts them.
#[derive(Debug, Default)]
pub(super) struct Shelf(Vec<(SocketAddr, TcpListener)>);

impl Shelf {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, sockets: Self) {
        self.0.extend(sockets.0);
    }

    /// Duplicates of all of them.
    fn duplicates(&self) -> io::Result<Self> {
        let duplicates = self.0.iter().map(|(addr, socket)| Ok((*addr, socket.try_clone()?)));
        duplicates.collect::<io::Result<_>>().map(Self)
    }

    /// Takes the sockets of these addresses off the shelf. Those that would take clients from a successor which listens
    /// on an overlapping address, as `0.0.0.0:5433` and `10.0.0.1:5433` do, are closed: nobody will accept from them.
    pub(super) fn take(&mut self, addresses: &[SocketAddr]) -> Self {
        let taken = self.0.extract_if(.., |(addr, _)| addresses.contains(addr)).collect();
        self.0.retain(|(addr, _)| !addresses.iter().any(|other| overlap(*addr, *other)));
        Self(taken)
    }

    fn has(&self, addr: SocketAddr) -> bool {
        self.0.iter().any(|(known, _)| *known == addr)
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Fills `shelf` with sockets for these addresses: those that ended tasks keep, and a new one where there is none. There may
/// be several of an address, since the kernel goes on giving clients to each of those that tasks left behind.
///
/// # Errors
/// When an address cannot be listened on.
pub(super) async fn obtain(
    shelf: &watch::Sender<Shelf>,
    addresses: &[SocketAddr],
    directory: &Path,
) -> Result<(), StartError> {
    for neighbour in neighbours(directory) {
        // Nobody answers in the directory of a supervisor that has ended; and one that does not answer well keeps what it
        // has, which leaves binding as the way that is always there.
        let _ = timeout(YIELD_TIME, take_over(shelf, addresses, &neighbour)).await;
    }
    for addr in addresses {
        if shelf.borrow().has(*addr) {
            continue;
        }
        let socket = pg_leader_proxy::net::listen(*addr).map_err(|error| {
            StartError::Transient(format!("cannot listen on {addr}: {}", explain(&error)))
        })?;
        shelf.send_modify(|shelf| shelf.0.push((*addr, socket)));
    }
    Ok(())
}

/// The directories of the other supervisors.
fn neighbours(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.parent().and_then(|parent| parent.read_dir().ok());
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path != directory).collect()
}

async fn take_over(
    shelf: &watch::Sender<Shelf>,
    addresses: &[SocketAddr],
    neighbour: &Path,
) -> io::Result<()> {
    let mut channel = client::ask(neighbour, &Request::Yield(addresses.to_vec())).await?;
    loop {
        let Reply::Sockets(of) = channel.expect(YIELD_TIME).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if of.is_empty() {
            return channel.send(&Request::Taken).await;
        }
        let sockets = receive(&mut channel, of)?;
        shelf.send_modify(|shelf| shelf.add(sockets));
    }
}

/// Gives sockets to a supervisor that asks for them. What does not arrive stays here.
pub(super) async fn give(shelf: &watch::Sender<Shelf>, addresses: &[SocketAddr], channel: &mut Channel) {
    let mut taken = Shelf::default();
    shelf.send_if_modified(|shelf| {
        taken = shelf.take(addresses);
        // Told only when they have arrived.
        false
    });
    let giving = async {
        send(channel, &taken, Reply::Sockets).await?;
        channel.expect::<Request>(TAKEN_TIME).await
    };
    match giving.await {
        Ok(Request::Taken) => shelf.send_modify(|_| ()),
        _ => shelf.send_modify(|shelf| shelf.add(taken)),
    }
}

/// Sends duplicates of the sockets on `shelf` to the relay, in as many messages as it takes.
pub(super) async fn lend<M: Serialize>(
    channel: &Channel,
    shelf: &watch::Sender<Shelf>,
    message: impl Fn(Vec<SocketAddr>) -> M,
) -> io::Result<()> {
    let duplicates = shelf.borrow().duplicates()?;
    send(channel, &duplicates, message).await
}

async fn send<M: Serialize>(
    channel: &Channel,
    sockets: &Shelf,
    message: impl Fn(Vec<SocketAddr>) -> M,
) -> io::Result<()> {
    for some in sockets.0.chunks(SOCKETS_PER_MESSAGE) {
        let (of, descriptors): (Vec<_>, Vec<_>) =
            some.iter().map(|(addr, socket)| (*addr, socket.as_fd())).unzip();
        channel.send_with(&message(of), &descriptors).await?;
    }
    channel.send(&message(Vec::new())).await
}

/// The sockets that came with the message that listed these addresses.
pub(super) fn receive(channel: &mut Channel, of: Vec<SocketAddr>) -> io::Result<Shelf> {
    let descriptors = channel.take_descriptors(of.len())?;
    Ok(Shelf(of.into_iter().zip(descriptors.into_iter().map(TcpListener::from)).collect()))
}

fn explain(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "another program listens there"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
    ];
    let words = known.iter().find(|(kind, _)| *kind == error.kind());
    words.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(addresses: &[&str]) -> Shelf {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        Shelf(addresses.iter().map(|addr| (addr.parse().unwrap(), socket())).collect())
    }

    fn left(kept: &[&str], wanted: &[&str]) -> (usize, Vec<String>) {
        let mut shelf = shelf(kept);
        let wanted: Vec<SocketAddr> = wanted.iter().map(|addr| addr.parse().unwrap()).collect();
        let taken = shelf.take(&wanted);
        (taken.0.len(), shelf.0.iter().map(|(addr, _)| addr.to_string()).collect())
    }

    #[test]
    fn all_sockets_of_an_address_are_taken_and_others_stay() {
        let kept = ["10.0.0.1:5433", "10.0.0.1:5433", "10.0.0.1:5434"];
        assert_eq!(left(&kept, &["10.0.0.1:5433"]), (2, vec!["10.0.0.1:5434".to_owned()]));
        assert_eq!(
            left(&["10.0.0.1:5433"], &["10.0.0.2:5433", "[::1]:5433"]),
            (0, vec!["10.0.0.1:5433".to_owned()])
        );
    }

    #[test]
    fn what_would_take_clients_from_the_next_task_is_closed() {
        assert_eq!(
            left(&["0.0.0.0:5433", "0.0.0.0:5434"], &["10.0.0.1:5433"]),
            (0, vec!["0.0.0.0:5434".to_owned()])
        );
        assert_eq!(left(&["10.0.0.1:5433"], &["0.0.0.0:5433"]), (0, vec![]));
        // The one listens to IPv6 only.
        assert_eq!(left(&["[::]:5433"], &["0.0.0.0:5433"]), (0, vec!["[::]:5433".to_owned()]));
    }
}
