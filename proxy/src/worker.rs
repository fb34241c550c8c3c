//! Workers: threads that accept clients and serve them; a session never leaves the thread that accepted it.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
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
    /// Who is left with the clients in its backlog when this process stops listening.
    pub keeper: Keeper,
}

/// Who keeps a listening socket open when the worker lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Nobody: clients in its backlog would be reset.
    Us,
    /// Whoever handed it in: clients in its backlog wait for the next process.
    Holder,
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
    let mut acceptors = Acceptors::default();
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => break,
                Some(Order::Listen(listener)) => acceptors.adopt(listener),
                Some(Order::Unlisten(route, addr)) => {
                    for (client, peer) in acceptors.let_go(route, addr).await {
                        sessions.spawn_local(context.clone().serve(route, client, peer));
                    }
                }
            },
            (route, accepted) = acceptors.next(), if !acceptors.sockets.is_empty() => match accepted {
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

type Client = (TcpStream, SocketAddr);

/// The listening sockets of one worker.
#[derive(Debug, Default)]
struct Acceptors {
    sockets: Vec<Acceptor>,
    /// Where the next look begins: none of the sockets shall starve because another one is never empty.
    turn: usize,
}

#[derive(Debug)]
struct Acceptor {
    route: RouteKind,
    addr: SocketAddr,
    socket: TcpListener,
    keeper: Keeper,
}

impl Acceptors {
    fn adopt(&mut self, listener: Listener) {
        let Listener { route, addr, socket, keeper } = listener;
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                debug!(route = route.code(), %addr, ?keeper, "listening");
                self.sockets.push(Acceptor { route, addr, socket, keeper });
            }
            Err(error) => warn!(%addr, %error, "cannot watch the listening socket"),
        }
    }

    /// Lets go of the sockets of this address. Clients in a backlog that nobody keeps have a connection already: they
    /// are given out, to be served and not reset.
    async fn let_go(&mut self, route: RouteKind, addr: SocketAddr) -> Vec<Client> {
        let mut clients = Vec::new();
        for acceptor in self.sockets.extract_if(.., |known| (known.route, known.addr) == (route, addr)) {
            match acceptor.keeper {
                Keeper::Holder => {}
                Keeper::Us => {
                    while let Some(Ok(client)) = ready_now(acceptor.socket.accept()).await {
                        clients.push(client);
                    }
                }
            }
        }
        clients
    }

    /// The next client of any of the sockets.
    async fn next(&mut self) -> (RouteKind, io::Result<Client>) {
        std::future::poll_fn(|cx| {
            for step in 0..self.sockets.len() {
                let index = (self.turn + step) % self.sockets.len();
                let acceptor = &self.sockets[index];
                if let Poll::Ready(accepted) = acceptor.socket.poll_accept(cx) {
                    let route = acceptor.route;
                    self.turn = index + 1;
                    return Poll::Ready((route, accepted));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What `work` gives without waiting.
async fn ready_now<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = std::future::ready(()) => None,
    }
}
