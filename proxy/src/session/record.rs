//! Records of sessions: their number, and what is known of each from its beginning on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment};
use tokio::sync::Notify;

use super::identity::Identity;
use super::snapshot::{SessionSelector, SessionSnapshot, SessionState};
use crate::clock;
use crate::route::RouteKind;
use crate::wire::FirstPacket;

/// The number of a session, counted from 1 since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is kept of a session that is relayed, beside what the relay needs.
///
/// It is boxed: a session's own record then still fits into 320 bytes, a size of which the allocator wastes nothing.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) accepted_at: Moment,
    /// How long it waited for a server, in milliseconds.
    pub(super) waited_ms: u32,
    /// From the accepted connection to the server's first answer, in milliseconds.
    pub(super) first_byte_ms: u32,
    /// `None` if the client is encrypted or has not said it yet.
    pub(super) identity: Option<Identity>,
}

/// A client until it has a server, as far as others may see it.
#[derive(Debug)]
pub(crate) struct StartupProgress {
    pub(super) id: SessionId,
    pub(super) route: RouteKind,
    peer: Cell<SocketAddr>,
    pub(super) accepted_at: Moment,
    state: Cell<SessionState>,
    waited: Cell<Duration>,
    member: RefCell<Option<MemberName>>,
    identity: RefCell<Option<Identity>>,
    terminated: Cell<bool>,
    change: Notify,
}

impl StartupProgress {
    pub(super) fn new(id: SessionId, route: RouteKind, peer: SocketAddr) -> Self {
        Self {
            id,
            route,
            peer: Cell::new(peer),
            accepted_at: clock::now(),
            state: Cell::new(SessionState::Starting),
            waited: Cell::default(),
            member: RefCell::default(),
            identity: RefCell::default(),
            terminated: Cell::default(),
            change: Notify::new(),
        }
    }

    /// The balancer has told the client's address.
    pub(super) fn set_client(&self, client: SocketAddr) {
        self.peer.set(client);
    }

    /// The client has sent its first packet.
    pub(super) fn set_packet(&self, packet: &FirstPacket) {
        if let FirstPacket::StartupMessage(startup) = packet {
            *self.identity.borrow_mut() = Some(Identity::new(startup));
        }
    }

    /// The client waits for a server.
    pub(super) fn set_held(&self) {
        self.state.set(SessionState::Held);
        *self.member.borrow_mut() = None;
    }

    /// The client has waited for this long.
    pub(super) fn add_waited(&self, waited: Duration) {
        self.waited.set(self.waited.get() + waited);
    }

    /// The client is being connected to this member.
    pub(super) fn set_connecting(&self, member: &MemberName) {
        self.state.set(SessionState::Connecting);
        *self.member.borrow_mut() = Some(member.clone());
    }

    /// How long the client has waited for a server.
    pub(super) const fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Ends the start-up, as soon as the client's first packet is there.
    pub(crate) fn terminate(&self) {
        self.terminated.set(true);
        self.change.notify_one();
    }

    /// Waits until [`terminate`](Self::terminate) is called, now or before.
    pub(super) async fn terminated(&self) {
        while !self.terminated.get() {
            self.change.notified().await;
        }
    }

    /// Whether this is a session that `selector` means.
    pub(crate) fn is(&self, selector: &SessionSelector) -> bool {
        selector.means(self.id, self.member.borrow().as_ref(), self.identity.borrow().as_ref())
    }

    /// Whether the client's user is known.
    pub(crate) fn has_user(&self) -> bool {
        self.identity.borrow().is_some()
    }

    /// The number of the session.
    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }

    /// The record of the session, now that a server has answered.
    pub(super) fn record(&self) -> Box<SessionRecord> {
        Box::new(SessionRecord {
            id: self.id,
            accepted_at: self.accepted_at,
            waited_ms: ms(self.waited()),
            first_byte_ms: ms(clock::now().since(self.accepted_at)),
            identity: self.identity.take(),
        })
    }

    /// The start-up as it is now.
    pub(crate) fn snapshot(&self, now: Moment) -> SessionSnapshot {
        SessionSnapshot {
            id: self.id,
            route: self.route,
            client: self.peer.get(),
            state: self.state.get(),
            member: self.member.borrow().clone(),
            server_port: None,
            identity: self.identity.borrow().clone(),
            age: now.since(self.accepted_at),
            idle: None,
            waited: self.waited(),
            bytes_to_server: 0,
            bytes_to_client: 0,
        }
    }
}

/// Whole milliseconds.
fn ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
