//! The router: takes in observations, keeps the standing decision, and numbers the epochs.

use std::collections::BTreeMap;

use crate::cluster::{MemberName, Revision, ServerAddr, Timeline};
use crate::epoch::RouteEpoch;
use crate::evidence::Evidence;
use crate::leadership::{self, Basis, Confirmed, Leader};
use crate::moment::Moment;
use crate::observation::{Observation, Role};
use crate::policy::{Policy, Sources};
use crate::reason::Reason;
use crate::replicas::{self, Candidate};
use crate::routing::{ProbeUrgency, ReadRoute, ReadServer, Routing, WriteRoute};

/// Turns observations into a [`Routing`].
///
/// Call [`observe`](Self::observe) for each observation and [`advance`](Self::advance) at each
/// [`deadline`](Self::deadline). Both return whether the routing changed.
#[derive(Clone, Debug)]
pub struct Router {
    policy: Policy,
    evidence: Evidence,
    routing: Routing,
    /// What identifies the present epoch.
    leadership: Option<Leadership>,
    valid_until: Option<Moment>,
    last_epoch: RouteEpoch,
    read_epochs: BTreeMap<(MemberName, ServerAddr), RouteEpoch>,
    last_read_epoch: RouteEpoch,
    deadline: Option<Moment>,
}

/// What identifies an epoch: when any of it changes, a new epoch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leadership {
    member: MemberName,
    addr: ServerAddr,
    timeline: Timeline,
    create_revision: Option<Revision>,
}

impl Leadership {
    fn of(confirmed: &Confirmed) -> Self {
        Self {
            member: confirmed.member.clone(),
            addr: confirmed.addr.clone(),
            timeline: confirmed.timeline,
            create_revision: confirmed.create_revision,
        }
    }
}

impl Router {
    /// A router that knows nothing yet and holds everything.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            evidence: Evidence::new(),
            routing: Routing {
                write: WriteRoute::Hold(Reason::Starting),
                read: ReadRoute::Hold(Reason::Starting),
                probe_urgency: ProbeUrgency::Elevated,
                two_primaries: Vec::new(),
            },
            leadership: None,
            valid_until: None,
            last_epoch: RouteEpoch::default(),
            read_epochs: BTreeMap::new(),
            last_read_epoch: RouteEpoch::default(),
            deadline: None,
        }
    }

    /// Takes in one observation at `now`. Returns whether the routing changed.
    pub fn observe(&mut self, observation: Observation, now: Moment) -> bool {
        // First, so that a late reply cannot revive a server that is due to be forgotten.
        self.forget_departed(now);
        self.evidence.observe(observation);
        self.advance(now)
    }

    /// Advances time to `now`. Returns whether the routing changed.
    pub fn advance(&mut self, now: Moment) -> bool {
        self.forget_departed(now);
        let confirmation = leadership::confirm(&self.evidence, &self.policy, now);
        let probe_urgency = self.probe_urgency(&confirmation);
        self.valid_until = confirmation.as_ref().ok().map(|confirmed| confirmed.until);
        let write = self.write_route(confirmation);
        let read = self.read_route(write.leader().map(Leader::member), now);
        let routing = Routing { write, read, probe_urgency, two_primaries: self.two_primaries(now) };
        self.deadline = self.next_expiry(now);
        let changed = routing != self.routing;
        self.routing = routing;
        changed
    }

    /// Replaces the policy at `now`. Returns whether the routing changed.
    pub fn set_policy(&mut self, policy: Policy, now: Moment) -> bool {
        self.policy = policy;
        self.advance(now)
    }

    /// The standing decision.
    pub const fn routing(&self) -> &Routing {
        &self.routing
    }

    /// The evidence that the decision is based on.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The policy in force.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Until when the write route may forward without newer evidence; `None` while it holds.
    ///
    /// Every probe moves it, so it is not part of the [`Routing`]. A relay checks it before it forwards bytes.
    pub const fn valid_until(&self) -> Option<Moment> {
        self.valid_until
    }

    /// Until when sessions of the read route may exchange bytes with `member` without newer evidence; `None` if the member
    /// has not replied. For the leader it is the same as [`valid_until`](Self::valid_until).
    pub fn read_valid_until(&self, member: &MemberName) -> Option<Moment> {
        if self.routing.write.leader().is_some_and(|leader| leader.member() == member) {
            return self.valid_until;
        }
        let reply = self.evidence.server(member)?.reply?;
        Some(reply.sent + self.policy.options().max_probe_age)
    }

    /// The latest time to call [`advance`](Self::advance).
    pub const fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    fn forget_departed(&mut self, now: Moment) {
        self.evidence.forget_departed(now, self.policy.options().max_probe_age);
    }

    fn write_route(&mut self, confirmation: Result<Confirmed, Reason>) -> WriteRoute {
        match confirmation {
            Ok(confirmed) => {
                let leadership = Leadership::of(&confirmed);
                if self.leadership.as_ref() != Some(&leadership) {
                    self.last_epoch = self.last_epoch.next();
                    self.leadership = Some(leadership);
                }
                WriteRoute::Forward(Leader::new(self.last_epoch, confirmed))
            }
            Err(reason) => {
                self.leadership = None;
                WriteRoute::Hold(reason)
            }
        }
    }

    fn read_route(&mut self, leader: Option<&MemberName>, now: Moment) -> ReadRoute {
        let candidates = replicas::candidates(&self.evidence, &self.policy, leader, now);
        let mut epochs = BTreeMap::new();
        let servers: Vec<ReadServer> =
            candidates.into_iter().filter_map(|candidate| self.read_server(candidate, &mut epochs)).collect();
        self.read_epochs = epochs;
        if servers.is_empty() { ReadRoute::Hold(Reason::NoReplica) } else { ReadRoute::Serve(servers) }
    }

    fn read_server(
        &mut self,
        candidate: Candidate,
        epochs: &mut BTreeMap<(MemberName, ServerAddr), RouteEpoch>,
    ) -> Option<ReadServer> {
        let addr = self.evidence.members().get(&candidate.member)?.addr.clone();
        let key = (candidate.member.clone(), addr.clone());
        let epoch = match self.read_epochs.get(&key) {
            Some(epoch) => *epoch,
            None => {
                self.last_read_epoch = self.last_read_epoch.next();
                self.last_read_epoch
            }
        };
        epochs.insert(key, epoch);
        Some(ReadServer { member: candidate.member, addr, epoch, admission: candidate.admission })
    }

    fn probe_urgency(&self, confirmation: &Result<Confirmed, Reason>) -> ProbeUrgency {
        match confirmation {
            Ok(confirmed) if confirmed.basis == Basis::AllMembers => ProbeUrgency::Elevated,
            Ok(_) if self.evidence.switchover_announced() => ProbeUrgency::Elevated,
            Ok(_) => ProbeUrgency::Normal,
            Err(reason) => match reason {
                Reason::LeaseUnconfirmed(member)
                | Reason::LeaderNotProbed(member)
                | Reason::LeaderInRecovery(member)
                | Reason::LeaderProbeFailed(member, _)
                | Reason::LeaderSilent(member) => ProbeUrgency::Burst(member.clone()),
                Reason::StandbyCluster => ProbeUrgency::Normal,
                Reason::Starting
                | Reason::NoLeader
                | Reason::LeaderAddressUnknown(_)
                | Reason::LeaseExpiring(_)
                | Reason::LeaderNotAcceptingConnections(_)
                | Reason::SystemIdMismatch(..)
                | Reason::Bootstrapping
                | Reason::TimelineBehind { .. }
                | Reason::DcsSilent
                | Reason::NoMembers
                | Reason::MemberSilent(_)
                | Reason::NoPrimary
                | Reason::TwoPrimaries(..)
                | Reason::NotLastLeader(_)
                | Reason::NoReplica => ProbeUrgency::Elevated,
            },
        }
    }

    fn two_primaries(&self, now: Moment) -> Vec<(MemberName, Timeline)> {
        let mut primaries: Vec<(MemberName, Timeline)> = self
            .evidence
            .fresh_replies(now, self.policy.options().max_probe_age)
            .filter_map(|(member, reply)| match reply.role {
                Role::Primary { timeline, .. } => Some((member.clone(), timeline)),
                Role::Replica { .. } => None,
            })
            .collect();
        if primaries.len() < 2 {
            primaries.clear();
        }
        primaries
    }

    /// The next moment at which a reply or the lease becomes too old.
    fn next_expiry(&self, now: Moment) -> Option<Moment> {
        let options = self.policy.options();
        let lease = match options.sources {
            Sources::DcsAndServers => self.evidence.lease().map(|lease| lease.end() - options.lease_margin),
            Sources::ServersOnly => None,
        };
        let replies = self.evidence.servers().values().filter_map(|server| server.reply);
        replies
            .flat_map(|reply| [reply.sent + options.max_probe_age, reply.sent + options.max_member_probe_age])
            .chain(lease)
            .filter(|expiry| *expiry > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_router_holds_everything() {
        let router = Router::new(Policy::default());
        assert_eq!(router.routing().write, WriteRoute::Hold(Reason::Starting));
        assert_eq!(router.routing().read, ReadRoute::Hold(Reason::Starting));
        assert_eq!(router.valid_until(), None);
    }
}
