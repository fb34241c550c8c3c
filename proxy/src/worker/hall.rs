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
use super::{Order, Place, Rota};
use crate::session::{Arrivals, Session, Shared};
use crate::tally::RouteKind;

/// How long a worker waits after the operating system refused a connection, for lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many clients are accepted before others get their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// How often tokio is woken while clients arrive: more often than any bound of a login is due.
///
/// tokio lets a thread wake itself, with a write to an eventfd and an `epoll_wait` that ends at once, whenever a timer is
/// registered that is due before all others of the thread. Every login has timers for its bounds, and hardly any of them
/// is ever due; without this one several of them are the next one at their time.
const BEAT: Duration = Duration::from_millis(50);

/// A worker's thread.
pub(super) struct Hall {
    rota: Rota,
    inbox: mpsc::Receiver<Order>,
    /// Nobody can give orders any more.
    leaving: bool,
    acceptors: Acceptors,
    /// Until when nobody is accepted.
    pause: Option<Instant>,
    place: Place,
    arrivals: Rc<Arrivals>,
    /// Those who arrive now. One that panics was logged, and ends alone.
    arriving: FuturesUnordered<LocalBoxFuture<'static, thread::Result<Option<Session>>>>,
}

impl Hall {
    pub(super) fn new(shared: Arc<Shared>, rota: Rota, inbox: mpsc::Receiver<Order>, place: Place) -> Self {
        Self {
            rota,
            inbox,
            leaving: false,
            acceptors: Acceptors::new(shared.settings.clone()),
            pause: None,
            place,
            arrivals: Arrivals::new(shared),
            arriving: FuturesUnordered::new(),
        }
    }

    /// Serves until nobody can give orders any more and the last session has ended.
    pub(super) fn serve(mut self, runtime: &Runtime) {
        let mut beat = {
            let _entered = runtime.enter();
            Box::pin(sleep(BEAT))
        };
        while !(self.leaving && self.arriving.is_empty() && self.rota.is_empty()) {
            if self.arriving.is_empty() {
                self.advance(self.patience());
            } else {
                runtime.block_on(self.receive(beat.as_mut()));
            }
        }
    }

    /// How long everybody may wait.
    fn patience(&self) -> Option<Duration> {
        self.urgency().into_iter().chain(self.rota.next_settles()).min()
    }

    /// How long those may wait whom nothing else will call, if there are any. The beat is soon enough for what settles.
    fn urgency(&self) -> Option<Duration> {
        let pause =
            || self.pause.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        let clients = self.acceptors.may_have_clients().then(pause);
        clients.into_iter().chain(self.rota.urgency()).min()
    }

    /// Lets the relays advance, follows orders, and accepts.
    fn advance(&mut self, patience: Option<Duration>) {
        let calls = self.rota.advance(patience);
        self.hand_over();
        for listener in calls.listeners {
            self.acceptors.note(listener);
        }
        if calls.bell {
            self.follow_orders();
        }
        if self.acceptors.may_have_clients() && self.pause.is_none_or(|until| until <= Instant::now()) {
            self.accept();
        }
    }

    /// Has tokio bring the clients to their servers, and serves the relays beside them.
    async fn receive(&mut self, mut beat: Pin<&mut Sleep>) {
        // Not kept, because epoll would tell the other epoll of every message.
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe for descriptors that may close; the rota outlives this"
        )]
        let ready = match AsyncFd::with_interest(self.rota.descriptor(), Interest::READABLE) {
            Ok(ready) => ready,
            Err(error) => panic!("epoll cannot watch epoll: {error}"),
        };
        while !self.arriving.is_empty() {
            let urgency = self.urgency();
            tokio::select! {
                Some(arrived) = self.arriving.next() => {
                    if let Ok(Some(session)) = arrived {
                        session.begin();
                        self.rota.adopt(Box::new(session));
                    }
                    continue;
                }
                // Cleared before the look, so that nothing can come between the two.
                told = ready.readable() => told.into_iter().for_each(|mut told| told.clear_ready()),
                () = beat.as_mut() => beat.as_mut().reset(tokio::time::Instant::now() + BEAT),
                () = rest(urgency), if urgency.is_some() => {}
            }
            self.advance(Some(Duration::ZERO));
        }
    }

    fn follow_orders(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Listen(listener)) => self.acceptors.adopt(listener, self.rota.registry()),
                Ok(Order::Unlisten(route, addr)) => self.let_go(route, addr),
                Ok(Order::Relay(session)) => self.rota.adopt(session),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.leaving = true;
                    for (route, addr) in self.acceptors.addresses() {
                        self.let_go(route, addr);
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
                Some((route, Ok(client))) => self.welcome(route, client),
                Some((route, Err(error))) => {
                    warn!(route = route.code(), %error, "cannot accept a client");
                    self.pause = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn let_go(&mut self, route: RouteKind, addr: SocketAddr) {
        for client in self.acceptors.let_go(route, addr, self.rota.registry()) {
            self.welcome(route, client);
        }
    }

    fn welcome(&self, route: RouteKind, client: Client) {
        let bringing = Rc::clone(&self.arrivals).bring(route, client, self.place.seat());
        self.arriving.push(AssertUnwindSafe(bringing).catch_unwind().boxed_local());
    }

    /// Hands sessions that have settled to workers that have clearly fewer.
    fn hand_over(&mut self) {
        for key in self.rota.take_settled() {
            let Some(vacancy) = self.place.vacancy() else { return };
            if let Some(session) = self.rota.release(key) {
                vacancy.fill(session);
            }
        }
    }
}

/// Lets others do something for that long; nothing may mean not at all.
async fn rest(time: Option<Duration>) {
    match time {
        Some(Duration::ZERO) => yield_now().await,
        time => sleep(time.unwrap_or_default()).await,
    }
}
