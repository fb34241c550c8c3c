//! The rota: whose turn it is. The relays of one worker, and the loop around epoll in which each advances when it can.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token};
use slab::Slab;
use tracing::warn;

use super::balance::RelayedSession;
use super::{LISTENERS, LoopWaker, WAKE};
use crate::admission::Grant;
use crate::clock;
use crate::session::{End, Progress, Scratch, Side};

/// How many sockets epoll may speak of at once.
const EVENTS: usize = 256;
/// How long a session waits for control to decide about a pass that has run out; control does so at that very moment.
const GRANT_WAIT: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const GRANT_POLL: Duration = Duration::from_millis(5);

/// The relays of one worker.
pub(super) struct EventLoop {
    poll: Poll,
    events: Events,
    waker: Arc<LoopWaker>,
    sessions: Slab<Box<RelayedSession>>,
    scratch: Scratch,
    grants: Vec<WatchedGrant>,
    /// Epoll had more to say than was asked at once.
    events_left: bool,
    /// Sessions that have more to do than was fair.
    unfinished: Vec<usize>,
    /// When sessions will have settled, some of which have ended since.
    settling: VecDeque<(Instant, usize)>,
    /// Sessions that have settled and may be handed over.
    settled: Vec<usize>,
    /// Sessions whose pass has run out, and until when they wait.
    suspended: Vec<(Instant, usize)>,
}

/// A pass that sessions here hold.
struct WatchedGrant {
    grant: Arc<Grant>,
    /// Rings the bell, as long as it is kept.
    _revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// For what else than relays epoll has called.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// There may be orders.
    pub(super) woken: bool,
    /// Listening sockets on which clients wait.
    pub(super) listeners: Vec<Token>,
}

/// What epoll calls the sockets of the session with this key: its client's and its server's.
const fn tokens(key: usize) -> [Token; 2] {
    [Token(2 * key), Token(2 * key + 1)]
}

/// The opposite.
const fn session(Token(token): Token) -> (usize, Side) {
    (token / 2, if token & 1 == 0 { Side::Client } else { Side::Server })
}

impl EventLoop {
    pub(super) fn new(poll: Poll, waker: Arc<LoopWaker>) -> Self {
        Self {
            poll,
            events: Events::with_capacity(EVENTS),
            waker,
            sessions: Slab::new(),
            scratch: Scratch::default(),
            grants: Vec::new(),
            events_left: false,
            unfinished: Vec::new(),
            settling: VecDeque::new(),
            settled: Vec::new(),
            suspended: Vec::new(),
        }
    }

    /// Where further sockets are watched.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// What is readable when a socket is ready.
    pub(super) fn descriptor(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How long those may wait whom no socket will call, if there are any.
    pub(super) fn next_ready(&self) -> Option<Duration> {
        if self.events_left || !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        (!self.suspended.is_empty()).then_some(GRANT_POLL)
    }

    /// How long until the next session has settled.
    pub(super) fn next_settles(&self) -> Option<Duration> {
        self.settling.front().map(|(until, _)| until.saturating_duration_since(Instant::now()))
    }

    /// Waits until a socket is ready or the patience is over, and gives everybody their turn.
    pub(super) fn advance(&mut self, timeout: Option<Duration>) -> Ready {
        let mut ready = Ready::default();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return ready,
            Err(error) => panic!("epoll has failed: {error}"),
            Ok(()) => {}
        }
        // Taken out, because whoever has the turn may change everything else.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            match event.token() {
                WAKE => ready.woken = true,
                token if LISTENERS.contains(&token.0) => ready.listeners.push(token),
                token => self.dispatch(token, event),
            }
        }
        self.events = events;
        self.events_left = count == EVENTS;
        self.run_pending();
        if ready.woken {
            self.end_revoked();
        }
        ready
    }

    /// Takes a session in and gives it its first turn. Never while epoll's events are looked at: they may speak of a session
    /// that has ended, and whose place is given away here.
    pub(super) fn add(&mut self, mut relayed: Box<RelayedSession>) {
        let key = self.sessions.vacant_key();
        let relay = &mut relayed.session.relay;
        if let Err(error) = relay.register(self.poll.registry(), tokens(key)) {
            warn!(%error, "cannot watch a session");
            return;
        }
        let (grant, settles_at) = (Arc::clone(relay.grant()), relay.settles_at());
        self.watch_grant(&grant);
        if let Some(at) = settles_at {
            self.settling.push_back((at, key));
        }
        self.sessions.insert(relayed);
        // It looks at the pass after it is watched, so no revocation can come between the two.
        self.run(key);
    }

    /// Those who have settled since this was last asked.
    pub(super) fn take_settled(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.settled)
    }

    /// Gives a session away.
    pub(super) fn remove_for_transfer(&mut self, key: usize) -> Option<Box<RelayedSession>> {
        let mut relayed = self.remove(key)?;
        match relayed.session.relay.deregister(self.poll.registry()) {
            Ok(()) => Some(relayed),
            Err(error) => {
                warn!(%error, "cannot cease to watch a session");
                None
            }
        }
    }

    fn dispatch(&mut self, token: Token, event: &Event) {
        let (key, side) = session(token);
        if let Some(relayed) = self.sessions.get_mut(key) {
            relayed.session.relay.record_event(side, event);
            self.run(key);
        }
    }

    /// Gives a session its turn.
    fn run(&mut self, key: usize) {
        let Some(relayed) = self.sessions.get_mut(key) else { return };
        let (relay, scratch) = (&mut relayed.session.relay, &mut self.scratch);
        match catch_unwind(AssertUnwindSafe(|| relay.advance(scratch))) {
            Ok(Progress::Blocked) if relay.needs_write_interest() => {
                if let Err(error) = relay.add_write_interest(self.poll.registry(), tokens(key)) {
                    self.end(key, &End::ClientFailed(error));
                }
            }
            Ok(Progress::Blocked) => {}
            Ok(Progress::Unfinished) => self.unfinished.push(key),
            Ok(Progress::GrantExpired) => self.suspend(key),
            Ok(Progress::Ended(end)) => self.end(key, &end),
            // It was logged, and ends alone.
            Err(_) => drop(self.remove(key)),
        }
    }

    fn suspend(&mut self, key: usize) {
        if self.suspended.iter().all(|(_, known)| *known != key) {
            self.suspended.push((Instant::now() + GRANT_WAIT, key));
        }
    }

    fn end(&mut self, key: usize, end: &End) {
        if let Some(relayed) = self.remove(key) {
            relayed.end(end);
        }
    }

    fn remove(&mut self, key: usize) -> Option<Box<RelayedSession>> {
        self.suspended.retain(|(_, known)| *known != key);
        self.sessions.try_remove(key)
    }

    /// Has the end of a pass ring the bell.
    fn watch_grant(&mut self, grant: &Arc<Grant>) {
        if self.grants.iter().any(|known| Arc::ptr_eq(&known.grant, grant)) {
            return;
        }
        let ends = Arc::clone(grant);
        let mut revoked: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(async move { ends.revoked().await });
        let waker = Waker::from(Arc::clone(&self.waker));
        if revoked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.grants.push(WatchedGrant { grant: Arc::clone(grant), _revoked: revoked });
        }
    }

    /// Ends the sessions whose pass was revoked.
    fn end_revoked(&mut self) {
        if self.grants.extract_if(.., |watched| watched.grant.is_revoked()).count() == 0 {
            return;
        }
        let revoked = self.sessions.iter().filter(|(_, relayed)| relayed.session.relay.grant().is_revoked());
        let revoked: Vec<usize> = revoked.map(|(key, _)| key).collect();
        for key in revoked {
            self.end(key, &End::Terminated);
        }
    }

    /// Gives their turn to those whom no socket calls.
    fn run_pending(&mut self) {
        for key in std::mem::take(&mut self.unfinished) {
            self.run(key);
        }
        if !self.settling.is_empty() {
            self.settle(Instant::now());
        }
        for (until, key) in std::mem::take(&mut self.suspended) {
            let Some(relayed) = self.sessions.get(key) else { continue };
            if relayed.session.relay.grant().allows(clock::now()) {
                self.run(key);
            } else if until <= Instant::now() {
                self.end(key, &End::Terminated);
            } else {
                self.suspended.push((until, key));
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        let due = self.settling.partition_point(|(at, _)| *at <= now);
        for (at, key) in self.settling.drain(..due) {
            // Another session may have the place by now, which has its own time.
            let relay = self.sessions.get_mut(key).map(|relayed| &mut relayed.session.relay);
            if let Some(relay) = relay.filter(|relay| relay.settles_at() == Some(at)) {
                relay.settle();
                self.settled.push(key);
            }
        }
        if self.settling.is_empty() {
            // After a rush it would keep room for all who came.
            self.settling.shrink_to(EVENTS);
        }
    }
}
