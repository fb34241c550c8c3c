//! Evidence: the latest observation of each kind, stamped with when its question was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{
    ClusterConfig, LeaderKey, Member, MemberName, Revision, ServerAddr, SystemId, Timeline,
};
use crate::moment::{Moment, Stamped};
use crate::observation::{Observation, ProbeConnection, ProbeFailure, ProbeReply};

/// Whether the DCS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dcs {
    /// It has never answered.
    Unseen,
    /// It answers.
    Live,
    /// It has not given a linearizable answer since that moment.
    Silent(Moment),
}

/// The last answer about the lease of the leader key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseEvidence {
    /// The leadership that the lease belongs to.
    pub create_revision: Revision,
    /// The remaining time to live, stamped with when it was asked for.
    pub remaining: Stamped<Duration>,
}

impl LeaseEvidence {
    /// The first moment at which another member might hold the key.
    pub fn end(&self) -> Moment {
        self.remaining.sent + self.remaining.fact
    }
}

/// What probes found out about one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// The address that is probed.
    pub addr: ServerAddr,
    /// Its last reply, unless something has contradicted it since.
    pub reply: Option<Stamped<ProbeReply>>,
    /// The last failure, unless the server has replied since.
    pub failure: Option<Stamped<ProbeFailure>>,
    /// The last new connection that timed out, unless a later one succeeded. With replies on the persistent
    /// connection, it means that the postmaster hangs.
    pub connect_failure: Option<Stamped<ProbeFailure>>,
    /// When the last probe was sent that found the server down. Replies to earlier probes do not count.
    down: Option<Moment>,
    /// When the last probe was sent that succeeded over a new connection.
    connected: Option<Moment>,
}

impl ServerView {
    const fn new(addr: ServerAddr) -> Self {
        Self { addr, reply: None, failure: None, connect_failure: None, down: None, connected: None }
    }

    /// The last reply, if it is younger than `limit` at `now`.
    pub fn fresh_reply(&self, now: Moment, limit: Duration) -> Option<Stamped<ProbeReply>> {
        self.reply.filter(|reply| now < reply.sent + limit)
    }

    fn record(
        &mut self,
        connection: ProbeConnection,
        sent: Moment,
        outcome: Result<ProbeReply, ProbeFailure>,
    ) {
        match outcome {
            Ok(reply) => self.record_reply(connection, Stamped { sent, fact: reply }),
            Err(failure) => self.record_failure(connection, Stamped { sent, fact: failure }),
        }
    }

    fn record_reply(&mut self, connection: ProbeConnection, reply: Stamped<ProbeReply>) {
        if connection == ProbeConnection::New {
            self.connected = self.connected.max(Some(reply.sent));
            self.connect_failure = self.connect_failure.filter(|hung| hung.sent > reply.sent);
        }
        if Some(reply.sent) >= self.last_reply().max(self.down) {
            self.reply = Some(reply);
            self.failure = self.failure.filter(|failure| failure.sent > reply.sent);
        }
    }

    /// A failure that contradicts nothing explains why there is no new reply, but never discards the last one.
    fn record_failure(&mut self, connection: ProbeConnection, failure: Stamped<ProbeFailure>) {
        let sent = Some(failure.sent);
        if connection == ProbeConnection::New
            && failure.fact == ProbeFailure::TimedOut
            && sent > self.connected
        {
            self.connect_failure = Some(failure);
        }
        if sent < self.last_reply() {
            return;
        }
        if failure.fact.contradicts() {
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

/// The latest observations of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    dcs: Dcs,
    leader_key: Option<Stamped<LeaderKey>>,
    last_holder: Option<MemberName>,
    vacant_since: Option<Moment>,
    lease: Option<LeaseEvidence>,
    members: BTreeMap<MemberName, Member>,
    config: ClusterConfig,
    switchover_announced: bool,
    initialize: Option<SystemId>,
    servers: BTreeMap<MemberName, ServerView>,
}

impl Evidence {
    pub(crate) const fn new() -> Self {
        Self {
            dcs: Dcs::Unseen,
            leader_key: None,
            last_holder: None,
            vacant_since: None,
            lease: None,
            members: BTreeMap::new(),
            config: ClusterConfig { paused: false, standby_cluster: false, failsafe_mode: false },
            switchover_announced: false,
            initialize: None,
            servers: BTreeMap::new(),
        }
    }

    /// Whether the DCS answers.
    pub const fn dcs(&self) -> Dcs {
        self.dcs
    }

    /// The leader key, stamped with when it was first seen with this holder and `create_revision`.
    pub const fn leader_key(&self) -> Option<&Stamped<LeaderKey>> {
        self.leader_key.as_ref()
    }

    /// The present or last holder of the leader key.
    pub const fn last_holder(&self) -> Option<&MemberName> {
        self.last_holder.as_ref()
    }

    /// Since when the leader key is known to be absent; `None` while it is held, or unknown.
    pub const fn vacant_since(&self) -> Option<Moment> {
        self.vacant_since
    }

    /// The lease of the present leadership, once a read has confirmed it.
    pub const fn lease(&self) -> Option<&LeaseEvidence> {
        self.lease.as_ref()
    }

    /// When the leader key was last seen to be taken or given up.
    pub fn leadership_changed(&self) -> Option<Moment> {
        self.leader_key.as_ref().map(|key| key.sent).or(self.vacant_since)
    }

    /// The members that the DCS lists.
    pub const fn members(&self) -> &BTreeMap<MemberName, Member> {
        &self.members
    }

    /// Patroni's dynamic configuration.
    pub const fn config(&self) -> ClusterConfig {
        self.config
    }

    /// Whether a switchover has been requested.
    pub const fn switchover_announced(&self) -> bool {
        self.switchover_announced
    }

    /// The system identifier of the cluster.
    pub const fn initialize(&self) -> Option<SystemId> {
        self.initialize
    }

    /// What probes found out about each listed member, and about each primary that is no longer listed.
    pub const fn servers(&self) -> &BTreeMap<MemberName, ServerView> {
        &self.servers
    }

    /// What probes of `member` found out at its present address.
    pub fn server(&self, member: &MemberName) -> Option<&ServerView> {
        self.servers.get(member)
    }

    /// The highest timeline in a reply younger than `limit`.
    ///
    /// Older replies do not count: a member that died on a higher timeline must not fence its successors for ever.
    pub fn highest_timeline(&self, now: Moment, limit: Duration) -> Option<Timeline> {
        self.fresh_replies(now, limit).filter_map(|(_, reply)| reply.timeline()).max()
    }

    /// The replies younger than `limit` from servers with this cluster's system identifier.
    pub fn fresh_replies(
        &self,
        now: Moment,
        limit: Duration,
    ) -> impl Iterator<Item = (&MemberName, ProbeReply)> {
        self.servers
            .iter()
            .filter_map(move |(member, server)| Some((member, server.fresh_reply(now, limit)?.fact)))
            .filter(|(_, reply)| self.initialize.is_none_or(|id| id == reply.system_id))
    }

    /// Forgets servers that are no longer listed, except those that reported within `limit` that they are primaries.
    pub(crate) fn forget_departed(&mut self, now: Moment, limit: Duration) {
        let members = &self.members;
        self.servers.retain(|name, server| {
            let primary = || server.fresh_reply(now, limit).is_some_and(|reply| reply.fact.is_primary());
            members.contains_key(name) || primary()
        });
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::LeaderKey { key, lease, seen } => self.observe_leader_key(key, lease, seen),
            Observation::Members(members) => self.observe_members(members),
            Observation::Config(config) => self.config = config,
            Observation::Switchover { announced } => self.switchover_announced = announced,
            Observation::Initialize(id) => self.initialize = id,
            Observation::DcsSilent { since } => {
                if self.dcs == Dcs::Live {
                    self.dcs = Dcs::Silent(since);
                }
            }
            Observation::Probe { member, addr, sent, connection, outcome } => {
                if let Some(server) = self.servers.get_mut(&member).filter(|known| known.addr == addr) {
                    server.record(connection, sent, outcome);
                }
            }
        }
    }

    fn observe_leader_key(&mut self, key: Option<LeaderKey>, lease: Option<Stamped<Duration>>, seen: Moment) {
        self.dcs = Dcs::Live;
        let Some(key) = key else {
            self.leader_key = None;
            self.lease = None;
            self.vacant_since.get_or_insert(seen);
            return;
        };
        self.vacant_since = None;
        if self.leader_key.as_ref().is_none_or(|known| known.fact != key) {
            self.lease = None;
            self.last_holder = Some(key.holder.clone());
            self.leader_key = Some(Stamped { sent: seen, fact: key.clone() });
        }
        if let Some(remaining) = lease {
            self.lease = Some(LeaseEvidence { create_revision: key.create_revision, remaining });
        }
    }

    /// Keeps what is known about members whose address did not change, and about primaries that are no longer listed.
    ///
    /// When Patroni dies, its member key expires but its primary still takes writes. That server must stay in sight, so
    /// it counts as a member until it reports recovery or stops replying.
    fn observe_members(&mut self, members: BTreeMap<MemberName, Member>) {
        self.servers.retain(|name, server| match members.get(name) {
            Some(member) => member.addr == server.addr,
            None => server.reply.is_some_and(|reply| reply.fact.is_primary()),
        });
        for (name, member) in &members {
            self.servers.entry(name.clone()).or_insert_with(|| ServerView::new(member.addr.clone()));
        }
        self.members = members;
    }
}
