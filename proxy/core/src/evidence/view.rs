//! What is known of one member: its record, and what the servers at its addresses say.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::{Member, ServerAddr};
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeConnection, ProbeFailure, ProbeReply};

/// What is known from asking one socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketView {
    /// Where it is asked; `None` as long as the address has not led anywhere.
    pub socket: Option<SocketAddr>,
    /// The last reply, unless the server was found down since.
    pub reply: Option<Stamped<ProbeReply>>,
    /// The last failure over the kept connection, unless the server answered since.
    pub failure: Option<Stamped<ProbeFailure>>,
    /// The last failure of a new connection, unless one was made since.
    pub connect_failure: Option<Stamped<ProbeFailure>>,
    /// When the last question was sent that found the server down: no reply to an older one counts.
    down: Option<Moment>,
    /// When the newest connection was asked for that was made.
    connected: Option<Moment>,
}

impl SocketView {
    const fn at(socket: SocketAddr) -> Self {
        Self {
            socket: Some(socket),
            reply: None,
            failure: None,
            connect_failure: None,
            down: None,
            connected: None,
        }
    }

    /// The reply, if it is no older than `limit` at `now`.
    pub fn fresh_reply(&self, now: Moment, limit: Duration) -> Option<Stamped<ProbeReply>> {
        self.reply.filter(|reply| now < reply.sent + limit)
    }

    /// Whether the server has ever answered here.
    pub const fn has_replied(&self) -> bool {
        self.connected.is_some()
    }

    /// Whether the server was found down and has not answered since.
    pub const fn is_down(&self) -> bool {
        self.down.is_some() && self.reply.is_none()
    }

    /// Why a new session would not be taken, although the kept connection answers.
    pub fn keeps_users_out(&self) -> Option<ProbeFailure> {
        self.connect_failure.map(|failure| failure.fact).filter(|failure| failure.keeps_users_out())
    }

    pub(super) fn record(
        &mut self,
        connection: ProbeConnection,
        sent: Moment,
        outcome: Result<ProbeReply, ProbeFailure>,
    ) {
        match (outcome, connection) {
            (Ok(reply), ProbeConnection::New) => self.record_reply(sent, Stamped { sent, fact: reply }),
            (Ok(reply), ProbeConnection::Persistent { since }) => {
                self.record_reply(since, Stamped { sent, fact: reply });
            }
            (Err(failure), ProbeConnection::New) => self.record_refusal(Stamped { sent, fact: failure }),
            (Err(failure), ProbeConnection::Persistent { .. }) => {
                self.record_failure(Stamped { sent, fact: failure });
            }
        }
    }

    fn record_reply(&mut self, connected: Moment, reply: Stamped<ProbeReply>) {
        self.connected = self.connected.max(Some(connected));
        self.connect_failure = self.connect_failure.filter(|failure| Some(failure.sent) > self.connected);
        if Some(reply.sent) >= self.last_reply().max(self.down) {
            self.reply = Some(reply);
            self.failure = self.failure.filter(|failure| failure.sent > reply.sent);
        }
    }

    /// A new connection says whether users get in, and never whether the server is down: the kept one does that.
    fn record_refusal(&mut self, failure: Stamped<ProbeFailure>) {
        let newest = self.connect_failure.map(|known| known.sent).max(self.connected);
        if Some(failure.sent) > newest {
            self.connect_failure = Some(failure);
        }
    }

    /// A failure that does not mean "down" only explains why no reply comes; it never hides one.
    fn record_failure(&mut self, failure: Stamped<ProbeFailure>) {
        let sent = Some(failure.sent);
        if sent < self.last_reply() {
            return;
        }
        if failure.fact.means_down() {
            self.reply = None;
            self.down = self.down.max(sent);
        }
        if sent >= self.failure.map(|known| known.sent) {
            self.failure = Some(failure);
        }
    }

    fn last_reply(&self) -> Option<Moment> {
        self.reply.map(|reply| reply.sent)
    }
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberView {
    /// The last record of it.
    pub record: Member,
    /// Since when its published address is what it is, or leads where it does.
    pub published_since: Moment,
    /// Since when the cluster does not name it any more.
    pub departed: Option<Moment>,
    /// The server at the address that is published now.
    pub published: SocketView,
    /// The server that sessions are still on, when the published address does not lead to it any more.
    pub former: Option<SocketView>,
}

impl MemberView {
    pub(super) fn new(record: Member, now: Moment) -> Self {
        Self { record, published_since: now, departed: None, published: SocketView::default(), former: None }
    }

    /// Both servers that are asked as this member.
    pub fn views(&self) -> impl Iterator<Item = &SocketView> {
        [&self.published].into_iter().chain(&self.former)
    }

    /// The cluster names it, with this record.
    pub(super) fn list(&mut self, record: Member, now: Moment) {
        if record.addr != self.record.addr {
            self.leave_published(SocketView::default(), now);
        }
        self.record = record;
        self.departed = None;
    }

    /// Its address leads to `socket` now.
    pub(super) fn resolve(&mut self, addr: &ServerAddr, socket: SocketAddr, now: Moment) {
        if self.record.addr != *addr || self.published.socket == Some(socket) {
            return;
        }
        match self.former.take_if(|former| former.socket == Some(socket)) {
            Some(former) => self.leave_published(former, now),
            None => self.leave_published(SocketView::at(socket), now),
        }
    }

    /// Another view takes the place of the published one, which stays in sight unless one that is in use does already.
    fn leave_published(&mut self, next: SocketView, now: Moment) {
        let left = std::mem::replace(&mut self.published, next);
        if left.socket.is_some() {
            self.published_since = now;
            self.former.get_or_insert(left);
        }
    }

    /// The view that an answer of `socket` belongs to, asked where `addr` was published.
    pub(super) fn view_of(
        &mut self,
        addr: &ServerAddr,
        socket: Option<SocketAddr>,
        now: Moment,
    ) -> Option<&mut SocketView> {
        let unresolved = self.published.socket.is_none() && *addr == self.record.addr;
        let Some(socket) = socket else { return Some(&mut self.published).filter(|_| unresolved) };
        if unresolved {
            self.resolve(addr, socket, now);
        }
        if self.published.socket == Some(socket) {
            return Some(&mut self.published);
        }
        self.former.as_mut().filter(|former| former.socket == Some(socket))
    }
}
