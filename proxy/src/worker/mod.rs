//! Workers: the threads that serve clients. The first one accepts them all, and hands sessions that have settled to others
//! (`balance`).
//!
//! A worker spends nearly all its time on relays, so these have a loop of their own around epoll (`rota`), which costs
//! less for each message than a runtime's. What happens before a relay, first packets and waiting and the way to a server,
//! is told better as futures: while there are arrivals, tokio drives them and the relays beside them (`hall`).

mod acceptors;
mod balance;
mod hall;
mod rota;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Wake;

use mio::{Poll, Token, Waker};
use tokio::runtime;
use tokio::sync::mpsc;
use tracing::error;

pub(crate) use self::balance::Seat;
use self::balance::{Colleague, Load, Place, Team};
use self::hall::Hall;
use self::rota::Rota;
use crate::session::{Session, Shared};
use crate::tally::RouteKind;

/// How many orders may wait for a worker: one per listening socket and reload, and sessions that others hand over to it.
const ORDERS: usize = 64;
/// What epoll calls the bell; the sockets of sessions count from 0.
const BELL: Token = Token(usize::MAX);
/// What epoll calls the listening sockets.
const LISTENERS: Range<usize> = usize::MAX / 2..BELL.0;

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
enum Order {
    Listen(Listener),
    Unlisten(RouteKind, SocketAddr),
    Relay(Box<Session>),
}

/// The workers, which keep their sessions balanced. The first of them accepts. Dropping them lets each thread end once its
/// sessions have.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    orders: mpsc::Sender<Order>,
    load: Load,
    // Behind the orders, so that the worker finds them closed when it is called.
    bell: LastCall,
}

/// Calls a worker out of its wait: there are orders, or a pass was revoked.
#[derive(Debug)]
struct Bell(Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Err(error) = self.0.wake() {
            error!(%error, "cannot wake a worker");
        }
    }
}

/// A bell that also rings when it is dropped.
#[derive(Debug)]
struct LastCall(Arc<Bell>);

impl Drop for LastCall {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

impl Workers {
    /// Starts so many of them.
    ///
    /// # Errors
    /// When the operating system has no thread or no descriptor left.
    pub fn start(workers: usize, shared: Shared) -> io::Result<Self> {
        let shared = Arc::new(shared);
        let polls: Vec<Poll> = (0..workers).map(|_| Poll::new()).collect::<io::Result<_>>()?;
        let bell = |poll: &Poll| Ok(Arc::new(Bell(Waker::new(poll.registry(), BELL)?)));
        let bells: Vec<Arc<Bell>> = polls.iter().map(bell).collect::<io::Result<_>>()?;
        let (orders, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ORDERS)).unzip();
        let colleague = |(orders, bell): (&mpsc::Sender<Order>, &Arc<Bell>)| {
            Colleague::new(orders.downgrade(), Arc::clone(bell))
        };
        let team: Team = orders.iter().zip(&bells).map(colleague).collect();
        let mut started = Vec::new();
        for (index, (((orders, inbox), poll), bell)) in
            orders.into_iter().zip(inboxes).zip(polls).zip(bells).enumerate()
        {
            let place = Place::new(index, Arc::clone(&team));
            start_thread(Arc::clone(&shared), Rota::new(poll, Arc::clone(&bell)), inbox, place)?;
            started.push(Worker { orders, load: team[index].load(), bell: LastCall(bell) });
        }
        Ok(Self(started))
    }

    /// Begins to accept clients.
    pub async fn listen(&self, listener: Listener) {
        self.tell_first(Order::Listen(listener)).await;
    }

    /// Ceases to accept clients; sessions go on.
    pub async fn unlisten(&self, route: RouteKind, addr: SocketAddr) {
        self.tell_first(Order::Unlisten(route, addr)).await;
    }

    /// How many clients they have.
    pub fn sessions(&self) -> usize {
        self.0.iter().map(|worker| worker.load.count()).sum()
    }

    async fn tell_first(&self, order: Order) {
        if let Some(first) = self.0.first() {
            // A worker that is gone has panicked, which was logged.
            let _ = first.orders.send(order).await;
            first.bell.0.wake_by_ref();
        }
    }
}

/// Starts the thread of a worker, and returns when it runs.
fn start_thread(
    shared: Arc<Shared>,
    rota: Rota,
    inbox: mpsc::Receiver<Order>,
    place: Place,
) -> io::Result<()> {
    let (told, started) = std::sync::mpsc::sync_channel(1);
    let name = format!("worker-{}", place.index());
    std::thread::Builder::new().name(name).spawn(move || {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                drop(told);
                Hall::new(shared, rota, inbox, place).serve(&runtime);
            }
            Err(error) => drop(told.send(error)),
        }
    })?;
    // Nothing comes when all is well.
    started.recv().map_or(Ok(()), Err)
}
