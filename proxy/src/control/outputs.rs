//! What control publishes: the targets of sessions, the ends of their grants, and the probe plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use pg_leader_proxy_core::{
    Evidence, MemberName, OpenSessions, ProbeUrgency, ReadRoute, ReadServer, Reason, Router, Routing,
    WriteRoute,
};
use tokio::sync::watch;

use crate::admission::{DisconnectReason, Gate, Grant, HoldTerms, Target, TargetSessions, Targets};
use crate::clock;
use crate::counters::{Counters, TerminationKind};
use crate::events::Outbox;
use crate::route::RouteKind;
use crate::sources::{ProbePlan, ProbeTarget};

/// Where control publishes.
#[derive(Debug)]
pub struct Outputs {
    /// The targets of sessions.
    pub targets: watch::Sender<Arc<Targets>>,
    /// What bounds the wait of held clients.
    pub hold_terms: watch::Sender<HoldTerms>,
    /// What to probe, and how often.
    pub probe_plan: watch::Sender<Arc<ProbePlan>>,
    /// The gate of the write route.
    pub write_gate: Gate,
    /// The gate of the read route.
    pub read_gate: Gate,
    /// The counters.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub events: Outbox,
}

impl Outputs {
    /// Outputs to which nothing has been published yet, and their receivers.
    pub fn new(
        write_gate: Gate,
        read_gate: Gate,
        counters: Arc<Counters>,
    ) -> (Self, watch::Receiver<Arc<Targets>>, watch::Receiver<Arc<ProbePlan>>) {
        let no_members = ProbePlan { members: BTreeMap::new(), urgency: ProbeUrgency::Elevated };
        let (targets, targets_receiver) = watch::channel(Arc::new(Targets::starting()));
        let (probe_plan, probe_plan_receiver) = watch::channel(Arc::new(no_members));
        (
            Self {
                targets,
                hold_terms: watch::Sender::default(),
                probe_plan,
                write_gate,
                read_gate,
                counters,
                events: Outbox::default(),
            },
            targets_receiver,
            probe_plan_receiver,
        )
    }

    /// Publishes the probe plan, if it has changed.
    pub(super) fn publish_probe_plan(&self, evidence: &Evidence, routing: &Routing) {
        let members = evidence.members().iter().map(|(name, member)| {
            let target = ProbeTarget {
                addr: member.record.addr.clone(),
                published: member.published.socket,
                former: member.former.as_ref().and_then(|former| former.socket),
            };
            (name.clone(), target)
        });
        let plan = ProbePlan { members: members.collect(), urgency: routing.probe_urgency.clone() };
        self.probe_plan.send_if_modified(|known| {
            let other = **known != plan;
            if other {
                *known = Arc::new(plan);
            }
            other
        });
    }

    /// Revokes the grants that are no longer valid, and then publishes the new targets.
    pub(super) fn publish(&self, router: &Router) {
        let routing = router.routing();
        let known = Arc::clone(&self.targets.borrow());
        let targets = Targets {
            write: self.write_target(&known, router),
            read: match &routing.read {
                ReadRoute::Hold(reason) => Err(reason.clone()),
                ReadRoute::Serve(servers) => {
                    Ok(servers.iter().map(|server| self.read_target(&known, router, server)).collect())
                }
            },
        };
        for old in known.all(RouteKind::Write) {
            if targets.all(RouteKind::Write).iter().all(|new| !Arc::ptr_eq(&new.grant, &old.grant)) {
                old.grant.revoke(match &targets.write {
                    Ok(_) => DisconnectReason::NewLeader,
                    Err(reason) => DisconnectReason::Route(reason.clone()),
                });
                if let Some(counters) = &old.counters {
                    let lost = counters.end(clock::now());
                    let terminated = self.counters.route(RouteKind::Write);
                    terminated.terminations(TerminationKind::EndedByServer).add(lost);
                }
            }
        }
        for old in known.all(RouteKind::Read) {
            if targets.all(RouteKind::Read).iter().all(|new| !Arc::ptr_eq(&new.grant, &old.grant)) {
                let reason = router.read_ended(old.epoch).cloned().unwrap_or(Reason::NoReplica);
                old.grant.revoke(DisconnectReason::Route(reason));
            }
        }
        let write_open = targets.waits(RouteKind::Write).is_none();
        let read_open = targets.waits(RouteKind::Read).is_none();
        self.targets.send_replace(Arc::new(targets));
        self.write_gate.set_open(write_open);
        self.read_gate.set_open(read_open);
    }

    /// Publishes what bounds the wait of held clients, if it has changed.
    pub(super) fn publish_hold_terms(&self, router: &Router) {
        let lasts = router.routing().write.waits().is_some_and(Reason::is_lasting);
        self.hold_terms.send_if_modified(|known| {
            let lasting_since = lasts.then(|| known.lasting_since.unwrap_or_else(clock::now));
            let terms = HoldTerms { ttl: router.evidence().config().ttl, lasting_since };
            std::mem::replace(known, terms) != terms
        });
    }

    /// Moves the ends of the grants: every probe does that, even when the routing stays the same. They lie in the past
    /// while sessions are suspended.
    pub(super) fn move_ends(&self, router: &Router) {
        let targets = self.targets.borrow();
        let write = targets.all(RouteKind::Write).iter().map(|target| (target, router.valid_until()));
        let read =
            targets.all(RouteKind::Read).iter().map(|target| (target, router.read_valid_until(target.epoch)));
        for (target, until) in write.chain(read) {
            router.suspended_until().into_iter().for_each(|until| target.grant.keep_suspended(until));
            until.into_iter().for_each(|until| target.grant.set_end(until));
        }
    }

    fn write_target(&self, known: &Targets, router: &Router) -> Result<Target, Reason> {
        let leader = match &router.routing().write {
            WriteRoute::Hold(reason) => return Err(reason.clone()),
            WriteRoute::Forward(leader) => leader,
        };
        let kept = known.write.as_ref().ok().filter(|target| target.epoch == leader.epoch());
        let (grant, counters, sessions) = match kept {
            Some(kept) => (Arc::clone(&kept.grant), kept.counters.clone(), Arc::clone(&kept.sessions)),
            None => (
                Arc::new(Grant::until(router.valid_until().unwrap_or_default())),
                Some(self.counters.begin_epoch(leader.epoch())),
                self.sessions(leader.member(), RouteKind::Write),
            ),
        };
        Ok(Target {
            member: leader.member().clone(),
            addr: leader.addr().clone(),
            socket: leader.socket(),
            epoch: leader.epoch(),
            grant,
            admission: leader.admission().clone(),
            counters,
            sessions,
        })
    }

    fn read_target(&self, known: &Targets, router: &Router, server: &ReadServer) -> Target {
        let kept = known.all(RouteKind::Read).iter().find(|target| target.epoch == server.epoch);
        let (grant, sessions) = match kept {
            Some(kept) => (Arc::clone(&kept.grant), Arc::clone(&kept.sessions)),
            None => {
                let until = router.read_valid_until(server.epoch).unwrap_or_default();
                (Arc::new(Grant::until(until)), self.sessions(&server.member, RouteKind::Read))
            }
        };
        grant.set_ends_when_idle(server.open_sessions == OpenSessions::EndWhenIdle);
        Target {
            member: server.member.clone(),
            addr: server.addr.clone(),
            socket: server.socket,
            epoch: server.epoch,
            grant,
            admission: server.admission.clone(),
            counters: None,
            sessions,
        }
    }

    /// Sessions of a new epoch, which also count for their member.
    fn sessions(&self, member: &MemberName, route: RouteKind) -> Arc<TargetSessions> {
        Arc::new(TargetSessions::new(Arc::clone(self.counters.member(member).route(route))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pg_leader_proxy_core::{ClusterConfig, Observation, Policy};

    use super::*;
    use crate::admission::GateLimits;

    fn observe(router: &mut Router, config: ClusterConfig) {
        router.observe(Observation::Config(config), clock::now());
    }

    fn outputs() -> (Outputs, Router) {
        let gate = Gate::new(GateLimits { max_held: 1, max_concurrent_logins: 1 });
        let (outputs, ..) = Outputs::new(gate.clone(), gate, Arc::default());
        (outputs, Router::new(Policy::default()))
    }

    #[test]
    fn the_ttl_of_the_cluster_is_published_when_it_changes() {
        let (outputs, mut router) = outputs();
        let terms = outputs.hold_terms.subscribe();
        observe(&mut router, ClusterConfig { ttl: Duration::from_secs(60), ..ClusterConfig::default() });
        outputs.publish_hold_terms(&router);
        assert!(terms.has_changed().unwrap());
        assert_eq!(terms.borrow().ttl, Duration::from_secs(60));
    }

    #[test]
    fn a_lasting_wait_is_counted_from_its_beginning() {
        let (outputs, mut router) = outputs();
        let mut terms = outputs.hold_terms.subscribe();
        router.observe(Observation::LeaderKey { key: None, lease: None, seen: clock::now() }, clock::now());
        outputs.publish_hold_terms(&router);
        assert!(!terms.has_changed().unwrap(), "there is no leader, which wakes nobody");
        observe(&mut router, ClusterConfig { standby_cluster: true, ..ClusterConfig::default() });
        outputs.publish_hold_terms(&router);
        let since = terms.borrow_and_update().lasting_since;
        assert!(since.is_some());
        outputs.publish_hold_terms(&router);
        assert!(!terms.has_changed().unwrap());
        observe(&mut router, ClusterConfig::default());
        outputs.publish_hold_terms(&router);
        assert_eq!(terms.borrow().lasting_since, None);
    }
}
