//! The notifier: decides when to report an event, and reports few of them.
//!
//! Orchestrators keep only a few events (Nomad ten per task). So events that repeat are merged and reported at most
//! once per [`REPEAT_AFTER`]. A new leader, and the end of a reported fence, are never delayed for that.

mod alarms;

use std::time::Duration;

use crate::cluster::{MemberName, Timeline};
use crate::epoch::RouteEpoch;
use crate::event::{Event, Impact, LeaderChange, LeaderEvent};
use crate::leadership::Leader;
use crate::moment::Moment;
use crate::reason::Reason;
use crate::routing::{Routing, WriteRoute};
use crate::waiting::Waiting;

use alarms::AlarmHistories;

/// How long a new leader must have served before it is reported, so that the clients that waited for it are counted.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// The longest time that a series of short-lived leaders can delay the report.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing must have been forwarded before that is reported.
const FENCED_AFTER: Duration = Duration::from_secs(3);
/// The shortest time between two reports of the same kind.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Turns routings into events: call [`observe`](Self::observe) with each new routing, and
/// [`advance`](Self::advance) at each deadline.
#[derive(Clone, Debug)]
pub struct Notifier {
    route: RouteHistory,
    alarms: AlarmHistories,
}

impl Notifier {
    /// A notifier for a process that started at `started`.
    pub fn new(started: Moment) -> Self {
        Self { route: RouteHistory::new(started), alarms: AlarmHistories::default() }
    }

    /// Records the routing that is in force from `now` on.
    pub fn observe(&mut self, routing: &Routing, now: Moment) {
        self.route.observe(&routing.write, now);
        self.alarms.observe(&routing.alarms, now);
    }

    /// When [`advance`](Self::advance) will have an event, unless a new routing changes that.
    pub fn deadline(&self) -> Option<Moment> {
        self.route.due().into_iter().chain(self.alarms.due()).min()
    }

    /// The events that are due at `now`. `impact` counts the sessions and clients affected from the beginning of its
    /// first epoch to the beginning of its second.
    pub fn advance(
        &mut self,
        now: Moment,
        impact: impl FnOnce(RouteEpoch, RouteEpoch) -> Impact,
    ) -> Vec<Event> {
        let alarms = self.alarms.take_due(now);
        alarms.into_iter().chain(self.route.take_due(now, impact)).collect()
    }
}

/// What tells one leader from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LeaderIdentity {
    member: MemberName,
    timeline: Timeline,
    epoch: RouteEpoch,
}

impl LeaderIdentity {
    fn of(leader: &Leader) -> Self {
        Self { member: leader.member().clone(), timeline: leader.timeline(), epoch: leader.epoch() }
    }
}

/// Where the write route goes, and since when.
#[derive(Clone, Debug)]
enum RouteState {
    Leader(LeaderIdentity, Moment),
    Holding(Reason, Moment),
}

/// What happened to the write route since the last leader event, and what was reported.
#[derive(Clone, Debug)]
struct RouteHistory {
    state: RouteState,
    /// The leader of the last leader event.
    reported: Option<LeaderIdentity>,
    /// Since then: how long new sessions waited for a leader, without the present outage.
    downtime: Duration,
    waiting: Waiting,
    /// Since then: why forwarding first stopped.
    cause: Option<Reason>,
    /// Since then: when the first new epoch began.
    first_change: Option<Moment>,
    /// Since then: whether a fence was reported.
    fenced: bool,
    fence_reported_at: Option<Moment>,
    resume_reported_at: Option<Moment>,
}

impl RouteHistory {
    const fn new(started: Moment) -> Self {
        Self {
            state: RouteState::Holding(Reason::Starting(None), started),
            reported: None,
            downtime: Duration::ZERO,
            waiting: Waiting::NONE,
            cause: None,
            first_change: None,
            fenced: false,
            fence_reported_at: None,
            resume_reported_at: None,
        }
    }

    fn observe(&mut self, route: &WriteRoute, now: Moment) {
        let waited = self.waiting.lasting(now);
        self.waiting.observe(route, now);
        self.state = match (&self.state, route) {
            (RouteState::Leader(known, _), WriteRoute::Forward(leader)) if known.epoch == leader.epoch() => {
                return;
            }
            (state, WriteRoute::Forward(leader)) => {
                self.downtime += match state {
                    RouteState::Holding(_, since) => now.since(*since),
                    RouteState::Leader(..) => waited,
                };
                self.first_change.get_or_insert(now);
                RouteState::Leader(LeaderIdentity::of(leader), now)
            }
            (RouteState::Holding(_, since), WriteRoute::Hold(reason)) => {
                RouteState::Holding(reason.clone(), *since)
            }
            (RouteState::Leader(..), WriteRoute::Hold(reason)) => {
                self.downtime += waited;
                self.cause.get_or_insert_with(|| reason.clone());
                RouteState::Holding(reason.clone(), now)
            }
        };
    }

    fn due(&self) -> Option<Moment> {
        match &self.state {
            RouteState::Holding(..) if self.fenced => None,
            RouteState::Holding(_, since) => {
                Some((*since + FENCED_AFTER).max(earliest_repeat(self.fence_reported_at)))
            }
            RouteState::Leader(leader, since) => match self.change(leader)? {
                // No session was affected, so there is nothing to wait for.
                LeaderChange::First if !self.fenced => Some(*since),
                LeaderChange::Resumed if !self.fenced => {
                    Some(self.settles_at(*since).max(earliest_repeat(self.resume_reported_at)))
                }
                LeaderChange::First | LeaderChange::Changed | LeaderChange::Resumed => {
                    Some(self.settles_at(*since))
                }
            },
        }
    }

    fn take_due(
        &mut self,
        now: Moment,
        impact: impl FnOnce(RouteEpoch, RouteEpoch) -> Impact,
    ) -> Option<Event> {
        self.due().filter(|due| *due <= now)?;
        let leader = match &self.state {
            RouteState::Leader(leader, _) => leader.clone(),
            RouteState::Holding(reason, since) => {
                self.fenced = true;
                self.fence_reported_at = Some(now);
                return Some(Event::Fenced(now.since(*since), reason.clone()));
            }
        };
        let change = self.change(&leader)?;
        let before = self.reported.replace(leader.clone()).map(|reported| reported.epoch).unwrap_or_default();
        let impact = impact(before, leader.epoch);
        let (downtime, cause) = (std::mem::take(&mut self.downtime), self.cause.take());
        let fenced = std::mem::take(&mut self.fenced);
        self.first_change = None;
        if change == LeaderChange::Resumed {
            if impact.terminated == 0 && !fenced {
                return None;
            }
            self.resume_reported_at = Some(now);
        }
        let LeaderIdentity { member, timeline, epoch } = leader;
        Some(Event::Leader(LeaderEvent { member, timeline, epoch, change, impact, downtime, cause, fenced }))
    }

    /// How `leader` differs from the last reported one; `None` if it is that one, in the same epoch.
    fn change(&self, leader: &LeaderIdentity) -> Option<LeaderChange> {
        match &self.reported {
            None => Some(LeaderChange::First),
            Some(reported) if reported.epoch == leader.epoch => None,
            Some(reported) if (&reported.member, reported.timeline) == (&leader.member, leader.timeline) => {
                Some(LeaderChange::Resumed)
            }
            Some(_) => Some(LeaderChange::Changed),
        }
    }

    /// When to report a leader that began to serve at `since`: after the settle time, but within the limit if leaders keep
    /// changing.
    fn settles_at(&self, since: Moment) -> Moment {
        let latest = self.first_change.unwrap_or(since) + SETTLE_LIMIT;
        (since + SETTLE_TIME).min(latest.max(since))
    }
}

/// The earliest moment to report something again that was last reported at `reported`.
fn earliest_repeat(reported: Option<Moment>) -> Moment {
    reported.map_or_else(Moment::default, |reported| reported + REPEAT_AFTER)
}
