//! The accept loop of a worker: accepts clients, runs their start-ups, and passes their sessions to the event loop.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
use tracing::warn;

use super::acceptors::{Acceptors, Client};
use super::sessions::{Cursor, Page, SessionCommand, Terminated};
use super::{EventLoop, PoolHandle, RelayedSession, WorkerCommand};
use crate::clock;
use crate::logging::Seldom;
use crate::route::RouteKind;
use crate::session::{SessionId, SessionSelector, Shared, StartupContext, StartupProgress};

/// How long a worker waits after a failed accept, which usually means that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many clients to accept before running anything else.
const ACCEPTED_AT_ONCE: usize = 64;
/// The interval of a timer that runs during start-ups. It is shorter than any timeout of a start-up.
///
/// When a timer is registered that is due before all others of its thread, tokio wakes that thread: with a write to an
/// eventfd and an `epoll_wait` that returns at once. Every start-up registers timers for its timeouts, which hardly ever
/// fire. With this timer they are never the next one due.
const TICK: Duration = Duration::from_millis(50);

/// The accept loop, which runs a worker's thread.
pub(super) struct AcceptLoop {
    event_loop: EventLoop,
    inbox: mpsc::Receiver<WorkerCommand>,
    /// The command channel is closed: the worker ends with its last session.
    leaving: bool,
    acceptors: Acceptors,
    /// Until when no client is accepted.
    pause: Option<Instant>,
    failures: Seldom,
    handle: PoolHandle,
    startup_context: Rc<StartupContext>,
    /// The start-ups that are running. The panic of one was logged and affects no other.
    startups: FuturesUnordered<Startup>,
}

/// A running start-up, and how far it is.
struct Startup {
    progress: Rc<StartupProgress>,
    future: LocalBoxFuture<'static, thread::Result<Option<RelayedSession>>>,
}

impl Future for Startup {
    type Output = thread::Result<Option<RelayedSession>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.poll_unpin(context)
    }
}

impl AcceptLoop {
    pub(super) fn new(
        shared: Arc<Shared>,
        event_loop: EventLoop,
        inbox: mpsc::Receiver<WorkerCommand>,
        handle: PoolHandle,
    ) -> Self {
        Self {
            event_loop,
            inbox,
            leaving: false,
            acceptors: Acceptors::new(shared.settings.clone()),
            pause: None,
            failures: Seldom::default(),
            handle,
            startup_context: StartupContext::new(shared),
            startups: FuturesUnordered::new(),
        }
    }

    /// Runs until the command channel is closed and the last session has ended.
    pub(super) fn run(mut self, runtime: &Runtime) {
        let mut tick = {
            let _entered = runtime.enter();
            Box::pin(sleep(TICK))
        };
        while !(self.leaving && self.startups.is_empty() && self.event_loop.is_empty()) {
            if self.startups.is_empty() {
                self.advance(self.timeout());
            } else {
                runtime.block_on(self.run_startups(tick.as_mut()));
            }
        }
    }

    /// How long epoll may wait.
    fn timeout(&self) -> Option<Duration> {
        self.next_ready().into_iter().chain(self.event_loop.next_settles()).min()
    }

    /// Time until work that no epoll event will announce; `None` if there is none. Settling sessions are not included,
    /// because the tick is soon enough for them.
    fn next_ready(&self) -> Option<Duration> {
        let pause =
            || self.pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        let clients = self.acceptors.may_have_clients().then(pause);
        clients.into_iter().chain(self.event_loop.next_ready()).min()
    }

    /// Runs the event loop once, then commands, then accepts clients.
    fn advance(&mut self, timeout: Option<Duration>) {
        let ready = self.event_loop.advance(timeout);
        self.transfer_settled();
        for listener in ready.listeners {
            self.acceptors.mark_ready(listener);
        }
        if ready.woken {
            self.run_commands();
        }
        if self.acceptors.may_have_clients() && self.pause.is_none_or(|until| until <= Instant::now()) {
            self.accept();
        }
    }

    /// Runs the start-ups on tokio, and the event loop beside them.
    async fn run_startups(&mut self, mut tick: Pin<&mut Sleep>) {
        // Created anew each time: if it stayed registered, every message of a relay would also wake tokio's epoll.
        #[expect(
            deprecated,
            reason = "its replacement is unsafe for descriptors that may close; the event loop outlives this"
        )]
        let ready = match AsyncFd::with_interest(self.event_loop.descriptor(), Interest::READABLE) {
            Ok(ready) => ready,
            Err(error) => panic!("epoll cannot watch epoll: {error}"),
        };
        while !self.startups.is_empty() {
            let next_ready = self.next_ready();
            tokio::select! {
                Some(finished) = self.startups.next() => {
                    if let Ok(Some(relayed)) = finished {
                        relayed.session.begin();
                        self.event_loop.add(Box::new(relayed));
                    }
                    continue;
                }
                // Cleared before the event loop runs, so that an event in between is not missed.
                readable = ready.readable() => readable.into_iter().for_each(|mut readable| readable.clear_ready()),
                () = tick.as_mut() => tick.as_mut().reset(tokio::time::Instant::now() + TICK),
                () = wait(next_ready), if next_ready.is_some() => {}
            }
            self.advance(Some(Duration::ZERO));
        }
    }

    fn run_commands(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(WorkerCommand::Listen(listener)) => {
                    self.acceptors.add(listener, self.event_loop.registry())
                }
                Ok(WorkerCommand::Unlisten(route, addr)) => self.unlisten(route, addr),
                Ok(WorkerCommand::Relay(relayed)) => self.event_loop.add(relayed),
                Ok(WorkerCommand::Sessions(command)) => self.answer(command),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.leaving = true;
                    for (route, addr) in self.acceptors.addresses() {
                        self.unlisten(route, addr);
                    }
                    return;
                }
            }
        }
    }

    /// Accepts the clients that are waiting, up to a limit.
    fn accept(&mut self) {
        self.pause = None;
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.acceptors.next() {
                None => return,
                Some((route, Ok(client))) => self.start_client(route, client),
                Some((route, Err(error))) => {
                    let now = Instant::now();
                    if let Some(times) = self.failures.due(now) {
                        warn!(route = route.code(), %error, times, "cannot accept a client");
                    }
                    self.pause = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn unlisten(&mut self, route: RouteKind, addr: SocketAddr) {
        for client in self.acceptors.unlisten(route, addr, self.event_loop.registry()) {
            self.start_client(route, client);
        }
    }

    fn start_client(&self, route: RouteKind, client: Client) {
        let load = self.handle.add_client();
        let Some((progress, startup)) = Rc::clone(&self.startup_context).start(route, client) else { return };
        // Not an async block, which would store the start-up twice.
        let startup = startup.map(|session| session.map(|session| RelayedSession { session, load }));
        let future = AssertUnwindSafe(startup).catch_unwind().boxed_local();
        self.startups.push(Startup { progress, future });
    }

    /// Answers a question about sessions, whose asker may be gone.
    fn answer(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Page { cursor, limit, answer } => {
                let page = match cursor {
                    Cursor::Startups(after) => self.startups_after(after, limit),
                    Cursor::Relays(from) => self.event_loop.page(from, limit),
                };
                let _ = answer.send(page);
            }
            SessionCommand::Terminate { selector, answer } => {
                let (held, relayed) =
                    (self.terminate_startups(&selector), self.event_loop.terminate(&selector));
                let _ = answer.send(Terminated {
                    sessions: held.sessions + relayed.sessions,
                    unreadable: held.unreadable + relayed.unreadable,
                });
            }
        }
    }

    /// Snapshots of at most `limit` start-ups with a higher number than `after`, the lowest first.
    fn startups_after(&self, after: SessionId, limit: usize) -> Page {
        let mut later: Vec<&StartupProgress> =
            self.startups.iter().map(|startup| &*startup.progress).collect();
        later.retain(|progress| progress.id() > after);
        later.sort_unstable_by_key(|progress| progress.id());
        let more = later.len() > limit;
        later.truncate(limit);
        let now = clock::now();
        Page {
            sessions: later.iter().map(|progress| progress.snapshot(now)).collect(),
            next: Some(match later.last().filter(|_| more) {
                Some(last) => Cursor::Startups(last.id()),
                None => Cursor::Relays(0),
            }),
        }
    }

    fn terminate_startups(&self, selector: &SessionSelector) -> Terminated {
        let mut terminated = Terminated::default();
        for Startup { progress, .. } in &self.startups {
            if progress.is(selector) {
                progress.terminate();
                terminated.sessions += 1;
            } else if matches!(selector, SessionSelector::User(_)) && !progress.has_user() {
                terminated.unreadable += 1;
            }
        }
        terminated
    }

    /// Transfers settled sessions to workers that clearly have fewer.
    fn transfer_settled(&mut self) {
        for key in self.event_loop.take_settled() {
            let Some(transfer_permit) = self.handle.transfer_permit() else { return };
            if let Some(relayed) = self.event_loop.remove_for_transfer(key) {
                transfer_permit.transfer(relayed);
            }
        }
    }
}

/// Yields to the start-ups for this long; zero yields once.
async fn wait(time: Option<Duration>) {
    match time {
        Some(Duration::ZERO) => yield_now().await,
        time => sleep(time.unwrap_or_default()).await,
    }
}
