//! Workers: threads that accept clients and serve them; a session never leaves the thread that it began on.

mod acceptors;
mod balance;
mod pulse;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{self, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tracing::warn;

use self::acceptors::{Acceptors, Client};
pub(crate) use self::balance::Seat;
use self::balance::{Colleague, HandedOver, Load, Place, Team};
pub(crate) use self::pulse::Pulse;
use crate::session::{Shared, WorkerContext};
use crate::tally::RouteKind;

/// How long a worker waits after the operating system refused a connection, for lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many orders may wait for a worker: one per listening socket and reload, and clients that others hand over to it.
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
    Serve(HandedOver),
}

/// A thread with a runtime of its own. Dropping it lets the thread end once its sessions have.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
    load: Load,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts so many workers, which keep their sessions balanced.
    ///
    /// # Errors
    /// When the operating system has no thread or no descriptor left.
    pub fn start_team(workers: usize, shared: &Shared) -> io::Result<Vec<Self>> {
        let (orders, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ORDERS)).unzip();
        let team: Team = orders.iter().map(|orders| Colleague::new(orders.downgrade())).collect();
        let start = |(index, (orders, inbox)): (usize, (mpsc::Sender<Order>, _))| {
            let (place, load) = (Place::new(index, Arc::clone(&team)), team[index].load());
            let thread = start_thread(shared.clone(), inbox, place)?;
            Ok(Self { orders, load, thread })
        };
        orders.into_iter().zip(inboxes).enumerate().map(start).collect()
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

    /// How many clients it has, and how many are on their way to it.
    pub fn sessions(&self) -> usize {
        self.load.count()
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the thread of a worker, and returns when it runs.
fn start_thread(shared: Shared, inbox: mpsc::Receiver<Order>, place: Place) -> io::Result<JoinHandle<()>> {
    let (told, started) = std::sync::mpsc::sync_channel(1);
    let name = format!("worker-{}", place.index());
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // It cannot leave the thread that made it.
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(error)),
        };
        drop(told);
        // A task of its own: what `block_on` itself is given is polled with every event of every session.
        let work = runtime.spawn_local(work(shared, inbox, place));
        if let Err(panic) = runtime.block_on(work) {
            warn!(%panic, "a worker failed");
        }
    })?;
    // Nothing comes when all is well.
    started.recv().map_or(Ok(thread), Err)
}

async fn work(shared: Shared, mut inbox: mpsc::Receiver<Order>, place: Place) {
    let mut acceptors = Acceptors::new(shared.settings.clone());
    let context = WorkerContext::new(shared);
    let mut sessions = Sessions { context: Rc::clone(&context), place };
    // It ends with the runtime.
    spawn_local(async move { context.pulse.beat().await });
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => break,
                Some(Order::Listen(listener)) => acceptors.adopt(listener),
                Some(Order::Unlisten(route, addr)) => {
                    for client in acceptors.let_go(route, addr) {
                        sessions.distribute(route, client);
                    }
                }
                Some(Order::Serve(handed_over)) => sessions.take_over(handed_over),
            },
            (route, accepted) = acceptors.next(), if !acceptors.is_empty() => match accepted {
                Ok(client) => sessions.distribute(route, client),
                Err(error) => {
                    warn!(route = route.code(), %error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(acceptors);
    sessions.place.load().gone().await;
}

/// The sessions of one worker, and its place among the others.
struct Sessions {
    context: Rc<WorkerContext>,
    place: Place,
}

impl Sessions {
    /// Serves a client that this worker has accepted, or has another one serve it.
    fn distribute(&mut self, route: RouteKind, client: Client) {
        if let Some((seat, client)) = self.place.seat(route, client) {
            self.serve(route, client, seat);
        }
    }

    /// Serves a client that another worker has accepted.
    fn take_over(&mut self, handed_over: HandedOver) {
        let HandedOver { route, socket, peer, seat } = handed_over;
        match TcpStream::from_std(socket) {
            Ok(client) => self.serve(route, (client, peer), seat),
            Err(error) => warn!(%peer, %error, "cannot watch a client"),
        }
    }

    fn serve(&mut self, route: RouteKind, client: Client, seat: Seat) {
        // Nobody joins it: its seat tells when it has ended, and one that panics is logged and ends alone.
        drop(spawn_local(Rc::clone(&self.context).serve(route, client, seat)));
    }
}
