//! Failover reports: when each step of a change of leader was seen.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::{MemberName, Timeline};
use crate::epoch::RouteEpoch;
use crate::leadership::Leader;
use crate::moment::Moment;
use crate::observation::{Observation, Role};
use crate::reason::Reason;
use crate::routing::WriteRoute;
use crate::waiting::Waiting;

/// How many finished reports are kept; the oldest is dropped for a new one.
const MAX_REPORTS: usize = 32;

/// A step of a change of leader. Steps of the same moment are sorted in the order of these variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailoverStep {
    /// A switchover was requested (Patroni's `failover` key).
    Announced,
    /// The leader key was deleted, or its lease expired.
    KeyDeleted,
    /// This member took the leader key.
    KeyPut(MemberName),
    /// New sessions began to wait, while the open ones went on.
    Waiting,
    /// Forwarding stopped and the open sessions were terminated.
    Terminated,
    /// This member reported that it has left recovery.
    LeftRecovery(MemberName),
    /// Forwarding resumed, to this member.
    Routed(MemberName),
}

/// One change of leader, from the loss of the old one to the confirmation of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverReport {
    /// The leader that was lost.
    pub from: (MemberName, Timeline),
    /// The epoch that ended.
    pub from_epoch: RouteEpoch,
    /// The next leader, once there is one. It is the same member when that only restarted.
    pub to: Option<(MemberName, Timeline)>,
    /// The epoch that began.
    pub to_epoch: Option<RouteEpoch>,
    /// Why forwarding stopped.
    pub cause: Reason,
    /// The steps and when each was seen, in order.
    pub steps: Vec<(Moment, FailoverStep)>,
}

impl FailoverReport {
    /// When forwarding stopped.
    pub fn terminated(&self) -> Option<Moment> {
        self.when(|step| *step == FailoverStep::Terminated)
    }

    /// When forwarding resumed.
    pub fn routed(&self) -> Option<Moment> {
        self.when(|step| matches!(step, FailoverStep::Routed(_)))
    }

    /// When new sessions began to wait: before forwarding stopped, or when it did.
    pub fn waiting(&self) -> Option<Moment> {
        self.when(|step| *step == FailoverStep::Waiting).or_else(|| self.terminated())
    }

    /// How long new sessions waited for a leader; `None` until forwarding resumed.
    pub fn downtime(&self) -> Option<Duration> {
        Some(self.routed()?.since(self.waiting()?))
    }

    fn when(&self, matches: impl Fn(&FailoverStep) -> bool) -> Option<Moment> {
        self.steps.iter().find(|(_, step)| matches(step)).map(|(moment, _)| *moment)
    }

    fn add(&mut self, now: Moment, step: FailoverStep) {
        if !self.steps.iter().any(|(_, known)| *known == step) {
            self.steps.push((now, step));
            self.steps.sort();
        }
    }
}

/// Builds the reports from what the router is told and from the write route that results.
#[derive(Clone, Debug, Default)]
pub struct FailoverLog {
    announced: Option<Moment>,
    waiting: Waiting,
    open: Option<FailoverReport>,
    finished: VecDeque<FailoverReport>,
}

impl FailoverLog {
    /// All reports, oldest first. The last one may be unfinished.
    pub fn reports(&self) -> impl Iterator<Item = &FailoverReport> {
        self.finished.iter().chain(&self.open)
    }

    /// Records what the router was told at `now`, and the write route before and after it.
    pub fn record(
        &mut self,
        observation: Option<&Observation>,
        before: &WriteRoute,
        after: &WriteRoute,
        now: Moment,
    ) {
        if let Some(Observation::Switchover { announced }) = observation {
            self.announced = announced.then_some(now);
        }
        if let Some(lost) =
            before.leader().filter(|lost| after.leader().map(Leader::epoch) != Some(lost.epoch()))
        {
            self.begin(lost, after, now);
        }
        self.waiting.observe(after, now);
        let Some(report) = &mut self.open else { return };
        match observation {
            Some(Observation::LeaderKey { key: None, .. }) => report.add(now, FailoverStep::KeyDeleted),
            Some(Observation::LeaderKey { key: Some(key), .. }) if key.holder != report.from.0 => {
                report.add(now, FailoverStep::KeyPut(key.holder.clone()));
            }
            Some(Observation::Probe { member, outcome: Ok(reply), .. })
                if matches!(reply.role, Role::Primary { .. }) && *member != report.from.0 =>
            {
                report.add(now, FailoverStep::LeftRecovery(member.clone()));
            }
            _ => {}
        }
        if let Some(leader) = after.leader() {
            self.finish(leader, now);
        }
    }

    fn begin(&mut self, lost: &Leader, after: &WriteRoute, now: Moment) {
        if let Some(unfinished) = self.open.take() {
            self.archive(unfinished);
        }
        let mut report = FailoverReport {
            from: (lost.member().clone(), lost.timeline()),
            from_epoch: lost.epoch(),
            to: None,
            to_epoch: None,
            cause: match after {
                WriteRoute::Hold(reason) => reason.clone(),
                WriteRoute::Forward(_) => Reason::NoLeader,
            },
            steps: vec![(now, FailoverStep::Terminated)],
        };
        if let Some(announced) = self.announced {
            report.add(announced, FailoverStep::Announced);
        }
        if let Some(waiting) = self.waiting.since() {
            report.add(waiting, FailoverStep::Waiting);
        }
        self.open = Some(report);
    }

    fn finish(&mut self, leader: &Leader, now: Moment) {
        if let Some(mut report) = self.open.take() {
            report.to = Some((leader.member().clone(), leader.timeline()));
            report.to_epoch = Some(leader.epoch());
            report.add(now, FailoverStep::Routed(leader.member().clone()));
            self.archive(report);
        }
    }

    fn archive(&mut self, report: FailoverReport) {
        if self.finished.len() == MAX_REPORTS {
            self.finished.pop_front();
        }
        self.finished.push_back(report);
    }
}
