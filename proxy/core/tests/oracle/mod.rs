//! The table of the design once more, naively: recomputed from the raw list of what was heard and of what the router said,
//! with none of the router's own code.
//!
//! Slow and repetitive on purpose. Where the router keeps the latest fact, this searches the whole past for it.

#![allow(dead_code, reason = "each test crate uses a part of the oracle")]
#![allow(clippy::wildcard_enum_match_arm, reason = "each question is about one kind of observation")]

mod places;
mod readers;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    Admission, Basis, ClusterConfig, Leader, LeaderKey, MemberName, Moment, Observation, Policy,
    PolicyOptions, ProbeConnection, ProbeFailure, ProbeReply, ReadServer, Role, Routing, ServerId, Sources,
    Stamped, SystemId, Timeline,
};

use crate::script::{Input, Snapshot, Step};

#[allow(unused_imports, reason = "each test crate uses a part of the oracle")]
pub(crate) use places::{Replay, ReplayState};
pub(crate) use rules::Verdict;

use places::{Place, Site, leave_unused};

/// Whether what the router said is what the table says.
pub(crate) fn by_the_table(snapshot: &Snapshot, oracle: &Oracle<'_>) -> Result<(), String> {
    let before = oracle.standing().map(Leader::epoch);
    let said = snapshot.routing.write.leader().map(|leader| Verdict {
        member: leader.member().clone(),
        server: leader.server(),
        timeline: leader.timeline(),
        basis: leader.basis(),
        until: snapshot.valid_until.unwrap_or_default(),
        open: *leader.admission() == Admission::Open,
        continues: Some(leader.epoch()) == before,
    });
    let allowed = oracle.verdict();
    if said == allowed {
        return Ok(());
    }
    Err(format!("at {} it is {:?}, the table says {allowed:?}", snapshot.at, snapshot.routing.write))
}

/// Whether the sessions of a leader whose lease is confirmed go on, or end by a row of the table.
pub(crate) fn no_healthy_leader_is_cut(snapshot: &Snapshot, oracle: &Oracle<'_>) -> Result<(), String> {
    let Some(before) = oracle.standing().filter(|leader| leader.basis() == Basis::Lease) else {
        return Ok(());
    };
    let goes_on = snapshot.routing.write.leader().map(Leader::epoch) == Some(before.epoch());
    let lost_key = oracle.key().map(|(key, _)| key) != before.key();
    let past_horizon = oracle.horizon().is_none_or(|horizon| snapshot.at >= horizon);
    let row = lost_key
        || past_horizon
        || oracle.config().standby_cluster
        || oracle.says_otherwise(before)
        || oracle.is_replaced(before)
        || !oracle.asks_the_dcs();
    if goes_on || row {
        return Ok(());
    }
    Err(format!("at {} sessions of {} end: {:?}", snapshot.at, before.member(), snapshot.routing.write))
}

/// All that was heard up to the present moment, and what the router had said before it.
pub(crate) struct Oracle<'a> {
    /// The steps so far, the oldest first.
    heard: &'a [Step],
    /// The present.
    now: Moment,
    /// What the router said last before.
    before: Option<&'a Snapshot>,
    /// Where each member is asked.
    places: BTreeMap<MemberName, Place>,
}

impl<'a> Oracle<'a> {
    /// The same without the servers that nobody is on after this decision.
    pub(crate) fn settled(&self, routing: &Routing) -> Self {
        let mut places = self.places.clone();
        leave_unused(&mut places, routing);
        Self { places, ..*self }
    }

    /// The leader that stood before.
    pub(crate) fn standing(&self) -> Option<&'a Leader> {
        self.before?.routing.write.leader()
    }

    /// The servers of the read route that stood before.
    pub(crate) fn standing_readers(&self) -> &'a [ReadServer] {
        self.before.map_or(&[], |before| before.routing.read.servers())
    }

    /// The last reply of a member at a socket.
    pub(crate) fn reply_at(&self, member: &MemberName, socket: SocketAddr) -> Option<(Moment, ProbeReply)> {
        self.reply(member, self.site(member, socket)?)
    }

    /// Whether the server of a member at a socket was found down.
    pub(crate) fn is_down_at(&self, member: &MemberName, socket: SocketAddr) -> bool {
        self.site(member, socket).is_some_and(|site| self.is_down(member, site))
    }

    fn site(&self, member: &MemberName, socket: SocketAddr) -> Option<Site> {
        self.places.get(member)?.sites().find(|site| site.socket == socket)
    }

    /// Whether the server of a leader is down, or said that it is in recovery, of another cluster, or another process.
    pub(crate) fn says_otherwise(&self, leader: &Leader) -> bool {
        let other = |reply: ProbeReply| {
            reply.server() != leader.server()
                || reply.timeline() != Some(leader.timeline())
                || !is_primary(reply)
                || self.initialize().is_some_and(|ours| ours != reply.system_id)
        };
        self.is_down_at(leader.member(), leader.socket())
            || self.reply_at(leader.member(), leader.socket()).is_some_and(|(_, reply)| other(reply))
            || self.is_elsewhere(leader)
    }

    /// Whether the server of a leader said, at the address that is published by now, that it is on another timeline.
    fn is_elsewhere(&self, leader: &Leader) -> bool {
        let published = self.places.get(leader.member()).and_then(|place| place.published);
        let limit = self.options().max_probe_age;
        let reply = published.and_then(|site| self.fresh_reply(leader.member(), site, limit));
        reply.is_some_and(|(sent, reply)| {
            Some(sent) >= self.key_changed()
                && is_primary(reply)
                && reply.server() == leader.server()
                && reply.timeline() != Some(leader.timeline())
        })
    }

    /// Whether another primary answers where the leader is published, while its own server has been silent for too long.
    pub(crate) fn is_replaced(&self, leader: &Leader) -> bool {
        let limit = self.options().max_probe_age;
        let place = self.places.get(leader.member());
        let published = place.and_then(|place| self.fresh_reply(leader.member(), place.published?, limit));
        let here = self.site(leader.member(), leader.socket());
        let answers = here.is_some_and(|site| self.fresh_reply(leader.member(), site, limit).is_some());
        !answers && published.is_some_and(|(_, reply)| is_primary(reply) && reply.server() != leader.server())
    }

    /// The policy in force.
    pub(crate) fn options(&self) -> PolicyOptions {
        let last = self.heard.iter().rev().find_map(|step| match &step.input {
            Input::Policy(policy) => Some(*policy),
            Input::Observe(_) | Input::Restrict(_) | Input::Tick => None,
        });
        *last.unwrap_or_else(Policy::default).options()
    }

    pub(crate) fn asks_the_dcs(&self) -> bool {
        self.options().sources == Sources::DcsAndServers
    }

    /// The leader key and since when it has been seen so.
    pub(crate) fn key(&self) -> Option<(&'a LeaderKey, Moment)> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        let run = keys.iter().rev().take_while(|(key, ..)| key == present);
        let (_, _, seen) = run.last()?;
        present.map(|key| (key, *seen))
    }

    /// When the key was last seen to be taken or given back.
    pub(crate) fn key_changed(&self) -> Option<Moment> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        keys.iter().rev().take_while(|(key, ..)| key == present).last().map(|(_, _, seen)| *seen)
    }

    /// The moment at which the lease of the present key, less the margin, is over; none if it was read before the clock was
    /// stepped.
    pub(crate) fn horizon(&self) -> Option<Moment> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        present.as_ref()?;
        let run = keys.iter().rev().take_while(|(key, ..)| key == present);
        let lease = run.filter_map(|(_, lease, _)| *lease).next()?;
        let end = lease.sent.since_boot() + lease.fact;
        let trusted = self.is_trusted(lease.sent);
        trusted.then(|| Moment::from_boot(end.saturating_sub(self.options().lease_margin)))
    }

    pub(crate) fn dcs_was_seen(&self) -> bool {
        !self.key_observations().is_empty()
    }

    pub(crate) fn dcs_is_silent(&self) -> bool {
        self.dcs_was_seen()
            && self.observations().rev().find_map(|observation| match observation {
                Observation::DcsSilent { .. } => Some(true),
                Observation::LeaderKey { .. } => Some(false),
                _ => None,
            }) == Some(true)
    }

    /// When the clock was last stepped.
    pub(crate) fn stepped(&self) -> Option<Moment> {
        let steps = self.observations().filter_map(|observation| match observation {
            Observation::ClockStepped { at } => Some(*at),
            _ => None,
        });
        steps.max()
    }

    fn is_trusted(&self, sent: Moment) -> bool {
        self.stepped().is_none_or(|stepped| sent >= stepped)
    }

    pub(crate) fn config(&self) -> ClusterConfig {
        let last = self.observations().rev().find_map(|observation| match observation {
            Observation::Config(config) => Some(*config),
            _ => None,
        });
        last.unwrap_or_default()
    }

    fn failsafe(&self) -> BTreeSet<MemberName> {
        let last = self.observations().rev().find_map(|observation| match observation {
            Observation::Failsafe(names) => Some(names.clone()),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// The last system identifier that was told, also when the key is gone by now.
    pub(crate) fn initialize(&self) -> Option<SystemId> {
        self.observations().rev().find_map(|observation| match observation {
            Observation::Initialize(id) => *id,
            _ => None,
        })
    }

    /// The system identifier of the cluster, as far as anything tells.
    pub(crate) fn cluster(&self) -> Option<SystemId> {
        self.initialize().or_else(|| self.standing().map(|leader| leader.server().system_id))
    }

    fn last_holder(&self) -> Option<&'a MemberName> {
        self.key_observations().iter().rev().find_map(|(key, ..)| Some(&(*key)?.holder))
    }

    /// Every member that is asked, named by the cluster or not.
    pub(crate) fn known(&self) -> impl Iterator<Item = &MemberName> {
        self.places.keys()
    }

    /// The last reply from a site that the server was not found down after, and when it was asked for.
    pub(crate) fn reply(&self, member: &MemberName, site: Site) -> Option<(Moment, ProbeReply)> {
        let probes = self.probes(member, site);
        let replies =
            probes.iter().enumerate().filter_map(|(n, (sent, _, outcome))| Some((*sent, n, outcome.ok()?)));
        let (sent, arrived, reply) = replies.max_by_key(|(sent, n, _)| (*sent, *n))?;
        let down = probes.iter().enumerate().any(|(n, (asked, connection, outcome))| {
            found_down(*connection, *outcome) && (*asked, n) > (sent, arrived)
        });
        (!down).then_some((sent, reply))
    }

    /// Whether the server at a site has ever answered.
    pub(crate) fn has_replied(&self, member: &MemberName, site: Site) -> bool {
        self.probes(member, site).iter().any(|(.., outcome)| outcome.is_ok())
    }

    /// Whether the server at a site was found down, and has not answered since.
    pub(crate) fn is_down(&self, member: &MemberName, site: Site) -> bool {
        let probes = self.probes(member, site);
        self.reply(member, site).is_none()
            && probes.iter().any(|(_, connection, outcome)| found_down(*connection, *outcome))
    }

    /// Whether users would be kept out at a site: the last new connection failed, and none was made since.
    pub(crate) fn keeps_users_out(&self, member: &MemberName, site: Site) -> bool {
        let probes = self.probes(member, site);
        let made =
            probes.iter().filter(|(.., outcome)| outcome.is_ok()).map(
                |(sent, connection, _)| match connection {
                    ProbeConnection::New => *sent,
                    ProbeConnection::Persistent { since } => *since,
                },
            );
        let newest = made.max();
        let failures = probes.iter().filter_map(|(sent, connection, outcome)| match connection {
            ProbeConnection::New => Some((*sent, outcome.err()?)),
            ProbeConnection::Persistent { .. } => None,
        });
        let mut last: Option<(Moment, ProbeFailure)> = None;
        for (sent, failure) in failures.filter(|(sent, _)| Some(*sent) > newest) {
            if last.is_none_or(|(known, _)| sent > known) {
                last = Some((sent, failure));
            }
        }
        let users = [
            ProbeFailure::Refused,
            ProbeFailure::Reset,
            ProbeFailure::TimedOut,
            ProbeFailure::StartingUp,
            ProbeFailure::ShuttingDown,
        ];
        last.is_some_and(|(_, failure)| users.contains(&failure))
    }

    pub(crate) fn fresh_reply(
        &self,
        member: &MemberName,
        site: Site,
        limit: Duration,
    ) -> Option<(Moment, ProbeReply)> {
        self.reply(member, site).filter(|(sent, _)| self.now < *sent + limit && self.is_trusted(*sent))
    }

    /// All fresh replies of servers of this cluster, from every site of every member.
    pub(crate) fn fresh_replies(&self, limit: Duration) -> Vec<(MemberName, ProbeReply)> {
        let ours = self.initialize();
        let mut replies = Vec::new();
        for (member, place) in &self.places {
            for site in place.sites() {
                if let Some((_, reply)) = self.fresh_reply(member, site, limit)
                    && ours.is_none_or(|id| id == reply.system_id)
                {
                    replies.push((member.clone(), reply));
                }
            }
        }
        replies
    }

    /// Everybody who freshly says that it is a primary, each server once.
    pub(crate) fn primaries(&self) -> Vec<(MemberName, ServerId, Timeline)> {
        let mut primaries: Vec<(MemberName, ServerId, Timeline)> = Vec::new();
        for (member, reply) in self.fresh_replies(self.options().max_probe_age) {
            if let Role::Primary { timeline, .. } = reply.role
                && primaries.iter().all(|(_, known, _)| *known != reply.server())
            {
                primaries.push((member, reply.server(), timeline));
            }
        }
        primaries
    }

    fn probes(
        &self,
        asked: &MemberName,
        site: Site,
    ) -> Vec<(Moment, ProbeConnection, Result<ProbeReply, ProbeFailure>)> {
        let probes = self.heard[site.since..].iter().filter_map(|step| match &step.input {
            Input::Observe(Observation::Probe { member, socket, sent, connection, outcome, .. })
                if member == asked && *socket == Some(site.socket) =>
            {
                Some((*sent, *connection, *outcome))
            }
            _ => None,
        });
        probes.collect()
    }

    #[expect(clippy::type_complexity, reason = "the fields of one observation, in its own order")]
    fn key_observations(&self) -> Vec<(Option<&'a LeaderKey>, Option<Stamped<Duration>>, Moment)> {
        self.observations()
            .filter_map(|observation| match observation {
                Observation::LeaderKey { key, lease, seen } => Some((key.as_ref(), *lease, *seen)),
                _ => None,
            })
            .collect()
    }

    fn observations(&self) -> impl DoubleEndedIterator<Item = &'a Observation> + use<'a> {
        self.heard.iter().filter_map(|step| match &step.input {
            Input::Observe(observation) => Some(observation),
            Input::Policy(_) | Input::Restrict(_) | Input::Tick => None,
        })
    }
}

/// Whether a server says that it is out of recovery.
pub(crate) const fn is_primary(reply: ProbeReply) -> bool {
    matches!(reply.role, Role::Primary { .. })
}

/// Whether the kept connection could not be made again because nobody serves there.
fn found_down(connection: ProbeConnection, outcome: Result<ProbeReply, ProbeFailure>) -> bool {
    let down = [ProbeFailure::Refused, ProbeFailure::StartingUp, ProbeFailure::ShuttingDown];
    connection != ProbeConnection::New && outcome.is_err_and(|failure| down.contains(&failure))
}
