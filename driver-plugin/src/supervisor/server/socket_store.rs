//! The listening sockets of a task: taken over from an earlier task or bound, lent to the proxy process, and handed
//! over to the next task.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::channel::Channel;
use crate::supervisor::control_socket;
use crate::supervisor::deadlines;
use crate::supervisor::launch::StartError;
use crate::supervisor::protocol::{ProxyCommand, Reply, Request, SOCKETS_PER_MESSAGE};

/// Sockets by the address on which they listen. Each is a duplicate of one that a proxy process accepts from, or did.
/// While it is open, new connections wait in its backlog even if no process accepts them.
#[derive(Debug, Default)]
pub(super) struct SocketStore(Vec<(SocketAddr, TcpListener)>);

impl SocketStore {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the sockets of these addresses and returns them. Sockets of overlapping addresses, such as
    /// `0.0.0.0:5433` and `10.0.0.1:5433`, are closed: the kernel would give them connections that no process
    /// accepts.
    fn take(&mut self, addresses: &[SocketAddr]) -> Self {
        let taken = self.0.extract_if(.., |(addr, _)| addresses.contains(addr)).collect();
        self.0.retain(|(addr, _)| !addresses.iter().any(|other| overlap(*addr, *other)));
        Self(taken)
    }

    fn add(&mut self, sockets: Self) {
        self.0.extend(sockets.0);
    }

    fn duplicates(&self) -> io::Result<Self> {
        let duplicates = self.0.iter().map(|(addr, socket)| Ok((*addr, socket.try_clone()?)));
        duplicates.collect::<io::Result<_>>().map(Self)
    }

    fn contains(&self, addr: SocketAddr) -> bool {
        self.0.iter().any(|(known, _)| *known == addr)
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Fills the store with sockets for these addresses: all that earlier tasks kept, and a new one where there is none.
/// An address may have several sockets; the kernel spreads connections over all of them, so all must be accepted
/// from.
///
/// # Errors
/// When an address cannot be bound.
pub(super) async fn acquire(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    directory: &Path,
) -> Result<(), StartError> {
    for other in other_supervisors(directory) {
        // A supervisor that has ended or does not reply keeps its sockets; binding remains.
        let _ = timeout(deadlines::HANDOVER, take_over(store, addresses, &other)).await;
    }
    for addr in addresses {
        if store.borrow().contains(*addr) {
            continue;
        }
        let socket = pg_leader_proxy::net::listen(*addr).map_err(|error| {
            StartError::Transient(format!("cannot listen on {addr}: {}", explain(&error)))
        })?;
        store.send_modify(|store| store.0.push((*addr, socket)));
    }
    Ok(())
}

fn other_supervisors(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.parent().and_then(|parent| parent.read_dir().ok());
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path != directory).collect()
}

async fn take_over(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    other: &Path,
) -> io::Result<()> {
    let mut channel = control_socket::request(other, &Request::TakeSockets(addresses.to_vec())).await?;
    loop {
        let Reply::Sockets(addresses) = channel.expect(deadlines::HANDOVER).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if addresses.is_empty() {
            return channel.send(&Request::Ack).await;
        }
        let sockets = channel.take_descriptors(addresses.len())?.into_iter().map(TcpListener::from);
        store.send_modify(|store| store.0.extend(addresses.into_iter().zip(sockets)));
    }
}

/// Hands sockets over to another supervisor. What it does not confirm stays here.
pub(super) async fn hand_over(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    channel: &mut Channel,
) {
    let mut taken = SocketStore::default();
    store.send_if_modified(|store| {
        taken = store.take(addresses);
        // An empty store ends this supervisor, which must wait for the confirmation.
        false
    });
    let handing_over = async {
        send(channel, &taken, Reply::Sockets).await?;
        channel.expect::<Request>(deadlines::HANDOVER).await
    };
    match handing_over.await {
        Ok(Request::Ack) => store.send_modify(|_| ()),
        _ => store.send_modify(|store| store.add(taken)),
    }
}

/// Sends the proxy process duplicates of all sockets.
///
/// # Errors
/// What the operating system says.
pub(super) async fn send_duplicates(store: &watch::Sender<SocketStore>, channel: &Channel) -> io::Result<()> {
    let duplicates = store.borrow().duplicates()?;
    send(channel, &duplicates, ProxyCommand::Sockets).await
}

/// Sends sockets in as many messages as they need, and an empty message as the last.
async fn send<M: Serialize>(
    channel: &Channel,
    sockets: &SocketStore,
    message: impl Fn(Vec<SocketAddr>) -> M,
) -> io::Result<()> {
    for chunk in sockets.0.chunks(SOCKETS_PER_MESSAGE) {
        let (addresses, descriptors): (Vec<_>, Vec<_>) =
            chunk.iter().map(|(addr, socket)| (*addr, socket.as_fd())).unzip();
        channel.send_with(&message(addresses), &descriptors).await?;
    }
    channel.send(&message(Vec::new())).await
}

fn explain(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "another program listens there"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
    ];
    let text = known.iter().find(|(kind, _)| *kind == error.kind());
    text.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the stored sockets a task with the wanted addresses takes over, and what stays in the store.
    fn take(stored: &[&str], wanted: &[&str]) -> (usize, Vec<String>) {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let mut store = SocketStore(stored.iter().map(|addr| (addr.parse().unwrap(), socket())).collect());
        let wanted: Vec<SocketAddr> = wanted.iter().map(|addr| addr.parse().unwrap()).collect();
        let taken = store.take(&wanted);
        (taken.0.len(), store.0.iter().map(|(addr, _)| addr.to_string()).collect())
    }

    #[test]
    fn all_sockets_of_an_address_are_taken_and_others_stay() {
        let stored = ["10.0.0.1:5433", "10.0.0.1:5433", "10.0.0.1:5434"];
        assert_eq!(take(&stored, &["10.0.0.1:5433"]), (2, vec!["10.0.0.1:5434".to_owned()]));
        assert_eq!(
            take(&["10.0.0.1:5433"], &["10.0.0.2:5433", "[::1]:5433"]),
            (0, vec!["10.0.0.1:5433".to_owned()])
        );
    }

    #[test]
    fn sockets_of_overlapping_addresses_are_closed() {
        assert_eq!(
            take(&["0.0.0.0:5433", "0.0.0.0:5434"], &["10.0.0.1:5433"]),
            (0, vec!["0.0.0.0:5434".to_owned()])
        );
        assert_eq!(take(&["10.0.0.1:5433"], &["0.0.0.0:5433"]), (0, vec![]));
        // This one listens to IPv6 only.
        assert_eq!(take(&["[::]:5433"], &["0.0.0.0:5433"]), (0, vec!["[::]:5433".to_owned()]));
    }
}
