//! The router: takes in observations, keeps the standing decision, and numbers the epochs.

use std::collections::BTreeMap;

use crate::alarm;
use crate::cluster::ServerId;
use crate::epoch::RouteEpoch;
use crate::evidence::Evidence;
use crate::leadership::{self, Leader, Proof};
use crate::moment::Moment;
use crate::observation::Observation;
use crate::policy::{Policy, Sources};
use crate::reason::Reason;
use crate::replicas::{self, Readers};
use crate::restrictions::Restrictions;
use crate::routing::{ReadRoute, ReadServer, Routing, WriteRoute};
use crate::urgency::probe_urgency;

/// Turns observations into a [`Routing`].
///
/// Call [`observe`](Self::observe) for each observation and [`advance`](Self::advance) at each
/// [`deadline`](Self::deadline). Both return whether the routing changed.
#[derive(Clone, Debug, Hash)]
pub struct Router {
    policy: Policy,
    restrictions: Restrictions,
    evidence: Evidence,
    routing: Routing,
    valid_until: Option<Moment>,
    read_valid_until: BTreeMap<RouteEpoch, Moment>,
    /// The epochs of the read route that ended with the last call, and why.
    read_ended: BTreeMap<RouteEpoch, Reason>,
    last_epoch: RouteEpoch,
    last_read_epoch: RouteEpoch,
    deadline: Option<Moment>,
}

impl Router {
    /// A router that knows nothing yet and holds everything.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            restrictions: Restrictions::default(),
            evidence: Evidence::new(),
            routing: Routing::starting(),
            valid_until: None,
            read_valid_until: BTreeMap::new(),
            read_ended: BTreeMap::new(),
            last_epoch: RouteEpoch::default(),
            last_read_epoch: RouteEpoch::default(),
            deadline: None,
        }
    }

    /// Takes in one observation at `now`. Returns whether the routing changed.
    pub fn observe(&mut self, observation: Observation, now: Moment) -> bool {
        // First, so that a late reply cannot revive a server that is due to be forgotten.
        self.forget_departed(now);
        self.evidence.observe(observation, now);
        self.advance(now)
    }

    /// Advances time to `now`. Returns whether the routing changed.
    pub fn advance(&mut self, now: Moment) -> bool {
        self.forget_departed(now);
        let standing = self.routing.write.leader().map(Leader::standing);
        let verdict = leadership::decide(&self.evidence, &self.policy, standing, now);
        self.valid_until = verdict.as_ref().ok().map(|proof| proof.until);
        let write = self.write_route(verdict);
        let read = self.read_route(&write, now);
        let probe_urgency = probe_urgency(&write, &self.evidence);
        let mut routing = Routing { write, read, probe_urgency, alarms: Vec::new() };
        self.evidence.forget_former(&routing.sockets());
        routing.alarms =
            alarm::alarms(&self.evidence, &self.policy, &self.restrictions, routing.write.leader(), now);
        routing.pause(&self.restrictions);
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

    /// Replaces the operator's restrictions at `now`. Returns whether the routing changed. Those of a member end when it is
    /// forgotten.
    pub fn restrict(&mut self, restrictions: Restrictions, now: Moment) -> bool {
        self.restrictions = restrictions;
        self.advance(now)
    }

    /// The operator's restrictions.
    pub const fn restrictions(&self) -> &Restrictions {
        &self.restrictions
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

    /// The moment from which no byte of the write route may pass unless a later call moved it; `None` while it holds.
    ///
    /// It moves with every confirmation, so it is not part of the [`Routing`]: a relay reads it before each byte it
    /// passes. It lies in the past while the sessions are suspended, see [`suspended_until`](Self::suspended_until).
    pub const fn valid_until(&self) -> Option<Moment> {
        self.valid_until
    }

    /// The moment from which no byte of this epoch of the read route may pass unless a later call moved it; `None` when
    /// it has ended.
    pub fn read_valid_until(&self, epoch: RouteEpoch) -> Option<Moment> {
        self.read_valid_until.get(&epoch).copied()
    }

    /// Why this epoch of the read route has ended, if the last call ended it.
    pub fn read_ended(&self, epoch: RouteEpoch) -> Option<&Reason> {
        self.read_ended.get(&epoch)
    }

    /// Until when sessions are kept that may pass no byte, because the clock was stepped and nothing is confirmed since.
    pub fn suspended_until(&self) -> Option<Moment> {
        self.evidence.clock_stepped().map(|stepped| stepped + self.policy.options().max_suspension)
    }

    /// The latest time to call [`advance`](Self::advance).
    pub const fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    fn forget_departed(&mut self, now: Moment) {
        self.evidence.forget_departed(now, self.policy.options().sources == Sources::ServersOnly);
        let members = self.evidence.members();
        self.restrictions.drained.retain(|member| members.contains_key(member));
    }

    fn write_route(&mut self, verdict: Result<Proof, Reason>) -> WriteRoute {
        match verdict {
            Ok(proof) => {
                if !proof.continues {
                    self.last_epoch = self.last_epoch.next();
                }
                WriteRoute::Forward(Leader::new(self.last_epoch, proof))
            }
            Err(reason) => WriteRoute::Hold(reason),
        }
    }

    fn read_route(&mut self, write: &WriteRoute, now: Moment) -> ReadRoute {
        let standing = self.routing.read.servers();
        let leader = write.leader().zip(self.valid_until);
        let Self { evidence, policy, restrictions, .. } = self;
        let readers = Readers { evidence, policy, restrictions, leader, standing, now };
        let candidates = readers.candidates();
        let known: BTreeMap<ServerId, RouteEpoch> =
            standing.iter().map(|known| (known.server, known.epoch)).collect();
        self.read_valid_until.clear();
        let mut servers = Vec::new();
        for candidate in candidates {
            let epoch = known.get(&candidate.server).copied().unwrap_or_else(|| self.last_read_epoch.next());
            self.last_read_epoch = self.last_read_epoch.max(epoch);
            self.read_valid_until.insert(epoch, candidate.until);
            servers.push(ReadServer {
                member: candidate.member,
                addr: candidate.addr,
                socket: candidate.socket,
                server: candidate.server,
                epoch,
                admission: candidate.admission,
                open_sessions: candidate.open_sessions,
            });
        }
        let is_left = |known: &&ReadServer| servers.iter().all(|server| server.epoch != known.epoch);
        let ended = standing.iter().filter(is_left).map(|known| (known.epoch, readers.departure(known)));
        self.read_ended = ended.collect();
        if servers.is_empty() { ReadRoute::Hold(Reason::NoReplica) } else { ReadRoute::Serve(servers) }
    }

    /// The next moment at which something that is known grows too old.
    fn next_expiry(&self, now: Moment) -> Option<Moment> {
        let options = self.policy.options();
        let evidence = &self.evidence;
        let lease = evidence.lease().map(|lease| lease.end() - options.lease_margin);
        let key = evidence.leadership_changed().map(|changed| changed + options.max_member_probe_age);
        let stepped = evidence.clock_stepped();
        let clock = [
            stepped.map(|stepped| stepped + options.max_suspension),
            stepped.map(|stepped| stepped + alarm::CLOCK_STEPPED_FOR),
        ];
        let silence = replicas::silence_limit(evidence, &self.policy);
        let views = evidence.members().values().flat_map(|member| member.views());
        let replies = views.filter_map(|view| view.reply).flat_map(|reply| {
            [options.max_probe_age, options.max_member_probe_age, silence].map(|limit| reply.sent + limit)
        });
        let joining = evidence.joining(now, options.max_member_probe_age).map(|(_, until)| until);
        let forgotten =
            evidence.members().iter().filter_map(|(name, member)| evidence.forgotten_at(name, member));
        let once = [lease, key].into_iter().chain(clock).flatten();
        replies.chain(joining).chain(forgotten).chain(once).filter(|expiry| *expiry > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_router_holds_everything() {
        let router = Router::new(Policy::default());
        assert_eq!(router.routing().write, WriteRoute::Hold(Reason::Starting(None)));
        assert_eq!(router.routing().read, ReadRoute::Hold(Reason::Starting(None)));
        assert_eq!(router.valid_until(), None);
    }
}
