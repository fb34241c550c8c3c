//! The herald: decides when something is worth telling, and tells it sparingly.
//!
//! Orchestrators keep a handful of events (Nomad ten for each task), so what repeats itself is gathered and told at
//! most once in [`REPEAT_AFTER`]. Another leader, or one that ends a fence that was told, is never kept back.

use std::time::Duration;

use crate::cluster::{MemberName, Timeline};
use crate::epoch::RouteEpoch;
use crate::event::{Event, Impact, LeaderChange, LeaderEvent};
use crate::leadership::Leader;
use crate::moment::Moment;
use crate::reason::Reason;
use crate::routing::{Routing, WriteRoute};

/// How long after a new leader began to serve it is told, so that those who waited for it have been counted.
const STORY_AFTER: Duration = Duration::from_secs(1);
/// How long after the first of a row of short-lived leaders the present one is told at the latest.
const STORY_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing must have been forwarded before that is told.
const FENCED_AFTER: Duration = Duration::from_secs(3);
/// How long an alarm must have been over before its end is told.
const OVER_AFTER: Duration = Duration::from_secs(10);
/// How long after it was told the same thing is told again at the soonest.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Tells the news: show it each routing, and let it [`advance`](Self::advance) when its deadline has come.
#[derive(Clone, Debug)]
pub struct Notifier {
    route: RouteStory,
    alarm: Alarm,
}

impl Notifier {
    /// A herald that has told nothing, at the moment when the process began.
    pub const fn new(began: Moment) -> Self {
        Self { route: RouteStory::new(began), alarm: Alarm::new(began) }
    }

    /// Takes in the routing as it is from `now` on.
    pub fn note(&mut self, routing: &Routing, now: Moment) {
        self.route.note(&routing.write, now);
        self.alarm.note(&routing.two_primaries, now);
    }

    /// When [`advance`](Self::advance) has something to tell, unless a later routing changes that.
    pub fn deadline(&self) -> Option<Moment> {
        self.route.due().into_iter().chain(self.alarm.due()).min()
    }

    /// Tells what is due at `now`. `toll` counts what became of the sessions since the first of two epochs began, until
    /// the second had.
    pub fn advance(
        &mut self,
        now: Moment,
        impact: impl FnOnce(RouteEpoch, RouteEpoch) -> Impact,
    ) -> Vec<Event> {
        let alarm = self.alarm.tell(now);
        alarm.into_iter().chain(self.route.tell(now, impact)).collect()
    }
}

/// A leader, by what tells it from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    member: MemberName,
    timeline: Timeline,
    epoch: RouteEpoch,
}

impl Name {
    fn of(leader: &Leader) -> Self {
        Self { member: leader.member().clone(), timeline: leader.timeline(), epoch: leader.epoch() }
    }
}

/// Where the write route leads, and since when.
#[derive(Clone, Debug)]
enum Place {
    Leader(Name, Moment),
    Nowhere(Reason, Moment),
}

/// What happened to the write route, and how much of it was told.
#[derive(Clone, Debug)]
struct RouteStory {
    place: Place,
    /// The leader that was told last.
    told: Option<Name>,
    /// Since then: how long nothing was forwarded in the spells that are over.
    downtime: Duration,
    /// Since then: why forwarding stopped first.
    cause: Option<Reason>,
    /// Since then: when another epoch began first.
    turned: Option<Moment>,
    /// Since then: whether the fence was told.
    fenced: bool,
    fenced_told: Option<Moment>,
    again_told: Option<Moment>,
}

impl RouteStory {
    const fn new(began: Moment) -> Self {
        Self {
            place: Place::Nowhere(Reason::Starting, began),
            told: None,
            downtime: Duration::ZERO,
            cause: None,
            turned: None,
            fenced: false,
            fenced_told: None,
            again_told: None,
        }
    }

    fn note(&mut self, route: &WriteRoute, now: Moment) {
        self.place = match (&self.place, route) {
            (Place::Leader(known, _), WriteRoute::Forward(leader)) if known.epoch == leader.epoch() => return,
            (place, WriteRoute::Forward(leader)) => {
                if let Place::Nowhere(_, since) = place {
                    self.downtime += now.since(*since);
                }
                self.turned.get_or_insert(now);
                Place::Leader(Name::of(leader), now)
            }
            (Place::Nowhere(_, since), WriteRoute::Hold(reason)) => Place::Nowhere(reason.clone(), *since),
            (Place::Leader(..), WriteRoute::Hold(reason)) => {
                self.cause.get_or_insert_with(|| reason.clone());
                Place::Nowhere(reason.clone(), now)
            }
        };
    }

    fn due(&self) -> Option<Moment> {
        match &self.place {
            Place::Nowhere(..) if self.fenced => None,
            Place::Nowhere(_, since) => Some((*since + FENCED_AFTER).max(repeated(self.fenced_told))),
            Place::Leader(leader, since) => match self.change(leader)? {
                // Nobody lost anything, so there is nothing to count.
                LeaderChange::First if !self.fenced => Some(*since),
                LeaderChange::Resumed if !self.fenced => {
                    Some(self.settled(*since).max(repeated(self.again_told)))
                }
                LeaderChange::First | LeaderChange::Changed | LeaderChange::Resumed => {
                    Some(self.settled(*since))
                }
            },
        }
    }

    fn tell(&mut self, now: Moment, impact: impl FnOnce(RouteEpoch, RouteEpoch) -> Impact) -> Option<Event> {
        self.due().filter(|due| *due <= now)?;
        let leader = match &self.place {
            Place::Leader(leader, _) => leader.clone(),
            Place::Nowhere(reason, since) => {
                self.fenced = true;
                self.fenced_told = Some(now);
                return Some(Event::Fenced(now.since(*since), reason.clone()));
            }
        };
        let change = self.change(&leader)?;
        let before = self.told.replace(leader.clone()).map(|told| told.epoch).unwrap_or_default();
        let impact = impact(before, leader.epoch);
        let (downtime, cause) = (std::mem::take(&mut self.downtime), self.cause.take());
        let fenced = std::mem::take(&mut self.fenced);
        self.turned = None;
        if change == LeaderChange::Resumed {
            if impact.terminated == 0 && !fenced {
                return None;
            }
            self.again_told = Some(now);
        }
        let Name { member, timeline, epoch } = leader;
        Some(Event::Leader(LeaderEvent { member, timeline, epoch, change, impact, downtime, cause, fenced }))
    }

    /// What `leader` is to the one that was told last; `None` when it is that one, in the same epoch.
    fn change(&self, leader: &Name) -> Option<LeaderChange> {
        match &self.told {
            None => Some(LeaderChange::First),
            Some(told) if told.epoch == leader.epoch => None,
            Some(told) if (&told.member, told.timeline) == (&leader.member, leader.timeline) => {
                Some(LeaderChange::Resumed)
            }
            Some(_) => Some(LeaderChange::Changed),
        }
    }

    /// When a leader that began to serve at `since` can be told: after a while, but not for ever later because leaders
    /// come and go.
    fn settled(&self, since: Moment) -> Moment {
        let latest = self.turned.unwrap_or(since) + STORY_WITHIN;
        (since + STORY_AFTER).min(latest.max(since))
    }
}

/// That more than one member is out of recovery, and how much of it was told.
#[derive(Clone, Debug)]
struct Alarm {
    primaries: Vec<(MemberName, Timeline)>,
    /// When there came to be primaries too many, or no more of them.
    since: Moment,
    /// Of whom it was told that they are out of recovery, unless it was told that it is over.
    told: Vec<MemberName>,
    raised: Option<Moment>,
}

impl Alarm {
    const fn new(began: Moment) -> Self {
        Self { primaries: Vec::new(), since: began, told: Vec::new(), raised: None }
    }

    fn note(&mut self, primaries: &[(MemberName, Timeline)], now: Moment) {
        if primaries.is_empty() != self.primaries.is_empty() {
            self.since = now;
        }
        self.primaries = primaries.to_vec();
    }

    fn due(&self) -> Option<Moment> {
        if self.primaries.is_empty() {
            return (!self.told.is_empty()).then(|| self.since + OVER_AFTER);
        }
        let untold = self.primaries.iter().any(|(member, _)| !self.told.contains(member));
        untold.then(|| self.since.max(repeated(self.raised)))
    }

    fn tell(&mut self, now: Moment) -> Option<Event> {
        self.due().filter(|due| *due <= now)?;
        self.told = self.primaries.iter().map(|(member, _)| member.clone()).collect();
        if self.primaries.is_empty() {
            return Some(Event::TwoPrimariesResolved);
        }
        self.raised = Some(now);
        Some(Event::TwoPrimaries(self.primaries.clone()))
    }
}

/// When something may be told again that was told at `told`.
fn repeated(told: Option<Moment>) -> Moment {
    told.map_or_else(Moment::default, |told| told + REPEAT_AFTER)
}
