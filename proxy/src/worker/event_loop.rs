//! The event loop of a worker: waits for epoll, and advances the relays whose sockets are ready.

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
use super::sessions::{Cursor, Page, Terminated};
use super::turns::Turns;
use super::{LISTENERS, LoopWaker, WAKE};
use crate::admission::Grant;
use crate::clock;
use crate::counters::WorkerBytes;
use crate::session::{End, Progress, Scratch, SessionSelector, Side};

/// How many events to take from epoll at once.
const EVENTS: usize = 256;
/// How many rounds a session may run at an event. That is enough for a session whose query and answer fit into the scratch
/// buffer. Whoever has more to do waits for a turn.
const EVENT_ROUNDS: usize = 1;
/// How many rounds a turn has. The loop takes new events between two turns, so an interactive session waits for one turn of
/// a bulk stream at most.
const TURN_ROUNDS: usize = 8;
/// How long a session with an expired grant waits for control to extend or revoke it. Control is due at the same moment.
const GRANT_WAIT: Duration = Duration::from_secs(2);
/// How often to check the grant meanwhile.
const GRANT_POLL: Duration = Duration::from_millis(5);
/// How often to check whether a session that is to end when idle has become idle without an event.
const IDLE_POLL: Duration = Duration::from_millis(250);

/// The relays of one worker.
pub(super) struct EventLoop {
    poll: Poll,
    events: Events,
    waker: Arc<LoopWaker>,
    sessions: Slab<Box<RelayedSession>>,
    scratch: Scratch,
    bytes: Arc<WorkerBytes>,
    grants: Vec<WatchedGrant>,
    /// Epoll filled the event buffer, so there may be more events.
    events_left: bool,
    /// Sessions that used up their rounds and have more to do.
    unfinished: Turns,
    /// When sessions settle, in order. Some of them may have ended.
    settling: VecDeque<(Instant, usize)>,
    /// Sessions that have settled and may be transferred.
    settled: Vec<usize>,
    /// Sessions whose grant has expired, and until when they wait.
    suspended: Vec<(Instant, usize)>,
    /// Sessions that are to end as soon as they are idle.
    leaving: Vec<usize>,
}

/// A grant of sessions of this worker.
struct WatchedGrant {
    grant: Arc<Grant>,
    /// Wakes the worker when the grant changes, as long as it is not dropped.
    change: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl WatchedGrant {
    fn new(grant: &Arc<Grant>) -> Self {
        Self { grant: Arc::clone(grant), change: change_of(grant) }
    }

    /// Makes the next change wake the worker. The caller must check the grant afterwards.
    fn arm(&mut self, context: &mut Context<'_>) {
        while self.change.as_mut().poll(context).is_ready() {
            self.change = change_of(&self.grant);
        }
    }
}

fn change_of(grant: &Arc<Grant>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let grant = Arc::clone(grant);
    Box::pin(async move { grant.changed().await })
}

/// What epoll reported besides the sockets of relays.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The worker was woken: there may be commands.
    pub(super) woken: bool,
    /// Listening sockets with waiting clients.
    pub(super) listeners: Vec<Token>,
}

/// The epoll tokens of a session's sockets: its client's and its server's.
const fn tokens(key: usize) -> [Token; 2] {
    [Token(2 * key), Token(2 * key + 1)]
}

/// The session and the side that a token belongs to.
const fn session(Token(token): Token) -> (usize, Side) {
    (token / 2, if token & 1 == 0 { Side::Client } else { Side::Server })
}

impl EventLoop {
    pub(super) fn new(poll: Poll, waker: Arc<LoopWaker>, bytes: Arc<WorkerBytes>) -> Self {
        Self {
            poll,
            events: Events::with_capacity(EVENTS),
            waker,
            sessions: Slab::new(),
            scratch: Scratch::default(),
            bytes,
            grants: Vec::new(),
            events_left: false,
            unfinished: Turns::default(),
            settling: VecDeque::new(),
            settled: Vec::new(),
            suspended: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// Registers further sockets with epoll.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The epoll descriptor, which is readable when a socket is ready.
    pub(super) fn descriptor(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Time until work that no epoll event will announce; `None` if there is none.
    pub(super) fn next_ready(&self) -> Option<Duration> {
        if self.events_left || !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let polls = [(&self.suspended.is_empty(), GRANT_POLL), (&self.leaving.is_empty(), IDLE_POLL)];
        polls.into_iter().filter(|(empty, _)| !**empty).map(|(_, poll)| poll).min()
    }

    /// Time until the next session settles.
    pub(super) fn next_settles(&self) -> Option<Duration> {
        self.settling.front().map(|(until, _)| until.saturating_duration_since(Instant::now()))
    }

    /// Waits for epoll events for at most `timeout`, and runs the sessions that have something to do.
    pub(super) fn advance(&mut self, timeout: Option<Duration>) -> Ready {
        let mut ready = Ready::default();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return ready,
            Err(error) => panic!("epoll has failed: {error}"),
            Ok(()) => {}
        }
        // Taken out of `self`, which the sessions need mutably.
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
            self.check_grants();
        }
        ready
    }

    /// Adds a session and runs it for the first time. Must not be called while epoll's events are processed: the session
    /// may get the key of one that has just ended, to which later events still refer.
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
        if grant.ends_when_idle() {
            self.leaving.push(key);
        }
        // It checks the grant after it is watched, so that a revocation in between is not missed.
        self.run_now(key);
    }

    /// The sessions that have settled since the last call.
    pub(super) fn take_settled(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.settled)
    }

    /// Removes a session without ending it, so that another worker can relay it.
    pub(super) fn remove_for_transfer(&mut self, key: usize) -> Option<Box<RelayedSession>> {
        let mut relayed = self.remove(key)?;
        match relayed.session.relay.deregister(self.poll.registry()) {
            Ok(()) => Some(relayed),
            Err(error) => {
                warn!(%error, "cannot stop watching a session");
                None
            }
        }
    }

    /// Snapshots of at most `limit` sessions, from this key on.
    pub(super) fn page(&self, from: usize, limit: usize) -> Page {
        let now = clock::now();
        let until = from.saturating_add(limit);
        let sessions = (from..until).filter_map(|key| self.sessions.get(key));
        Page {
            sessions: sessions.map(|relayed| relayed.session.snapshot(now)).collect(),
            next: (until < self.sessions.capacity()).then_some(Cursor::Relays(until)),
        }
    }

    /// Ends the sessions that `selector` means. Must not be called while epoll's events are processed.
    pub(super) fn terminate(&mut self, selector: &SessionSelector) -> Terminated {
        let by_user = matches!(selector, SessionSelector::User(_));
        let unknown = |relayed: &RelayedSession| by_user && !relayed.session.has_user();
        let unreadable = self.sessions.iter().filter(|(_, relayed)| unknown(relayed)).count();
        let meant = self.sessions.iter().filter(|(_, relayed)| relayed.session.is(selector));
        let meant: Vec<usize> = meant.map(|(key, _)| key).collect();
        meant.iter().for_each(|key| self.end(*key, &End::TerminatedByOperator));
        Terminated { sessions: meant.len() as u64, unreadable: unreadable as u64 }
    }

    fn dispatch(&mut self, token: Token, event: &Event) {
        let (key, side) = session(token);
        if let Some(relayed) = self.sessions.get_mut(key) {
            relayed.session.relay.record_event(side, event);
            self.run_now(key);
        }
    }

    /// Advances a session, unless it waits for its turn anyway.
    fn run_now(&mut self, key: usize) {
        if !self.unfinished.waits(key) {
            self.run(key, EVENT_ROUNDS);
        }
    }

    /// Advances a session and acts on the result.
    fn run(&mut self, key: usize, rounds: usize) {
        let Some(relayed) = self.sessions.get_mut(key) else { return };
        let route = relayed.session.route();
        let (relay, scratch) = (&mut relayed.session.relay, &mut self.scratch);
        let [to_server, to_client] = relay.bytes_passed();
        let progress = catch_unwind(AssertUnwindSafe(|| relay.advance(scratch, rounds)));
        let passed = relay.bytes_passed();
        self.bytes.add(route, [passed[0] - to_server, passed[1] - to_client]);
        match progress {
            Ok(Progress::Blocked) if relay.grant().ends_when_idle() && relay.is_idle(clock::now()) => {
                self.end(key, &End::Terminated);
            }
            Ok(Progress::Blocked) if relay.needs_write_interest() => {
                if let Err(error) = relay.add_write_interest(self.poll.registry(), tokens(key)) {
                    self.end(key, &End::ClientFailed(error));
                }
            }
            Ok(Progress::Blocked) => {}
            Ok(Progress::Unfinished) => self.unfinished.push(key),
            Ok(Progress::GrantExpired) => self.suspend(key),
            Ok(Progress::Ended(end)) => self.end(key, &end),
            // The panic was logged, and ends only this session.
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
        self.unfinished.remove(key);
        self.sessions.try_remove(key)
    }

    /// Makes a change of a grant wake this worker.
    fn watch_grant(&mut self, grant: &Arc<Grant>) {
        if self.grants.iter().any(|known| Arc::ptr_eq(&known.grant, grant)) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.waker));
        let mut watched = WatchedGrant::new(grant);
        watched.arm(&mut Context::from_waker(&waker));
        self.grants.push(watched);
    }

    /// Ends the sessions whose grant was revoked, and finds those that are to end when they are idle.
    fn check_grants(&mut self) {
        let waker = Waker::from(Arc::clone(&self.waker));
        let mut context = Context::from_waker(&waker);
        self.grants.iter_mut().for_each(|watched| watched.arm(&mut context));
        if self.grants.extract_if(.., |watched| watched.grant.is_revoked()).count() > 0 {
            for key in self.sessions_with(Grant::is_revoked) {
                self.end(key, &End::Terminated);
            }
        }
        if self.grants.iter().any(|watched| watched.grant.ends_when_idle()) {
            self.leaving = self.sessions_with(Grant::ends_when_idle);
        }
    }

    fn sessions_with(&self, is: impl Fn(&Grant) -> bool) -> Vec<usize> {
        let sessions = self.sessions.iter().filter(|(_, relayed)| is(relayed.session.relay.grant()));
        sessions.map(|(key, _)| key).collect()
    }

    /// Runs the sessions that have something to do without an event.
    fn run_pending(&mut self) {
        if let Some(key) = self.unfinished.next() {
            self.run(key, TURN_ROUNDS);
        }
        if !self.settling.is_empty() {
            self.settle(Instant::now());
        }
        for (until, key) in std::mem::take(&mut self.suspended) {
            let Some(relayed) = self.sessions.get(key) else { continue };
            let (grant, now) = (relayed.session.relay.grant(), clock::now());
            if grant.allows(now) {
                self.run_now(key);
            } else if until <= Instant::now() && !grant.is_kept(now) {
                self.end(key, &End::Terminated);
            } else {
                self.suspended.push((until, key));
            }
        }
        for key in std::mem::take(&mut self.leaving) {
            let Some(relayed) = self.sessions.get(key) else { continue };
            let relay = &relayed.session.relay;
            match relay.grant().ends_when_idle() {
                true if relay.is_idle(clock::now()) => self.end(key, &End::Terminated),
                true => self.leaving.push(key),
                false => {}
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        let due = self.settling.partition_point(|(at, _)| *at <= now);
        for (at, key) in self.settling.drain(..due) {
            // The key may belong to another session by now, which settles at another time.
            let relay = self.sessions.get_mut(key).map(|relayed| &mut relayed.session.relay);
            if let Some(relay) = relay.filter(|relay| relay.settles_at() == Some(at)) {
                relay.settle();
                self.settled.push(key);
            }
        }
        if self.settling.is_empty() {
            // After a burst of clients the queue would keep its memory.
            self.settling.shrink_to(EVENTS);
        }
    }
}
