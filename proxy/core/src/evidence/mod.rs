//! Evidence: the latest facts, each with the moment its question was sent, and nothing older kept beside them.

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::{ClusterConfig, LeaderKey, Member, MemberName, Revision, SystemId, Timeline};
use crate::dcs_problem::DcsProblem;
use crate::moment::{Moment, Stamped};
use crate::observation::{ConfigProblem, Observation, ProbeReply};

pub use view::{MemberView, SocketView};

/// How long a member that left the DCS is still asked, counted from when it was named last or last said that it is a
/// primary. A primary whose Patroni died leaves the DCS and goes on taking writes.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// How many members that left the DCS are still asked; beyond it the one that left first is forgotten.
const REMEMBERED_MAX: usize = 64;

/// Whether the DCS can be believed to push what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dcs {
    /// It never answered.
    Unseen,
    /// It answers.
    Live,
    /// It has not given a linearizable answer since that moment.
    Silent(Moment),
}

/// How long a leadership was said to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseEvidence {
    /// The leadership that hangs on the lease.
    pub create_revision: Revision,
    /// The time to live, stamped with when it was asked for.
    pub remaining: Stamped<Duration>,
}

impl LeaseEvidence {
    /// The first moment at which another member might hold the key.
    pub fn end(&self) -> Moment {
        Self::end_of(self.remaining)
    }

    pub(crate) fn end_of(remaining: Stamped<Duration>) -> Moment {
        remaining.sent + remaining.fact
    }
}

/// The latest facts about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    dcs: Dcs,
    dcs_problem: Option<DcsProblem>,
    leader_key: Option<Stamped<LeaderKey>>,
    last_holder: Option<MemberName>,
    vacant_since: Option<Moment>,
    lease: Option<LeaseEvidence>,
    members: BTreeMap<MemberName, MemberView>,
    config: ClusterConfig,
    config_problem: Option<ConfigProblem>,
    failsafe: BTreeSet<MemberName>,
    switchover_announced: bool,
    initialize: Option<SystemId>,
    initialize_gone: bool,
    clock_stepped: Option<Moment>,
}

impl Evidence {
    pub(crate) fn new() -> Self {
        Self {
            dcs: Dcs::Unseen,
            dcs_problem: None,
            leader_key: None,
            last_holder: None,
            vacant_since: None,
            lease: None,
            members: BTreeMap::new(),
            config: ClusterConfig::default(),
            config_problem: None,
            failsafe: BTreeSet::new(),
            switchover_announced: false,
            initialize: None,
            initialize_gone: false,
            clock_stepped: None,
        }
    }

    /// Whether the DCS answers.
    pub const fn dcs(&self) -> Dcs {
        self.dcs
    }

    /// What keeps the DCS from telling about the cluster; `None` once it has told anything.
    pub(crate) fn unknown_because(&self) -> Option<&DcsProblem> {
        let told = self.last_holder.is_some() || self.initialize.is_some() || !self.members.is_empty();
        self.dcs_problem.as_ref().filter(|_| !told)
    }

    /// The leader key, stamped with when this leadership was first seen.
    pub const fn leader_key(&self) -> Option<&Stamped<LeaderKey>> {
        self.leader_key.as_ref()
    }

    /// Who holds the leader key, or held it last.
    pub const fn last_holder(&self) -> Option<&MemberName> {
        self.last_holder.as_ref()
    }

    /// Since when the leader key is known to be absent.
    pub const fn vacant_since(&self) -> Option<Moment> {
        self.vacant_since
    }

    /// The lease of the present leadership, once confirmed; none that was read before the clock was stepped.
    pub fn lease(&self) -> Option<&LeaseEvidence> {
        self.lease.as_ref().filter(|lease| self.is_trusted(lease.remaining.sent))
    }

    /// When the leader key was last seen to change: taken, or given back.
    pub fn leadership_changed(&self) -> Option<Moment> {
        self.leader_key.as_ref().map(|key| key.sent).or(self.vacant_since)
    }

    /// Every member that is asked: those that the cluster names, and those that it named lately.
    pub const fn members(&self) -> &BTreeMap<MemberName, MemberView> {
        &self.members
    }

    /// What is known of `member`.
    pub fn member(&self, member: &MemberName) -> Option<&MemberView> {
        self.members.get(member)
    }

    /// The last readable configuration of the cluster.
    pub const fn config(&self) -> ClusterConfig {
        self.config
    }

    /// Why the configuration is an old one.
    pub const fn config_problem(&self) -> Option<ConfigProblem> {
        self.config_problem
    }

    /// The members that Patroni's failsafe mode must reach.
    pub const fn failsafe(&self) -> &BTreeSet<MemberName> {
        &self.failsafe
    }

    /// Whether a change of leader has been asked for.
    pub const fn switchover_announced(&self) -> bool {
        self.switchover_announced
    }

    /// The last known system identifier of the cluster.
    pub const fn initialize(&self) -> Option<SystemId> {
        self.initialize
    }

    /// Whether the DCS has lost the system identifier that it had.
    pub const fn initialize_is_gone(&self) -> bool {
        self.initialize_gone
    }

    /// When the wall clock was last seen to be stepped.
    pub const fn clock_stepped(&self) -> Option<Moment> {
        self.clock_stepped
    }

    /// Whether the answer to a question that was sent then still proves something.
    pub fn is_trusted(&self, sent: Moment) -> bool {
        Some(sent) >= self.clock_stepped
    }

    /// The reply of a server, if it is no older than `limit` at `now` and was asked for since the clock was stepped.
    pub fn fresh_reply(
        &self,
        view: &SocketView,
        now: Moment,
        limit: Duration,
    ) -> Option<Stamped<ProbeReply>> {
        view.fresh_reply(now, limit).filter(|reply| self.is_trusted(reply.sent))
    }

    /// The highest timeline that a server of this cluster reported within `limit`, and who did.
    ///
    /// Older replies do not count: a member that died on a higher timeline must not fence its heirs for ever.
    pub fn highest_timeline(&self, now: Moment, limit: Duration) -> Option<(Timeline, &MemberName)> {
        let timelines = self.fresh_replies(now, limit);
        timelines.filter_map(|(member, _, reply)| Some((reply.timeline()?, member))).max()
    }

    /// The fresh replies of all servers that belong to this cluster.
    pub fn fresh_replies(
        &self,
        now: Moment,
        limit: Duration,
    ) -> impl Iterator<Item = (&MemberName, &SocketView, ProbeReply)> {
        self.members
            .iter()
            .flat_map(|(name, member)| member.views().map(move |view| (name, view)))
            .filter_map(move |(name, view)| Some((name, view, self.fresh_reply(view, now, limit)?.fact)))
            .filter(|(_, _, reply)| self.initialize.is_none_or(|id| id == reply.system_id))
    }

    /// Members that have never answered at the address that was published for them less than `limit` ago, and when their
    /// silence begins to count. One that answered and is down now is no newcomer.
    pub(crate) fn joining(
        &self,
        now: Moment,
        limit: Duration,
    ) -> impl Iterator<Item = (&MemberName, Moment)> {
        self.members
            .iter()
            .filter(|(_, member)| !member.published.has_replied())
            .map(move |(name, member)| (name, member.published_since + limit))
            .filter(move |(_, until)| now < *until)
    }

    /// When `member` is forgotten, unless it is named or says that it is a primary before.
    pub(crate) fn forgotten_at(&self, name: &MemberName, member: &MemberView) -> Option<Moment> {
        let departed = member.departed?;
        if self.leader_key.as_ref().is_some_and(|key| key.fact.holder == *name) {
            return None;
        }
        let said = member.views().filter_map(|view| view.reply.filter(|reply| reply.fact.is_primary()));
        Some(said.map(|reply| reply.sent).fold(departed, Moment::max) + REMEMBERED_FOR)
    }

    /// Forgets members that left: at once when the list is `authoritative`, else after a while.
    pub(crate) fn forget_departed(&mut self, now: Moment, authoritative: bool) {
        let is_due = |name: &MemberName, member: &MemberView| {
            let at = self.forgotten_at(name, member);
            at.is_some_and(|at| at <= now) || authoritative && member.departed.is_some()
        };
        let mut due: Vec<MemberName> = self
            .members
            .iter()
            .filter(|(name, member)| is_due(name, member))
            .map(|(name, _)| name.clone())
            .collect();
        let mut left: Vec<(Moment, &MemberName)> = self
            .members
            .iter()
            .filter(|(name, member)| self.forgotten_at(name, member).is_some() && !due.contains(name))
            .filter_map(|(name, member)| Some((member.departed?, name)))
            .collect();
        left.sort();
        let too_many = left.len().saturating_sub(REMEMBERED_MAX);
        due.extend(left.into_iter().take(too_many).map(|(_, name)| name.clone()));
        due.iter().for_each(|name| drop(self.members.remove(name)));
    }

    /// Forgets the servers that the published addresses have left, but for those at the sockets that are in use.
    pub(crate) fn forget_former(&mut self, in_use: &BTreeSet<SocketAddr>) {
        for member in self.members.values_mut() {
            member.former.take_if(|former| former.socket.is_none_or(|socket| !in_use.contains(&socket)));
        }
    }

    pub(crate) fn observe(&mut self, observation: Observation, now: Moment) {
        match observation {
            Observation::LeaderKey { key, lease, seen } => self.observe_leader_key(key, lease, seen),
            Observation::Members(members) => self.observe_members(members, now),
            Observation::Config(config) => {
                self.config = config;
                self.config_problem = None;
            }
            Observation::ConfigLost(problem) => self.config_problem = Some(problem),
            Observation::Failsafe(names) => self.failsafe = names,
            Observation::Switchover { announced } => self.switchover_announced = announced,
            Observation::Initialize(id) => {
                self.initialize_gone = id.is_none() && self.initialize.is_some();
                self.initialize = id.or(self.initialize);
            }
            Observation::DcsSilent { since } => {
                if self.dcs == Dcs::Live {
                    self.dcs = Dcs::Silent(since);
                }
            }
            Observation::DcsProblem(problem) => self.dcs_problem = problem,
            Observation::ClockStepped { at } => self.clock_stepped = self.clock_stepped.max(Some(at)),
            Observation::Address { member, addr, socket } => {
                self.members.get_mut(&member).into_iter().for_each(|known| known.resolve(&addr, socket, now));
            }
            Observation::Probe { member, addr, socket, sent, connection, outcome } => {
                let known = self.members.get_mut(&member);
                if let Some(view) = known.and_then(|known| known.view_of(&addr, socket, now)) {
                    view.record(connection, sent, outcome);
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

    fn observe_members(&mut self, mut members: BTreeMap<MemberName, Member>, now: Moment) {
        for (name, known) in &mut self.members {
            match members.remove(name) {
                Some(record) => known.list(record, now),
                None => {
                    known.departed.get_or_insert(now);
                }
            }
        }
        self.members.extend(members.into_iter().map(|(name, record)| (name, MemberView::new(record, now))));
    }
}
