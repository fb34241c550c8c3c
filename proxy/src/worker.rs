//! Workers: threads that accept clients and serve them; a session never leaves the thread that accepted it.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::Session;
use crate::net;
use crate::session::{Settings, Shared, WorkerContext};
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
        let (told, started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // It cannot leave the thread that made it.
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(told.send(error)),
            };
            drop(told);
            // A task of its own: what `block_on` itself is given is polled with every event of every session.
            let work = runtime.spawn_local(work(shared, inbox));
            if let Err(panic) = runtime.block_on(work) {
                warn!(%panic, "a worker failed");
            }
        })?;
        if let Ok(error) = started.recv() {
            return Err(error);
        }
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
    let mut acceptors = Acceptors::new(shared.settings.clone());
    let context = WorkerContext::new(shared);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => break,
                Some(Order::Listen(listener)) => acceptors.adopt(listener),
                Some(Order::Unlisten(route, addr)) => {
                    for (client, peer) in acceptors.let_go(route, addr) {
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
#[derive(Debug)]
struct Acceptors {
    settings: watch::Receiver<Settings>,
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
    /// What the socket was prepared for, and so everybody who is accepted from it.
    prepared: Session,
}

impl Acceptor {
    /// Prepares the socket, and with it all clients to come, for other settings than before.
    fn prepare(&mut self, client: &TcpStream, session: Session) -> io::Result<()> {
        net::prepare(&self.socket, &session)?;
        self.prepared = session;
        // This one came before.
        net::prepare(client, &session)
    }
}

impl Acceptors {
    const fn new(settings: watch::Receiver<Settings>) -> Self {
        Self { settings, sockets: Vec::new(), turn: 0 }
    }

    fn adopt(&mut self, listener: Listener) {
        let Listener { route, addr, socket, keeper } = listener;
        let prepared = self.settings.borrow().session;
        let watched = net::prepare(&socket, &prepared).and_then(|()| TcpListener::from_std(socket));
        match watched {
            Ok(socket) => {
                debug!(route = route.code(), %addr, ?keeper, "listening");
                self.sockets.push(Acceptor { route, addr, socket, keeper, prepared });
            }
            Err(error) => warn!(%addr, %error, "cannot watch the listening socket"),
        }
    }

    /// Lets go of the sockets of this address. Clients in a backlog that nobody keeps have a connection already: they
    /// are given out, to be served and not reset.
    fn let_go(&mut self, route: RouteKind, addr: SocketAddr) -> Vec<Client> {
        let mut clients = Vec::new();
        for acceptor in self.sockets.extract_if(.., |known| (known.route, known.addr) == (route, addr)) {
            match acceptor.keeper {
                Keeper::Holder => {}
                Keeper::Us => match empty_backlog(acceptor.socket, &mut clients) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        warn!(%addr, %error, "cannot accept the last clients");
                    }
                    Ok(()) | Err(_) => {}
                },
            }
        }
        clients
    }

    /// The next client of any of the sockets.
    async fn next(&mut self) -> (RouteKind, io::Result<Client>) {
        std::future::poll_fn(|cx| {
            for step in 0..self.sockets.len() {
                let index = (self.turn + step) % self.sockets.len();
                let acceptor = &mut self.sockets[index];
                if let Poll::Ready(mut accepted) = acceptor.socket.poll_accept(cx) {
                    let session = self.settings.borrow().session;
                    if let Ok((client, _)) = &accepted
                        && acceptor.prepared != session
                        && let Err(error) = acceptor.prepare(client, session)
                    {
                        accepted = Err(error);
                    }
                    self.turn = index + 1;
                    return Poll::Ready((acceptor.route, accepted));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Accepts until there is nobody left. The socket is asked itself, because the runtime may not have heard yet of the
/// client that came last.
fn empty_backlog(socket: TcpListener, clients: &mut Vec<Client>) -> io::Result<()> {
    let socket = socket.into_std()?;
    loop {
        let (client, peer) = socket.accept()?;
        client.set_nonblocking(true)?;
        clients.push((TcpStream::from_std(client)?, peer));
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    const CLIENTS: usize = 10;
    const BOUND: Duration = Duration::from_secs(10);

    fn listener(keeper: Keeper) -> Listener {
        let socket = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Listener { route: RouteKind::Write, addr: socket.local_addr().unwrap(), socket, keeper }
    }

    fn connect(addr: SocketAddr) -> Vec<std::net::TcpStream> {
        (0..CLIENTS).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect()
    }

    fn acceptors() -> (watch::Sender<Settings>, Acceptors) {
        let session = Session {
            max_sessions: 1,
            startup_timeout: BOUND,
            connect_timeout: BOUND,
            keepalive: Duration::from_secs(9),
            user_timeout: Duration::from_secs(20),
            drain: BOUND,
            workers: 1,
        };
        let (sender, settings) = watch::channel(Settings { session, write_hold: BOUND, read_hold: BOUND });
        (sender, Acceptors::new(settings))
    }

    #[tokio::test]
    async fn who_is_accepted_is_watched_over_as_the_settings_say_at_that_moment() {
        let (settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Us);
        let addr = listener.addr;
        acceptors.adopt(listener);
        let mut accepted = async |keepalive: u64| {
            let _client = std::net::TcpStream::connect(addr).unwrap();
            let (client, _) = acceptors.next().await.1.unwrap();
            let socket = SockRef::from(&client);
            assert!(client.nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(keepalive));
        };
        accepted(9).await;
        settings.send_modify(|settings| settings.session.keepalive = Duration::from_secs(12));
        accepted(12).await;
        accepted(12).await;
    }

    #[tokio::test]
    async fn a_backlog_that_nobody_keeps_is_emptied() {
        let (_settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Us);
        let addr = listener.addr;
        acceptors.adopt(listener);
        let _clients = connect(addr);
        assert_eq!(acceptors.let_go(RouteKind::Read, addr).len(), 0, "another route");
        assert_eq!(acceptors.let_go(RouteKind::Write, addr).len(), CLIENTS);
        assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_backlog_that_a_holder_keeps_is_left_to_it() {
        let (_settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Holder);
        let (addr, holder) = (listener.addr, listener.socket.try_clone().unwrap());
        acceptors.adopt(listener);
        let _clients = connect(addr);
        assert_eq!(acceptors.let_go(RouteKind::Write, addr).len(), 0);
        let _latecomers = connect(addr);
        let kept = std::iter::from_fn(|| holder.accept().ok()).count();
        assert_eq!(kept, 2 * CLIENTS, "those who came before and after");
    }

    #[tokio::test]
    async fn no_socket_starves_beside_one_that_is_never_empty() {
        let (_settings, mut acceptors) = acceptors();
        let (busy, other) = (listener(Keeper::Us), listener(Keeper::Us));
        let (busy_addr, other_addr) = (busy.addr, other.addr);
        acceptors.adopt(busy);
        acceptors.adopt(other);
        let _clients = (connect(busy_addr), connect(other_addr));
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            served.push(acceptors.next().await.1.unwrap().0.local_addr().unwrap());
        }
        let of_other = served.iter().filter(|addr| **addr == other_addr).count();
        assert!((2..=8).contains(&of_other), "{of_other} of {CLIENTS}");
    }
}
