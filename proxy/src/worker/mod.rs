//! Workers: the threads that serve clients. The first worker accepts all clients, and transfers settled sessions to the
//! others (`balance`).
//!
//! Relays are nearly all of the work, so they have their own epoll loop (`event_loop`), which costs less per message than
//! a runtime. What happens before (first packet, waiting, connecting) is easier to write as futures. While there are
//! such start-ups, tokio runs them, and runs the event loop beside them (`accept`).

mod accept;
mod acceptors;
mod balance;
mod event_loop;
#[cfg(test)]
#[cfg(feature = "races")]
mod races;
mod sessions;
mod turns;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Wake;

use mio::{Poll, Token, Waker};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tracing::error;

use self::accept::AcceptLoop;
use self::balance::{Load, Peer, Pool, PoolHandle, RelayedSession};
use self::event_loop::EventLoop;
use self::sessions::SessionCommand;
pub use self::sessions::{SessionsHandle, Snapshots, Terminated, WorkerSilent};
use crate::route::RouteKind;
use crate::session::Shared;

/// The size of a worker's command queue: one command per listening socket and reload, and the transferred sessions.
const COMMANDS: usize = 64;
/// The epoll token of the waker. Those of sessions' sockets count up from 0.
const WAKE: Token = Token(usize::MAX);
/// The epoll tokens of listening sockets.
const LISTENERS: Range<usize> = usize::MAX / 2..WAKE.0;

/// A listening socket for one route.
#[derive(Debug)]
pub struct Listener {
    /// The route of its clients.
    pub route: RouteKind,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The socket, in non-blocking mode.
    pub socket: std::net::TcpListener,
    /// Who owns its backlog when this process stops listening.
    pub owner: ListenerOwner,
}

/// Who keeps a listening socket open when the worker stops listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerOwner {
    /// Only this process: closing the socket would reset the clients in its backlog.
    Process,
    /// The supervisor too: the clients in its backlog wait for the next process.
    Supervisor,
}

/// A command to a worker.
enum WorkerCommand {
    Listen(Listener),
    Unlisten(RouteKind, SocketAddr),
    Relay(Box<RelayedSession>),
    Sessions(SessionCommand),
}

/// The workers. The first of them accepts clients. After this is dropped, each thread ends with its last session.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    pool: Pool,
    panicked: watch::Receiver<Option<String>>,
}

#[derive(Debug)]
struct Worker {
    commands: mpsc::Sender<WorkerCommand>,
    load: Load,
    // Declared after `commands`, so that the channel is already closed when this wakes the worker.
    waker: WakeOnDrop,
}

/// Wakes a worker from epoll, because there are commands or a grant was revoked.
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

/// A waker that also wakes the worker when it is dropped.
#[derive(Debug)]
struct WakeOnDrop(Arc<LoopWaker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

impl Workers {
    /// Starts this many workers.
    ///
    /// # Errors
    /// If a thread cannot be started, or no file descriptor is left.
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
        let (panic_sender, panicked) = watch::channel(None);
        let mut started = Vec::new();
        for (index, (((commands, inbox), poll), waker)) in
            commands.into_iter().zip(inboxes).zip(polls).zip(wakers).enumerate()
        {
            let handle = PoolHandle::new(index, Arc::clone(&pool));
            let event_loop = EventLoop::new(poll, Arc::clone(&waker), shared.counters.add_worker());
            let report = PanicReport { thread: format!("worker-{index}"), panicked: panic_sender.clone() };
            let shared = Arc::clone(&shared);
            start_thread(move || AcceptLoop::new(shared, event_loop, inbox, handle), report)?;
            started.push(Worker { commands, load: pool[index].load(), waker: WakeOnDrop(waker) });
        }
        Ok(Self { workers: started, pool, panicked })
    }

    /// Starts to accept clients on a socket.
    pub async fn listen(&self, listener: Listener) {
        self.tell_first(WorkerCommand::Listen(listener)).await;
    }

    /// Stops accepting clients on an address. Open sessions continue.
    pub async fn unlisten(&self, route: RouteKind, addr: SocketAddr) {
        self.tell_first(WorkerCommand::Unlisten(route, addr)).await;
    }

    /// How many clients the workers have.
    pub fn sessions(&self) -> usize {
        self.workers.iter().map(|worker| worker.load.count()).sum()
    }

    /// Asks them about their sessions.
    pub fn sessions_handle(&self) -> SessionsHandle {
        SessionsHandle::new(Arc::clone(&self.pool))
    }

    /// The name of the first thread that panics.
    pub fn panicked(&self) -> impl Future<Output = String> + use<> {
        let mut panicked = self.panicked.clone();
        async move {
            // The sender goes with the last thread.
            let first = panicked.wait_for(Option::is_some).await.ok().and_then(|thread| (*thread).clone());
            match first {
                Some(thread) => thread,
                None => std::future::pending().await,
            }
        }
    }

    async fn tell_first(&self, command: WorkerCommand) {
        if let Some(first) = self.workers.first() {
            // A worker that is gone has panicked, and the process is about to exit.
            let _ = first.commands.send(command).await;
            first.waker.0.wake_by_ref();
        }
    }
}

/// Reports, when it is dropped by a panic, which thread panicked.
struct PanicReport {
    thread: String,
    panicked: watch::Sender<Option<String>>,
}

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked.send_replace(Some(self.thread.clone()));
        }
    }
}

/// Starts the thread of a worker, and returns once it runs.
fn start_thread(make: impl FnOnce() -> AcceptLoop + Send + 'static, report: PanicReport) -> io::Result<()> {
    let (error_sender, started) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name(report.thread.clone()).spawn(move || {
        // First, so that it is dropped last.
        let _report = report;
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                drop(error_sender);
                make().run(&runtime);
            }
            Err(error) => drop(error_sender.send(error)),
        }
    })?;
    // Without an error the sender is dropped.
    started.recv().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_reported_by_its_name() {
        let (sender, panicked) = watch::channel(None);
        let workers = Workers { workers: Vec::new(), pool: Pool::from([]), panicked };
        let report = PanicReport { thread: "worker-1".to_owned(), panicked: sender.clone() };
        let reported = workers.panicked();
        start_thread(|| panic!("a fault in a worker"), report).unwrap();
        assert_eq!(reported.await, "worker-1");
    }

    #[tokio::test]
    async fn a_thread_that_ends_is_not_reported() {
        let (sender, panicked) = watch::channel(None);
        let report = PanicReport { thread: "worker-1".to_owned(), panicked: sender };
        std::thread::spawn(move || drop(report)).join().unwrap();
        assert_eq!(*panicked.borrow(), None);
    }
}
