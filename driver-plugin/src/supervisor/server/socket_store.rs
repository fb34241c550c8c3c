//! The listening sockets of a task: lent to the proxy process, kept while none runs, and handed over to the next task.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use serde::Serialize;
use tokio::sync::watch;

use crate::channel::Channel;
use crate::supervisor::deadlines;
use crate::supervisor::launch::overlap;
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

    fn duplicates(&self, addresses: &[SocketAddr]) -> io::Result<Self> {
        let wanted = self.0.iter().filter(|(addr, _)| addresses.contains(addr));
        let duplicates = wanted.map(|(addr, socket)| Ok((*addr, socket.try_clone()?)));
        duplicates.collect::<io::Result<_>>().map(Self)
    }

    /// Those of the addresses for which there is no socket.
    pub(super) fn missing(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let stored = |addr: &SocketAddr| self.0.iter().any(|(known, _)| known == addr);
        addresses.iter().filter(|addr| !stored(addr)).copied().collect()
    }

    /// The addresses on which the sockets listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(addr, _)| *addr).collect()
    }

    pub(super) fn extend(&mut self, sockets: impl IntoIterator<Item = (SocketAddr, TcpListener)>) {
        self.0.extend(sockets);
    }

    /// Closes the sockets of these addresses and of those that overlap with them.
    pub(super) fn close(&mut self, addresses: &[SocketAddr]) {
        drop(self.take(addresses));
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
        _ => store.send_modify(|store| store.extend(taken.0)),
    }
}

/// Sends the proxy process duplicates of the sockets of these addresses.
///
/// # Errors
/// What the operating system says.
pub(super) async fn send_duplicates(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    channel: &Channel,
) -> io::Result<()> {
    let duplicates = store.borrow().duplicates(addresses)?;
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
