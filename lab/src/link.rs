//! A TCP relay that can be paused or cut, to partition a network without being root.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// Bytes per read, in each direction.
const CHUNK: usize = 64 * 1024;
/// How much later each read of a slow link arrives, in each direction.
const SLOW: Duration = Duration::from_millis(200);
/// Pause after a failed accept or bind. Without it a full descriptor table would cause a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(5);

/// What a link does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// Bytes pass. While nobody listens at the target, connections are refused as there.
    Open,
    /// Bytes pass 200 ms late, as over a long or busy line.
    Slow,
    /// Like a network that drops every packet: connections stay and new ones are accepted, but no byte and no end of
    /// stream passes. When the link is open again, what waited arrives, as TCP would deliver it.
    Paused,
    /// New connections are refused, as by a server that has stopped listening. Bytes of open ones pass.
    RefusesNew,
    /// Connections are reset and new ones refused.
    Cut,
}

impl LinkMode {
    fn listens(self) -> bool {
        matches!(self, Self::Open | Self::Slow | Self::Paused)
    }

    fn passes(self) -> bool {
        matches!(self, Self::Open | Self::Slow | Self::RefusesNew)
    }

    /// Whether connections pass to the target, or are refused as there.
    fn connects(self) -> bool {
        self.listens() && self.passes()
    }

    fn is_cut(self) -> bool {
        self == Self::Cut
    }
}

/// A relay from one address to another. Clones control the same relay.
#[derive(Clone, Debug)]
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<LinkMode>,
}

impl Link {
    /// Listens on `address` at once and relays to `target` on the given runtime.
    ///
    /// # Errors
    /// When `address` cannot be bound.
    pub fn start(runtime: &Handle, address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let listener =
            StdTcpListener::bind(address).with_context(|| format!("binding the link {address}"))?;
        listener.set_nonblocking(true).context("making the link's listener non-blocking")?;
        let address = listener.local_addr().context("reading the link's address")?;
        let _in_runtime = runtime.enter();
        let listener = TcpListener::from_std(listener).context("handing the link's listener to tokio")?;
        let (mode, changes) = watch::channel(LinkMode::Open);
        runtime.spawn(serve(listener, address, target, changes));
        Ok(Self { address, mode })
    }

    /// Where the link listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mode. It applies to every connection within about a millisecond.
    pub fn set(&self, mode: LinkMode) {
        self.mode.send_replace(mode);
    }
}

/// Accepts and relays until its runtime ends.
async fn serve(
    first: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut mode: watch::Receiver<LinkMode>,
) {
    let mut listener = Some(first);
    loop {
        if let Some(listener) = listener.take() {
            accept_until_refused(&listener, target, &mut mode).await;
        }
        // There is no listener while the link refuses connections, or leads to a port where nobody listens, so the kernel
        // refuses them.
        until(&mut mode, LinkMode::listens).await;
        while mode.borrow().connects() && is_refused(&TcpStream::connect(target).await) {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        match TcpListener::bind(address).await {
            Ok(bound) => listener = Some(bound),
            Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
        }
    }
}

/// Accepts and relays until the link or the target refuses connections.
async fn accept_until_refused(
    listener: &TcpListener,
    target: SocketAddr,
    mode: &mut watch::Receiver<LinkMode>,
) {
    let (refused, mut refusals) = mpsc::channel(1);
    loop {
        tokio::select! {
            biased;
            () = until(mode, |mode| !mode.listens()) => return,
            Some(()) = refusals.recv() => return,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(tokio::spawn(relay(client, target, mode.clone(), refused.clone()))),
                Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
            },
        }
    }
}

fn is_refused<T>(connected: &io::Result<T>) -> bool {
    connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

async fn relay(
    mut client: TcpStream,
    target: SocketAddr,
    mut mode: watch::Receiver<LinkMode>,
    refused: mpsc::Sender<()>,
) {
    let mut opened = mode.clone();
    let connected = async {
        until(&mut opened, LinkMode::passes).await;
        TcpStream::connect(target).await
    };
    let server = tokio::select! {
        biased;
        () = until(&mut mode, LinkMode::is_cut) => None,
        server = connected => {
            if is_refused(&server) {
                // If the channel is full, the link knows already.
                let _ = refused.try_send(());
            }
            server.ok()
        }
    };
    let Some(mut server) = server else { return reset(&client) };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let clean = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                copy(from_client, to_server, mode.clone()),
                copy(from_server, to_client, mode.clone())
            )
        };
        let mut cut = mode.clone();
        tokio::select! {
            biased;
            () = until(&mut cut, LinkMode::is_cut) => false,
            ended = both => ended.is_ok(),
        }
    };
    if !clean {
        reset(&client);
        reset(&server);
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<LinkMode>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        until(&mut mode, LinkMode::passes).await;
        let read = tokio::select! {
            biased;
            () = until(&mut mode, |mode| !mode.passes()) => continue,
            read = from.read(&mut buffer) => read,
        };
        if *mode.borrow() == LinkMode::Slow {
            tokio::time::sleep(SLOW).await;
        }
        // The link may have been paused during the read. Then nothing may pass, not even an error.
        until(&mut mode, LinkMode::passes).await;
        match read? {
            0 => return to.shutdown().await,
            length => to.write_all(buffer.get(..length).unwrap_or_default()).await?,
        }
    }
}

/// Makes closing the socket send a reset.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Waits until the mode is such, forever if nobody can change it any more.
async fn until(mode: &mut watch::Receiver<LinkMode>, is: impl Fn(LinkMode) -> bool) {
    if mode.wait_for(|mode| is(*mode)).await.is_err() {
        std::future::pending().await
    }
}
