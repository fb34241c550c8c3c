//! Where each member is asked: its published address, where that leads, and the socket in use that it has left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    LeaderKey, Member, MemberName, Moment, Observation, Routing, ServerAddr, Sources,
};

use crate::script::{Input, Snapshot, Step};

use super::{Oracle, is_primary};

/// A socket that was asked, and the step since which its answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) socket: SocketAddr,
    pub(super) since: usize,
}

/// Where a member is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) record: Member,
    pub(super) published: Option<Site>,
    pub(super) former: Option<Site>,
    pub(super) published_since: Moment,
    pub(super) departed: Option<Moment>,
}

impl Place {
    pub(super) fn sites(&self) -> impl Iterator<Item = Site> {
        self.published.into_iter().chain(self.former)
    }

    fn leave(&mut self, next: Option<Site>, now: Moment) {
        if let Some(left) = std::mem::replace(&mut self.published, next) {
            self.published_since = now;
            self.former = self.former.or(Some(left));
        }
    }

    fn lead_to(&mut self, socket: SocketAddr, step: usize, now: Moment) {
        if self.published.is_none_or(|site| site.socket != socket) {
            let known = self.former.take_if(|site| site.socket == socket);
            self.leave(Some(known.unwrap_or(Site { socket, since: step })), now);
        }
    }
}

/// A history and what the router said, gone through once from the beginning.
pub(crate) struct Replay<'a> {
    steps: &'a [Step],
    trail: &'a [Snapshot],
    next: usize,
    heard: usize,
    places: BTreeMap<MemberName, Place>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(steps: &'a [Step], trail: &'a [Snapshot]) -> Self {
        Self { steps, trail, next: 0, heard: 0, places: BTreeMap::new() }
    }

    /// Goes on from where another replay ended. What the router had said last is the first of the trail, if it had said
    /// anything.
    pub(crate) fn resume(steps: &'a [Step], trail: &'a [Snapshot], state: &ReplayState) -> Self {
        Self { steps, trail, next: state.said, heard: state.heard, places: state.places.clone() }
    }

    /// What another replay needs to go on.
    pub(crate) fn state(&self) -> ReplayState {
        ReplayState { said: 1, heard: self.heard, places: self.places.clone() }
    }

    /// The oracle at the next thing that the router said.
    pub(crate) fn next(&mut self) -> Option<(&'a Snapshot, Oracle<'a>)> {
        let snapshot = self.trail.get(self.next)?;
        let before = self.next.checked_sub(1).and_then(|last| self.trail.get(last));
        self.next += 1;
        let now = snapshot.at;
        self.forget(now);
        for step in self.heard..snapshot.heard {
            self.hear(step);
        }
        self.heard = snapshot.heard;
        self.forget(now);
        let oracle = Oracle { heard: &self.steps[..self.heard], now, before, places: self.places.clone() };
        leave_unused(&mut self.places, &snapshot.routing);
        Some((snapshot, oracle))
    }

    fn hear(&mut self, step: usize) {
        let now = self.steps[step].at;
        let Input::Observe(observation) = &self.steps[step].input else { return };
        match observation {
            Observation::Members(members) => self.list(members, now),
            Observation::Address { member, addr, socket } => {
                if let Some(place) = self.at(member, addr) {
                    place.lead_to(*socket, step, now);
                }
            }
            Observation::Probe { member, addr, socket: Some(socket), .. } => {
                if let Some(place) = self.at(member, addr).filter(|place| place.published.is_none()) {
                    place.lead_to(*socket, step, now);
                }
            }
            _ => {}
        }
    }

    /// The place of a member, if it is still published at `addr`.
    fn at(&mut self, member: &MemberName, addr: &ServerAddr) -> Option<&mut Place> {
        self.places.get_mut(member).filter(|place| place.record.addr == *addr)
    }

    fn list(&mut self, members: &BTreeMap<MemberName, Member>, now: Moment) {
        for (name, place) in &mut self.places {
            match members.get(name) {
                None => place.departed = place.departed.or(Some(now)),
                Some(record) => {
                    if place.record.addr != record.addr {
                        place.leave(None, now);
                    }
                    place.record = record.clone();
                    place.departed = None;
                }
            }
        }
        for (name, record) in members {
            self.places.entry(name.clone()).or_insert_with(|| Place {
                record: record.clone(),
                published: None,
                former: None,
                published_since: now,
                departed: None,
            });
        }
    }

    /// Who left a list that an operator wrote is forgotten at once, everybody else after an hour without a sign of a
    /// primary. The holder of the leader key is not.
    fn forget(&mut self, now: Moment) {
        let oracle =
            Oracle { heard: &self.steps[..self.heard], now, before: None, places: self.places.clone() };
        let holder = oracle.key().map(|(key, _): (&LeaderKey, _)| &key.holder);
        let complete = oracle.options().sources == Sources::ServersOnly;
        self.places.retain(|name, place| {
            let Some(departed) = place.departed else { return true };
            let said = place.sites().filter_map(|site| oracle.reply(name, site));
            let last = said.filter(|(_, reply)| is_primary(*reply)).map(|(sent, _)| sent).max();
            let since = last.map_or(departed, |last| last.max(departed));
            !complete && (holder == Some(name) || now < since + Duration::from_secs(3600))
        });
    }
}

/// Where a replay stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplayState {
    said: usize,
    heard: usize,
    places: BTreeMap<MemberName, Place>,
}

/// A socket that a published address has left is asked only as long as sessions may be there.
pub(super) fn leave_unused(places: &mut BTreeMap<MemberName, Place>, routing: &Routing) {
    let leader = routing.write.leader().map(|leader| leader.socket());
    let readers = routing.read.servers().iter().map(|server| server.socket);
    let in_use: BTreeSet<SocketAddr> = readers.chain(leader).collect();
    for place in places.values_mut() {
        place.former.take_if(|site| !in_use.contains(&site.socket));
    }
}
