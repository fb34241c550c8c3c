//! What a proxy was told, kept apart from the router: the laws are judged by this and not by what the router makes of it.

use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment, ServerId, Stamped, Timeline};

use crate::cluster::Key;
use crate::setup::MEMBERS;

/// One linearizable read of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    /// When it was asked for, on the proxy's clock.
    pub(crate) sent: Moment,
    pub(crate) content: Content,
    /// What is left of the lease of the leader key.
    pub(crate) remaining: Duration,
}

/// What etcd says, as far as routing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) key: Option<Key>,
    pub(crate) listed: [bool; MEMBERS],
    pub(crate) paused: bool,
    pub(crate) failsafe: bool,
}

/// What a server's answer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    /// Which run of which server it is, whether it is a primary, and on which timeline.
    Role { server: ServerId, role: (bool, Option<Timeline>) },
    /// Nothing listens there.
    Down,
}

/// What a proxy was told, all on its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    /// The newest news of etcd.
    pub(crate) content: Option<Content>,
    /// Everybody who was ever listed.
    pub(crate) known: [bool; MEMBERS],
    /// When the leader key was last heard to be taken or to be gone, and the end of its lease, once confirmed.
    pub(crate) key_changed: Option<Moment>,
    pub(crate) lease_end: Option<Moment>,
    /// The newest answer of each server, by when it was asked for.
    pub(crate) answers: [Option<(Moment, Said)>; MEMBERS],
    /// When the wall clock was stepped.
    pub(crate) stepped: Option<Moment>,
    /// For how many rounds etcd has given no answer; it is watched while that is 0.
    pub(crate) failing: u8,
    pub(crate) watching: bool,
}

impl Told {
    pub(crate) fn name(member: usize) -> MemberName {
        MemberName::new(["a", "b", "c"][member])
    }

    pub(crate) fn index(member: &MemberName) -> usize {
        (0..MEMBERS).find(|index| Self::name(*index) == *member).unwrap_or_default()
    }

    /// The leader key, if etcd has told anything.
    pub(crate) fn key(&self) -> Option<Option<Key>> {
        self.content.map(|content| content.key)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.content.is_some_and(|content| content.paused)
    }

    /// Whether the lease of the leader key was confirmed, and is inside the margin.
    pub(crate) fn lease_holds(&self, now: Moment, margin: Duration) -> bool {
        self.lease_end.is_some_and(|end| now < end - margin)
    }

    pub(crate) fn hear(&mut self, member: usize, sent: Moment, said: Said) {
        if self.answers[member].is_none_or(|(newest, _)| newest <= sent) {
            self.answers[member] = Some((sent, said));
        }
    }

    pub(crate) fn take_key(&mut self, key: Option<Key>, now: Moment) {
        if self.key() != Some(key) {
            self.lease_end = None;
            self.key_changed = Some(now);
        }
        self.content.iter_mut().for_each(|content| content.key = key);
    }

    pub(crate) fn take_listed(&mut self, listed: [bool; MEMBERS]) {
        (0..MEMBERS).for_each(|member| self.known[member] |= listed[member]);
    }

    pub(crate) fn take_lease(&mut self, lease: Stamped<Duration>) {
        self.lease_end = Some(lease.sent + lease.fact);
    }
}

impl Reading {
    pub(crate) fn lease(&self) -> Stamped<Duration> {
        Stamped { sent: self.sent, fact: self.remaining }
    }
}
