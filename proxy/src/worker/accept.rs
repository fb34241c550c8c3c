//! The hall of a worker: where clients arrive, and where they are brought from to the relays.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
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
use super::{EventLoop, PoolHandle, RelayedSession, WorkerCommand};
use crate::route::RouteKind;
use crate::session::{Shared, StartupContext};

/// How long a worker waits after the operating system refused a connection, for lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many clients are accepted before others get their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// How often tokio is woken while clients arrive: more often than any bound of a login is due.
///
/// tokio lets a thread wake itself, with a write to an eventfd and an `epoll_wait` that ends at once, whenever a timer is
/// registered that is due before all others of the thread. Every login has timers for its bounds, and hardly any of them
/// is ever due; without this one several of them are the next one at their time.
const TICK: Duration = Duration::from_millis(50);

/// A worker's thread.
pub(super) struct AcceptLoop {
    event_loop: EventLoop,
    inbox: mpsc::Receiver<WorkerCommand>,
    /// Nobody can give orders any more.
    leaving: bool,
    acceptors: Acceptors,
    /// Until when nobody is accepted.
    pause: Option<Instant>,
    handle: PoolHandle,
    startup_context: Rc<StartupContext>,
    /// Those who arrive now. One that panics was logged, and ends alone.
    startups: FuturesUnordered<LocalBoxFuture<'static, thread::Result<Option<RelayedSession>>>>,
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
            handle,
            startup_context: StartupContext::new(shared),
            startups: FuturesUnordered::new(),
        }
    }

    /// Serves until nobody can give orders any more and the last session has ended.
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

    /// How long everybody may wait.
    fn timeout(&self) -> Option<Duration> {
        self.next_ready().into_iter().chain(self.event_loop.next_settles()).min()
    }

    /// How long those may wait whom nothing else will call, if there are any. The beat is soon enough for what settles.
    fn next_ready(&self) -> Option<Duration> {
        let pause =
            || self.pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        let clients = self.acceptors.may_have_clients().then(pause);
        clients.into_iter().chain(self.event_loop.next_ready()).min()
    }

    /// Lets the relays advance, follows orders, and accepts.
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

    /// Has tokio bring the clients to their servers, and serves the relays beside them.
    async fn run_startups(&mut self, mut tick: Pin<&mut Sleep>) {
        // Not kept, because epoll would tell the other epoll of every message.
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe for descriptors that may close; the event loop outlives this"
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
                // Cleared before the look, so that nothing can come between the two.
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

    /// Accepts whoever is there, but for no longer than is fair.
    fn accept(&mut self) {
        self.pause = None;
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.acceptors.next() {
                None => return,
                Some((route, Ok(client))) => self.start_client(route, client),
                Some((route, Err(error))) => {
                    warn!(route = route.code(), %error, "cannot accept a client");
                    self.pause = Some(Instant::now() + ACCEPT_PAUSE);
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
        let startup = Rc::clone(&self.startup_context).start(route, client);
        // Not an async block, which would keep room for the start-up twice.
        let startup = startup.map(|session| session.map(|session| RelayedSession { session, load }));
        self.startups.push(AssertUnwindSafe(startup).catch_unwind().boxed_local());
    }

    /// Hands sessions that have settled to workers that have clearly fewer.
    fn transfer_settled(&mut self) {
        for key in self.event_loop.take_settled() {
            let Some(transfer_permit) = self.handle.transfer_permit() else { return };
            if let Some(relayed) = self.event_loop.remove_for_transfer(key) {
                transfer_permit.transfer(relayed);
            }
        }
    }
}

/// Lets others do something for that long; nothing may mean not at all.
async fn wait(time: Option<Duration>) {
    match time {
        Some(Duration::ZERO) => yield_now().await,
        time => sleep(time.unwrap_or_default()).await,
    }
}
