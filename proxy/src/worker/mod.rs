//! Workers: the threads that serve clients. The first one accepts them all, and hands sessions that have settled to others
//! (`balance`).
//!
//! A worker spends nearly all its time on relays, so these have a loop of their own around epoll (`rota`), which costs
//! less for each message than a runtime's. What happens before a relay, first packets and waiting and the way to a server,
//! is told better as futures: while there are arrivals, tokio drives them and the relays beside them (`hall`).

mod accept;
mod acceptors;
mod balance;
mod event_loop;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Wake;

use mio::{Poll, Token, Waker};
use tokio::runtime;
use tokio::sync::mpsc;
use tracing::error;

use self::accept::AcceptLoop;
use self::balance::{Load, Peer, Pool, PoolHandle, RelayedSession};
use self::event_loop::EventLoop;
use crate::route::RouteKind;
use crate::session::Shared;

/// How many orders may wait for a worker: one per listening socket and reload, and sessions that others hand over to it.
const COMMANDS: usize = 64;
/// What epoll calls the bell; the sockets of sessions count from 0.
const WAKE: Token = Token(usize::MAX);
/// What epoll calls the listening sockets.
const LISTENERS: Range<usize> = usize::MAX / 2..WAKE.0;

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
    pub owner: ListenerOwner,
}

/// Who keeps a listening socket open when the worker lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerOwner {
    /// Nobody: clients in its backlog would be reset.
    Process,
    /// Whoever handed it in: clients in its backlog wait for the next process.
    Supervisor,
}

/// What a worker is told.
enum WorkerCommand {
    Listen(Listener),
    Unlisten(RouteKind, SocketAddr),
    Relay(Box<RelayedSession>),
}

/// The workers, which keep their sessions balanced. The first of them accepts. Dropping them lets each thread end once its
/// sessions have.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    commands: mpsc::Sender<WorkerCommand>,
    load: Load,
    // Behind the orders, so that the worker finds them closed when it is called.
    waker: WakeOnDrop,
}

/// Calls a worker out of its wait: there are orders, or a pass was revoked.
#[derive(Debug)]
struct LoopWaker(Waker);

impl Wake for LoopWaker {
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
struct WakeOnDrop(Arc<LoopWaker>);

impl Drop for WakeOnDrop {
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
        let waker = |poll: &Poll| Ok(Arc::new(LoopWaker(Waker::new(poll.registry(), WAKE)?)));
        let wakers: Vec<Arc<LoopWaker>> = polls.iter().map(waker).collect::<io::Result<_>>()?;
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(COMMANDS)).unzip();
        let peer = |(commands, waker): (&mpsc::Sender<WorkerCommand>, &Arc<LoopWaker>)| {
            Peer::new(commands.downgrade(), Arc::clone(waker))
        };
        let pool: Pool = commands.iter().zip(&wakers).map(peer).collect();
        let mut started = Vec::new();
        for (index, (((commands, inbox), poll), waker)) in
            commands.into_iter().zip(inboxes).zip(polls).zip(wakers).enumerate()
        {
            let handle = PoolHandle::new(index, Arc::clone(&pool));
            start_thread(Arc::clone(&shared), EventLoop::new(poll, Arc::clone(&waker)), inbox, handle)?;
            started.push(Worker { commands, load: pool[index].load(), waker: WakeOnDrop(waker) });
        }
        Ok(Self(started))
    }

    /// Begins to accept clients.
    pub async fn listen(&self, listener: Listener) {
        self.tell_first(WorkerCommand::Listen(listener)).await;
    }

    /// Ceases to accept clients; sessions go on.
    pub async fn unlisten(&self, route: RouteKind, addr: SocketAddr) {
        self.tell_first(WorkerCommand::Unlisten(route, addr)).await;
    }

    /// How many clients they have.
    pub fn sessions(&self) -> usize {
        self.0.iter().map(|worker| worker.load.count()).sum()
    }

    async fn tell_first(&self, command: WorkerCommand) {
        if let Some(first) = self.0.first() {
            // A worker that is gone has panicked, which was logged.
            let _ = first.commands.send(command).await;
            first.waker.0.wake_by_ref();
        }
    }
}

/// Starts the thread of a worker, and returns when it runs.
fn start_thread(
    shared: Arc<Shared>,
    event_loop: EventLoop,
    inbox: mpsc::Receiver<WorkerCommand>,
    handle: PoolHandle,
) -> io::Result<()> {
    let (told, started) = std::sync::mpsc::sync_channel(1);
    let name = format!("worker-{}", handle.index());
    std::thread::Builder::new().name(name).spawn(move || {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                drop(told);
                AcceptLoop::new(shared, event_loop, inbox, handle).run(&runtime);
            }
            Err(error) => drop(told.send(error)),
        }
    })?;
    // Nothing comes when all is well.
    started.recv().map_or(Ok(()), Err)
}
