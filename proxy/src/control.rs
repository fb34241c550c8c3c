//! Control: owns the router, passes observations to it, and publishes its decisions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{
    Admission, Evidence, FailoverLog, FailoverReport, Leader, Moment, Notifier, Observation, Policy,
    ReadRoute, ReadServer, Reason, Router, Routing, WriteRoute,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::admission::{DisconnectReason, Gate, Grant, Target, Targets};
use crate::clock;
use crate::counters::Counters;
use crate::events::{self, EventRecord, Outbox};
use crate::route::RouteKind;
use crate::sources::ProbePlan;

/// The size of the queue of observations. Sources wait when it is full, so none is lost.
pub const OBSERVATIONS: usize = 1024;
/// The size of the queue of requests.
const REQUESTS: usize = 64;

/// What the router knew and decided at one moment, for people to read.
#[derive(Clone, Debug)]
pub struct View {
    /// That moment.
    pub now: Moment,
    /// The standing decision.
    pub routing: Arc<Routing>,
    /// Until when the write route may forward without newer evidence.
    pub valid_until: Option<Moment>,
    /// The evidence that the decision is based on.
    pub evidence: Evidence,
    /// The policy in force.
    pub policy: Policy,
    /// The latest failover reports, oldest first.
    pub reports: Vec<FailoverReport>,
}

/// A request to control.
#[derive(Debug)]
enum Request {
    View(oneshot::Sender<View>),
    Policy(Policy),
    Stop(oneshot::Sender<()>),
}

/// A handle that can change the policy and stop control.
#[derive(Clone, Debug)]
pub struct ControlHandle(mpsc::Sender<Request>);

/// A handle that can only read.
#[derive(Clone, Debug)]
pub struct ViewHandle(mpsc::Sender<Request>);

impl ViewHandle {
    /// The present view; `None` if control has stopped.
    pub async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.0.send(Request::View(answer)).await.ok()?;
        view.await.ok()
    }
}

impl ControlHandle {
    /// A handle that can only read.
    pub fn viewer(&self) -> ViewHandle {
        ViewHandle(self.0.clone())
    }

    /// Replaces the policy.
    pub async fn set_policy(&self, policy: Policy) {
        // Control runs until the process exits.
        let _ = self.0.send(Request::Policy(policy)).await;
    }

    /// Terminates all sessions and takes no new ones. Returns once all grants are revoked.
    pub async fn stop(&self) {
        let (answer, done) = oneshot::channel();
        if self.0.send(Request::Stop(answer)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// Where control publishes.
#[derive(Debug)]
pub struct Outputs {
    /// The targets of sessions.
    pub targets: watch::Sender<Arc<Targets>>,
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
        let no_targets = Targets { write: Err(Reason::Starting), read: Err(Reason::Starting) };
        let no_members =
            ProbePlan { members: BTreeMap::new(), urgency: pg_leader_proxy_core::ProbeUrgency::Elevated };
        let (targets, targets_receiver) = watch::channel(Arc::new(no_targets));
        let (probe_plan, probe_plan_receiver) = watch::channel(Arc::new(no_members));
        (
            Self { targets, probe_plan, write_gate, read_gate, counters, events: Outbox::default() },
            targets_receiver,
            probe_plan_receiver,
        )
    }
}

/// The task that owns the router.
#[derive(Debug)]
pub struct Control {
    router: Router,
    failover_log: FailoverLog,
    outputs: Outputs,
    requests: mpsc::Receiver<Request>,
    observations: mpsc::Receiver<Observation>,
    notifier: Notifier,
    stopped: bool,
}

impl Control {
    /// A control whose router has no observations yet.
    pub fn new(
        policy: Policy,
        observations: mpsc::Receiver<Observation>,
        outputs: Outputs,
    ) -> (Self, ControlHandle) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let control = Self {
            router: Router::new(policy),
            failover_log: FailoverLog::default(),
            outputs,
            requests,
            observations,
            notifier: Notifier::new(clock::now()),
            stopped: false,
        };
        (control, ControlHandle(sender))
    }

    /// Runs until the process exits.
    pub async fn run(mut self) -> Infallible {
        loop {
            let now = clock::now();
            let untold = if self.stopped { None } else { self.notifier.deadline() };
            let deadline = self.router.deadline().into_iter().chain(untold).min();
            let wait = deadline.map_or(Duration::MAX, |deadline| deadline.since(now));
            tokio::select! {
                biased;
                Some(observation) = self.observations.recv() => self.observe(observation),
                Some(request) = self.requests.recv() => self.answer(request),
                () = self.outputs.events.forward(), if self.outputs.events.is_waiting() => {}
                () = tokio::time::sleep(wait) => self.update(None, |router, now| { router.advance(now); }),
            }
            self.send_events();
        }
    }

    fn observe(&mut self, observation: Observation) {
        let fact = observation.clone();
        self.update(Some(&fact), |router, now| {
            router.observe(observation, now);
        });
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::View(answer) => {
                // The caller may be gone.
                let _ = answer.send(self.view());
            }
            Request::Policy(policy) => self.update(None, |router, now| {
                router.set_policy(policy, now);
            }),
            Request::Stop(answer) => {
                self.stop();
                let _ = answer.send(());
            }
        }
    }

    fn view(&self) -> View {
        View {
            now: clock::now(),
            routing: Arc::new(self.router.routing().clone()),
            valid_until: self.router.valid_until(),
            evidence: self.router.evidence().clone(),
            policy: *self.router.policy(),
            reports: self.failover_log.reports().cloned().collect(),
        }
    }

    /// Applies `change` to the router and publishes the result.
    fn update(&mut self, fact: Option<&Observation>, change: impl FnOnce(&mut Router, Moment)) {
        let now = clock::now();
        let before = self.router.routing().clone();
        change(&mut self.router, now);
        let after = self.router.routing().clone();
        self.failover_log.record(fact, &before.write, &after.write, now);
        self.count_downtime(&before.write, &after.write);
        self.publish_probe_plan(&after);
        if self.stopped {
            return;
        }
        if before != after {
            log_route_change(&before.write, &after.write);
            self.notifier.observe(&after, now);
            self.publish(&after);
        }
        self.extend_passes();
    }

    /// Counts how long nothing was forwarded, once it is again.
    fn count_downtime(&self, before: &WriteRoute, after: &WriteRoute) {
        let epoch = |route: &WriteRoute| route.leader().map(Leader::epoch);
        if epoch(after).is_none() || epoch(before) == epoch(after) {
            return;
        }
        let finished = self.failover_log.reports().last().filter(|report| report.to_epoch == epoch(after));
        if let Some(downtime) = finished.and_then(FailoverReport::downtime) {
            self.outputs.counters.write_downtime.record(downtime);
        }
    }

    /// Extends the grants: every probe moves their end, even when the routing stays the same.
    fn extend_passes(&self) {
        let targets = self.outputs.targets.borrow();
        for target in targets.all(RouteKind::Write) {
            self.router.valid_until().into_iter().for_each(|until| target.grant.extend(until));
        }
        for target in targets.all(RouteKind::Read) {
            self.router
                .read_valid_until(&target.member)
                .into_iter()
                .for_each(|until| target.grant.extend(until));
        }
    }

    fn publish_probe_plan(&self, routing: &Routing) {
        let known = self.router.evidence().servers();
        let members = known.iter().map(|(name, server)| (name.clone(), server.addr.clone())).collect();
        let probe_plan = ProbePlan { members, urgency: routing.probe_urgency.clone() };
        self.outputs.probe_plan.send_if_modified(|asked| {
            let other = **asked != probe_plan;
            if other {
                *asked = Arc::new(probe_plan);
            }
            other
        });
    }

    /// Revokes the grants that are no longer valid, and then publishes the new targets.
    fn publish(&self, routing: &Routing) {
        let known = Arc::clone(&self.outputs.targets.borrow());
        let targets =
            Targets { write: self.write_target(&known, routing), read: self.read_targets(&known, routing) };
        for old in known.all(RouteKind::Write) {
            if targets.all(RouteKind::Write).iter().all(|new| !Arc::ptr_eq(&new.grant, &old.grant)) {
                old.grant.revoke(match &targets.write {
                    Ok(_) => DisconnectReason::NewLeader,
                    Err(reason) => DisconnectReason::Route(reason.clone()),
                });
                old.counters.iter().for_each(|counters| counters.end(clock::now()));
            }
        }
        for old in known.all(RouteKind::Read) {
            if targets.all(RouteKind::Read).iter().all(|new| !Arc::ptr_eq(&new.grant, &old.grant)) {
                old.grant.revoke(DisconnectReason::Route(Reason::NoReplica));
            }
        }
        let write_open = targets.choose(RouteKind::Write).is_ok();
        let read_open = targets.choose(RouteKind::Read).is_ok();
        self.outputs.targets.send_replace(Arc::new(targets));
        self.outputs.write_gate.set_open(write_open);
        self.outputs.read_gate.set_open(read_open);
    }

    fn write_target(&self, known: &Targets, routing: &Routing) -> Result<Target, Reason> {
        let leader = match &routing.write {
            WriteRoute::Hold(reason) => return Err(reason.clone()),
            WriteRoute::Forward(leader) => leader,
        };
        let hold_reason = leader.hold_reason().cloned();
        match &known.write {
            Ok(target) if target.epoch == leader.epoch() => Ok(Target { hold_reason, ..target.clone() }),
            _ => Ok(Target {
                member: leader.member().clone(),
                addr: leader.addr().clone(),
                epoch: leader.epoch(),
                grant: Arc::new(Grant::until(self.router.valid_until().unwrap_or_default())),
                hold_reason,
                counters: Some(self.outputs.counters.begin_epoch(leader.epoch())),
                sessions: Arc::default(),
            }),
        }
    }

    fn read_targets(&self, known: &Targets, routing: &Routing) -> Result<Vec<Target>, Reason> {
        match &routing.read {
            ReadRoute::Hold(reason) => Err(reason.clone()),
            ReadRoute::Serve(servers) => {
                Ok(servers.iter().map(|server| self.read_target(known, server)).collect())
            }
        }
    }

    fn read_target(&self, known: &Targets, server: &ReadServer) -> Target {
        let hold_reason = read_hold_reason(server.admission);
        let kept = known
            .all(RouteKind::Read)
            .iter()
            .find(|target| target.member == server.member && target.epoch == server.epoch);
        match kept {
            Some(target) => Target { hold_reason, ..target.clone() },
            None => Target {
                member: server.member.clone(),
                addr: server.addr.clone(),
                epoch: server.epoch,
                grant: Arc::new(Grant::until(
                    self.router.read_valid_until(&server.member).unwrap_or_default(),
                )),
                hold_reason,
                counters: None,
                sessions: Arc::default(),
            },
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.outputs.write_gate.close_for_good();
        self.outputs.read_gate.close_for_good();
        let known = Arc::clone(&self.outputs.targets.borrow());
        for target in RouteKind::ALL.iter().flat_map(|route| known.all(*route)) {
            target.grant.revoke(DisconnectReason::Stopping);
        }
    }

    /// Logs the events that are due, and sends them to the outbox.
    fn send_events(&mut self) {
        if self.stopped {
            return;
        }
        let counters = Arc::clone(&self.outputs.counters);
        for event in self.notifier.advance(clock::now(), |from, to| counters.impact(from, to)) {
            events::log(&event);
            self.outputs.events.send(EventRecord::from(&event));
        }
    }
}

/// Logs each change of the write route, even those that are too small for an event.
fn log_route_change(before: &WriteRoute, after: &WriteRoute) {
    match (before, after) {
        (WriteRoute::Forward(lost), WriteRoute::Hold(reason)) => {
            warn!(member = %lost.member(), epoch = %lost.epoch(), reason = reason.code(), "holding: {reason}");
        }
        (WriteRoute::Hold(was), WriteRoute::Hold(reason)) if was.code() != reason.code() => {
            info!(reason = reason.code(), "holding: {reason}");
        }
        (_, WriteRoute::Forward(leader)) if before.leader().map(Leader::epoch) != Some(leader.epoch()) => {
            let (member, epoch, timeline) = (leader.member(), leader.epoch(), leader.timeline());
            info!(%member, %epoch, %timeline, addr = %leader.addr(), "forwarding to {member}");
        }
        _ => {}
    }
}

/// Why a server of the read route takes no new sessions, if it does not.
fn read_hold_reason(admission: Admission) -> Option<Reason> {
    match admission {
        Admission::NewSessions => None,
        Admission::ExistingOnly => Some(Reason::NoReplica),
    }
}
