//! Workers: threads that accept clients and serve them; a session never leaves the thread that accepted it.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tracing::{debug, warn};

use crate::session::{Shared, WorkerContext};
use crate::tally::RouteKind;

/// How long a worker waits after the operating system refused a connection, for lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many orders may wait for a worker; there is one per listening socket and reload.
const ORDERS: usize = 64;

/// A listening socket for one route.
#[derive(Debug)]
pub struct Listener {
    /// What its clients want.
    pub route: RouteKind,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The socket itself.
    pub socket: std::net::TcpListener,
}

/// What a worker is told.
#[derive(Debug)]
enum Order {
    Listen(Listener),
    Unlisten(RouteKind, SocketAddr),
}

/// A thread with a runtime of its own. Dropping it lets the thread end once its sessions have.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system has no thread or no descriptor left.
    pub fn start(index: usize, shared: Shared) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            LocalSet::new().block_on(&runtime, work(shared, inbox));
        })?;
        Ok(Self { orders, thread })
    }

    /// Begins to accept clients.
    pub async fn listen(&self, listener: Listener) {
        // A worker that is gone has panicked, which the process does not survive.
        let _ = self.orders.send(Order::Listen(listener)).await;
    }

    /// Ceases to accept clients; sessions go on.
    pub async fn unlisten(&self, route: RouteKind, addr: SocketAddr) {
        let _ = self.orders.send(Order::Unlisten(route, addr)).await;
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

async fn work(shared: Shared, mut inbox: mpsc::Receiver<Order>) {
    let context = WorkerContext::new(shared);
    let mut sessions = JoinSet::new();
    let mut acceptors = Vec::<((RouteKind, SocketAddr), TcpListener)>::new();
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => break,
                Some(Order::Listen(listener)) => adopt(&mut acceptors, listener),
                Some(Order::Unlisten(route, addr)) => {
                    // Clients in the backlog have a connection already: they are served, not reset.
                    for (key, acceptor) in acceptors.extract_if(.., |(key, _)| *key == (route, addr)) {
                        while let Some(Ok((client, peer))) = ready_now(acceptor.accept()).await {
                            sessions.spawn_local(context.clone().serve(key.0, client, peer));
                        }
                    }
                }
            },
            (route, accepted) = accept_any(&acceptors), if !acceptors.is_empty() => match accepted {
                Ok((client, peer)) => {
                    sessions.spawn_local(context.clone().serve(route, client, peer));
                }
                Err(error) => {
                    warn!(route = route.code(), %error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                if let Err(error) = ended {
                    warn!(%error, "a session failed");
                }
            }
        }
    }
    drop(acceptors);
    while sessions.join_next().await.is_some() {}
}

fn adopt(acceptors: &mut Vec<((RouteKind, SocketAddr), TcpListener)>, listener: Listener) {
    match TcpListener::from_std(listener.socket) {
        Ok(acceptor) => {
            debug!(route = listener.route.code(), addr = %listener.addr, "listening");
            acceptors.push(((listener.route, listener.addr), acceptor));
        }
        Err(error) => warn!(addr = %listener.addr, %error, "cannot watch the listening socket"),
    }
}

/// The next client of any of the sockets.
async fn accept_any(
    acceptors: &[((RouteKind, SocketAddr), TcpListener)],
) -> (RouteKind, io::Result<(tokio::net::TcpStream, SocketAddr)>) {
    std::future::poll_fn(|cx| {
        for ((route, _), acceptor) in acceptors {
            if let std::task::Poll::Ready(accepted) = acceptor.poll_accept(cx) {
                return std::task::Poll::Ready((*route, accepted));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// What `work` gives without waiting.
async fn ready_now<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = std::future::ready(()) => None,
    }
}
