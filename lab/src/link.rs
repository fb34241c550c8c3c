//! A TCP relay that can be paused or cut: how the lab partitions a network without being root.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Bytes read at once in each direction.
const CHUNK: usize = 64 * 1024;
/// Pause after an accept or bind that failed, so that a full descriptor table does not become a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(5);

/// What a link does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// Bytes pass.
    Open,
    /// Like a black-holed network: connections stay, new ones are taken, no byte and no end of stream passes.
    /// Opened again, the waiting bytes arrive, as TCP would bring them.
    Paused,
    /// Connections are reset and new ones refused.
    Cut,
}

/// A relay from one address to another. Clones steer the same relay.
#[derive(Clone, Debug)]
pub struct Link {
    address: SocketAddr,
    target: SocketAddr,
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
        let address = listener.local_addr().context("asking for the link's address")?;
        let _in_runtime = runtime.enter();
        let listener = TcpListener::from_std(listener).context("handing the link's listener to tokio")?;
        let (mode, changes) = watch::channel(LinkMode::Open);
        runtime.spawn(serve(listener, address, target, changes));
        Ok(Self { address, target, mode })
    }

    /// Where the link listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the link leads.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// The present mode.
    #[must_use]
    pub fn mode(&self) -> LinkMode {
        *self.mode.borrow()
    }

    /// Changes the mode; it holds for every connection within about a millisecond.
    pub fn set(&self, mode: LinkMode) {
        self.mode.send_replace(mode);
    }
}

/// Ends with its runtime.
async fn serve(
    first: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut mode: watch::Receiver<LinkMode>,
) {
    let mut listener = Some(first);
    loop {
        if let Some(listener) = listener.take() {
            accept_until_cut(&listener, target, &mut mode).await;
        }
        // The listener is dropped while cut, so that the kernel itself refuses.
        leave(&mut mode, LinkMode::Cut).await;
        match TcpListener::bind(address).await {
            Ok(bound) => listener = Some(bound),
            Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
        }
    }
}

async fn accept_until_cut(listener: &TcpListener, target: SocketAddr, mode: &mut watch::Receiver<LinkMode>) {
    loop {
        tokio::select! {
            biased;
            () = reach(mode, LinkMode::Cut) => return,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(tokio::spawn(relay(client, target, mode.clone()))),
                Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
            },
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<LinkMode>) {
    let mut gate = mode.clone();
    let connected = async {
        reach(&mut gate, LinkMode::Open).await;
        TcpStream::connect(target).await
    };
    let server = tokio::select! {
        biased;
        () = reach(&mut mode, LinkMode::Cut) => None,
        server = connected => server.ok(),
    };
    let Some(mut server) = server else { return reset(&client) };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let clean = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pour(from_client, to_server, mode.clone()),
                pour(from_server, to_client, mode.clone())
            )
        };
        let mut cut = mode.clone();
        tokio::select! {
            biased;
            () = reach(&mut cut, LinkMode::Cut) => false,
            ended = both => ended.is_ok(),
        }
    };
    if !clean {
        reset(&client);
        reset(&server);
    }
}

async fn pour(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<LinkMode>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        reach(&mut mode, LinkMode::Open).await;
        let read = tokio::select! {
            biased;
            () = leave(&mut mode, LinkMode::Open) => continue,
            read = from.read(&mut buffer) => read,
        };
        // Checked again after the read: a pause may have come between, and then nothing may pass, not even an error.
        reach(&mut mode, LinkMode::Open).await;
        match read? {
            0 => return to.shutdown().await,
            length => to.write_all(buffer.get(..length).unwrap_or_default()).await?,
        }
    }
}

/// Closing then sends a reset instead of an end of stream.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Waits for a mode; for ever when nobody can change it any more.
async fn reach(mode: &mut watch::Receiver<LinkMode>, wanted: LinkMode) {
    if mode.wait_for(|mode| *mode == wanted).await.is_err() {
        std::future::pending().await
    }
}

async fn leave(mode: &mut watch::Receiver<LinkMode>, unwanted: LinkMode) {
    if mode.wait_for(|mode| *mode != unwanted).await.is_err() {
        std::future::pending().await
    }
}
