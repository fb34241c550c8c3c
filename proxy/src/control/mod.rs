//! Control: owns the router, passes observations to it, and publishes its decisions.

mod handle;
mod outputs;
#[cfg(test)]
#[cfg(feature = "races")]
mod races;
mod restriction;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{
    FailoverLog, FailoverReport, Leader, Moment, Notifier, Observation, Policy, Router, WriteRoute,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::admission::DisconnectReason;
use crate::clock;
use crate::events::{self, EventRecord};
use crate::route::RouteKind;

pub use handle::{ControlHandle, View, ViewHandle};
pub use outputs::Outputs;
pub use restriction::{RestrictionChange, RestrictionError};

use handle::Request;

/// The size of the queue of observations. Sources wait when it is full, so none is lost.
pub const OBSERVATIONS: usize = 1024;
/// The size of the queue of requests.
const REQUESTS: usize = 64;

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
        (control, ControlHandle::new(sender))
    }

    /// Runs until the process exits.
    pub async fn run(mut self) -> Infallible {
        loop {
            let now = clock::now();
            let event_due = if self.stopped { None } else { self.notifier.deadline() };
            let deadline = self.router.deadline().into_iter().chain(event_due).min();
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
            Request::Restrict(change, answer) => {
                let _ = answer.send(self.restrict(change));
            }
            Request::Stop(answer) => {
                self.stop();
                let _ = answer.send(());
            }
        }
    }

    fn restrict(&mut self, change: RestrictionChange) -> Result<bool, RestrictionError> {
        let before = self.router.restrictions().clone();
        let after = change.applied_to(&before, self.router.evidence())?;
        let changed = before != after;
        self.update(None, |router, now| {
            router.restrict(after, now);
        });
        Ok(changed)
    }

    fn view(&self) -> View {
        View {
            now: clock::now(),
            routing: Arc::new(self.router.routing().clone()),
            valid_until: self.router.valid_until(),
            evidence: self.router.evidence().clone(),
            policy: *self.router.policy(),
            restrictions: self.router.restrictions().clone(),
            reports: self.failover_log.reports().cloned().collect(),
        }
    }

    /// Applies `change` to the router and publishes the result.
    fn update(&mut self, fact: Option<&Observation>, change: impl FnOnce(&mut Router, Moment)) {
        let now = clock::now();
        let before = self.router.routing().clone();
        change(&mut self.router, now);
        let after = self.router.routing().clone();
        self.count_probe(fact);
        self.failover_log.record(fact, &before.write, &after.write, now);
        self.count_downtime(&before.write, &after.write);
        self.outputs.publish_probe_plan(self.router.evidence(), &after);
        if self.stopped {
            return;
        }
        if before != after {
            let planned = self.router.evidence().switchover_announced();
            log_route_change(&before.write, &after.write, planned);
            self.notifier.observe(&after, now);
            self.outputs.publish(&self.router);
        }
        self.outputs.publish_hold_terms(&self.router);
        self.outputs.move_ends(&self.router);
    }

    /// Counts a probe by its member, as long as that is known.
    fn count_probe(&self, fact: Option<&Observation>) {
        let (members, counters) = (self.router.evidence().members(), &self.outputs.counters);
        match fact {
            Some(Observation::Probe { member, connection, outcome, .. }) if members.contains_key(member) => {
                counters.member(member).record_probe(*connection, outcome);
            }
            _ => counters.retain_members(|member| members.contains_key(member)),
        }
    }

    /// Counts how long new sessions waited for a leader, once there is one.
    fn count_downtime(&self, before: &WriteRoute, after: &WriteRoute) {
        let epoch = |route: &WriteRoute| route.leader().map(Leader::epoch);
        let Some(leader) = after.leader().filter(|_| epoch(before) != epoch(after)) else { return };
        let finished = self.failover_log.reports().last().filter(|report| report.to_epoch == epoch(after));
        if let Some(downtime) = finished.and_then(FailoverReport::downtime) {
            self.outputs.counters.member(leader.member()).write_downtime.record(downtime);
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

/// Logs each change of the write route, even those that are too small for an event. `planned`: somebody has asked for a
/// change of leader.
fn log_route_change(before: &WriteRoute, after: &WriteRoute, planned: bool) {
    match (before, after) {
        (WriteRoute::Forward(lost), WriteRoute::Hold(reason)) if planned => {
            let (member, epoch) = (lost.member(), lost.epoch());
            info!(%member, %epoch, reason = reason.code(), "planned change of leader, holding: {reason}");
        }
        (WriteRoute::Forward(lost), WriteRoute::Hold(reason)) => {
            warn!(member = %lost.member(), epoch = %lost.epoch(), reason = reason.code(), "holding: {reason}");
        }
        (WriteRoute::Hold(was), WriteRoute::Hold(reason)) if was.code() != reason.code() => {
            info!(reason = reason.code(), "holding: {reason}");
        }
        (_, WriteRoute::Forward(leader)) if before.leader().map(Leader::epoch) != Some(leader.epoch()) => {
            let (member, epoch, timeline) = (leader.member(), leader.epoch(), leader.timeline());
            info!(%member, %epoch, %timeline, addr = %leader.addr(), socket = %leader.socket(), "forwarding to {member}");
        }
        (WriteRoute::Forward(was), WriteRoute::Forward(leader)) => log_admission(was, leader, planned),
        _ => {}
    }
}

/// Logs what changes for new sessions while open ones go on.
fn log_admission(before: &Leader, after: &Leader, planned: bool) {
    let (member, epoch) = (after.member(), after.epoch());
    if before.socket() != after.socket() || before.member() != member {
        info!(%member, %epoch, addr = %after.addr(), socket = %after.socket(), "the leader is at another address now");
    }
    match (before.admission().waits(), after.admission().waits()) {
        (None, None) => {}
        (Some(_), None) => info!(%member, %epoch, "new sessions go to {member} again"),
        (was, Some(reason)) => {
            let known = was.map(pg_leader_proxy_core::Reason::code) == Some(reason.code());
            match planned {
                _ if known => {}
                true => info!(%member, %epoch, reason = reason.code(), "new sessions wait: {reason}"),
                false => warn!(%member, %epoch, reason = reason.code(), "new sessions wait: {reason}"),
            }
        }
    }
}
