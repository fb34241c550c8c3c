//! Events: what is worth telling an operator who does not read the log, and the sentences that tell it.

use std::fmt;
use std::time::Duration;

use crate::alarm::Alarm;
use crate::cluster::{MemberName, Timeline};
use crate::display::{Counted, HumanDuration};
use crate::epoch::RouteEpoch;
use crate::reason::Reason;

/// Something an operator should hear about. [`Display`](fmt::Display) gives the message for the log and the orchestrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A leader was confirmed.
    Leader(LeaderEvent),
    /// Nothing has been forwarded for this long, for this reason.
    Fenced(Duration, Reason),
    /// Something is wrong.
    Alarm(Alarm),
    /// Nothing of this kind is wrong any more; this was told of it last.
    AlarmOver(Alarm),
}

/// A confirmed leader, and what the change cost. "Since then" means since the last leader event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderEvent {
    /// The leader.
    pub member: MemberName,
    /// The timeline it writes on.
    pub timeline: Timeline,
    /// The epoch of its sessions.
    pub epoch: RouteEpoch,
    /// How it differs from the leader of the last leader event.
    pub change: LeaderChange,
    /// How many sessions and clients were affected since then.
    pub impact: Impact,
    /// How long new sessions waited for a leader since then.
    pub downtime: Duration,
    /// Why forwarding first stopped since then; `None` when it never stopped.
    pub cause: Option<Reason>,
    /// Whether [`Event::Fenced`] was reported since then.
    pub fenced: bool,
}

/// How a leader differs from the leader of the last leader event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderChange {
    /// It is the first one.
    First,
    /// It is another member, or on another timeline.
    Changed,
    /// It is the same member on the same timeline, in a new epoch.
    Resumed,
}

/// How many sessions and clients a change of leader affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impact {
    /// Sessions terminated.
    pub terminated: u64,
    /// Clients that waited for a leader and then got one.
    pub held: u64,
}

impl Event {
    /// The kind of the event, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Leader(LeaderEvent { change: LeaderChange::First, .. }) => "leader",
            Self::Leader(LeaderEvent { change: LeaderChange::Changed, .. }) => "leader_change",
            Self::Leader(LeaderEvent { change: LeaderChange::Resumed, .. }) => "resumed",
            Self::Fenced(..) => "fenced",
            Self::Alarm(alarm) => alarm.code(),
            Self::AlarmOver(_) => "alarm_over",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader(leader) => leader.fmt(f),
            Self::Fenced(lasting, reason) => {
                write!(f, "no leader for {}: {reason}; clients are held", HumanDuration(*lasting))
            }
            Self::Alarm(alarm) => alarm.fmt(f),
            Self::AlarmOver(Alarm::TwoPrimaries(_)) => f.write_str("no longer two primaries"),
            Self::AlarmOver(alarm) => write!(f, "over: {alarm}"),
        }
    }
}

impl fmt::Display for LeaderEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, timeline, change, impact, fenced, .. } = self;
        let (now, again) = match change {
            LeaderChange::First => ("", ""),
            LeaderChange::Changed => (" now", ""),
            LeaderChange::Resumed => ("", " again"),
        };
        write!(f, "leader is{now} {member} (timeline {timeline}){again}")?;
        let first = *change == LeaderChange::First;
        if first && !fenced {
            return Ok(());
        }
        f.write_str(": ")?;
        if !first {
            write!(f, "{} terminated, ", Counted(impact.terminated, "session"))?;
        }
        write!(f, "{} held", Counted(impact.held, "client"))?;
        let downtime = HumanDuration(self.downtime);
        match (fenced, impact.held) {
            (true, _) => write!(f, ", after {downtime} without a leader")?,
            (false, 0) if self.downtime.is_zero() => {}
            (false, 0) => write!(f, ", {downtime} without a leader")?,
            (false, _) => write!(f, " {downtime}")?,
        }
        match &self.cause {
            Some(cause) if !first => write!(f, "; cause: {cause}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(
        change: LeaderChange,
        (terminated, held): (u64, u64),
        downtime_ms: u64,
        fenced: bool,
    ) -> String {
        let news = LeaderEvent {
            member: MemberName::new("epyc"),
            timeline: Timeline(4),
            epoch: RouteEpoch::default(),
            change,
            impact: Impact { terminated, held },
            downtime: Duration::from_millis(downtime_ms),
            cause: None,
            fenced,
        };
        Event::Leader(news).to_string()
    }

    #[test]
    fn a_leader_event_is_one_sentence() {
        assert_eq!(leader(LeaderChange::First, (0, 0), 800, false), "leader is epyc (timeline 4)");
        assert_eq!(
            leader(LeaderChange::First, (0, 7), 12_400, true),
            "leader is epyc (timeline 4): 7 clients held, after 12.4 s without a leader"
        );
        assert_eq!(
            leader(LeaderChange::Changed, (12, 7), 310, false),
            "leader is now epyc (timeline 4): 12 sessions terminated, 7 clients held 310 ms"
        );
        assert_eq!(
            leader(LeaderChange::Changed, (1, 1), 1000, false),
            "leader is now epyc (timeline 4): 1 session terminated, 1 client held 1 s"
        );
        assert_eq!(
            leader(LeaderChange::Changed, (2, 0), 310, false),
            "leader is now epyc (timeline 4): 2 sessions terminated, 0 clients held, 310 ms without a leader"
        );
        assert_eq!(
            leader(LeaderChange::Changed, (2, 0), 0, false),
            "leader is now epyc (timeline 4): 2 sessions terminated, 0 clients held"
        );
        assert_eq!(
            leader(LeaderChange::Resumed, (0, 3), 12_400, true),
            "leader is epyc (timeline 4) again: 0 sessions terminated, 3 clients held, after 12.4 s without a leader"
        );
    }

    #[test]
    fn other_events_name_the_members_and_the_reason() {
        let primary = |name: &str, timeline| (MemberName::new(name), Timeline(timeline));
        let mut primaries = vec![primary("a", 4), primary("b", 5)];
        let two = Event::Alarm(Alarm::TwoPrimaries(primaries.clone())).to_string();
        assert_eq!(two, "two primaries: a (timeline 4), b (timeline 5)");
        primaries.push(primary("c", 5));
        let three = Event::Alarm(Alarm::TwoPrimaries(primaries)).to_string();
        assert_eq!(three, "3 primaries: a (timeline 4), b (timeline 5), c (timeline 5)");
        let fenced = Event::Fenced(Duration::from_millis(3007), Reason::NoLeader).to_string();
        assert_eq!(fenced, "no leader for 3 s: no member holds the leader key; clients are held");
    }
}
