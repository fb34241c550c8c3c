//! Where each step of a change of leader is drawn: the first step at the left, the last one or the present at the right.

use std::fmt;

use crate::admin::answers::{FailoverAnswer, StepAnswer, StepKind};

/// Where the first and the last step are, so that their marks are not cut off.
const FIRST: i64 = 20;
const LAST: i64 = 980;

/// A position or a width, in thousandths of the width of the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PerMille(i64);

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
    }
}

/// The drawing of one change of leader.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    pub(super) marks: Vec<Mark<'a>>,
    /// The time in which new sessions waited: where it begins, and its width.
    pub(super) waiting: (PerMille, PerMille),
}

/// The mark of one step.
#[derive(Debug)]
pub(super) struct Mark<'a> {
    pub(super) step: &'a StepAnswer,
    pub(super) x: PerMille,
    /// Whether service is lost at this step, comes back, or neither.
    pub(super) class: &'static str,
}

impl<'a> Timeline<'a> {
    pub(super) fn of(failover: &'a FailoverAnswer) -> Self {
        // Without a next leader it goes on until now.
        let now = failover.to.is_none().then(|| i64::try_from(failover.age_ms).unwrap_or(i64::MAX));
        let times = failover.steps.iter().map(|step| step.at_ms).chain(now);
        let first = times.clone().min().unwrap_or_default();
        let span = times.max().unwrap_or_default().saturating_sub(first).max(1);
        let position = |at: i64| FIRST + (LAST - FIRST) * at.saturating_sub(first) / span;
        let marks = failover.steps.iter().map(|step| Mark {
            step,
            x: PerMille(position(step.at_ms)),
            class: class(step.step),
        });
        let of = |kinds: &[StepKind]| failover.steps.iter().find(|step| kinds.contains(&step.step));
        let begin = of(&[StepKind::NewSessionsWaited, StepKind::ForwardingStopped]);
        let begin = begin.map_or(FIRST, |step| position(step.at_ms));
        let end = of(&[StepKind::ForwardingStarted]).map_or(1000, |step| position(step.at_ms));
        Self { marks: marks.collect(), waiting: (PerMille(begin), PerMille((end - begin).max(0))) }
    }
}

const fn class(step: StepKind) -> &'static str {
    match step {
        StepKind::NewSessionsWaited | StepKind::ForwardingStopped => "lost",
        StepKind::ForwardingStarted | StepKind::FirstClientServed => "back",
        StepKind::SwitchoverRequested
        | StepKind::LastByte
        | StepKind::LeaderKeyDeleted
        | StepKind::LeaderKeyTaken
        | StepKind::LeftRecovery => "seen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::{PrimaryAnswer, ReasonAnswer};

    fn failover(steps: &[(i64, StepKind)]) -> FailoverAnswer {
        let step = |(at_ms, step): &(i64, StepKind)| StepAnswer {
            at_ms: *at_ms,
            age_ms: 0,
            step: *step,
            member: None,
            text: String::new(),
        };
        FailoverAnswer {
            from: PrimaryAnswer { member: "a".to_owned(), timeline: 1 },
            from_epoch: 1,
            to: None,
            to_epoch: None,
            cause: ReasonAnswer { code: String::new(), text: String::new() },
            age_ms: 0,
            write_downtime_ms: None,
            terminated_sessions: 0,
            held_clients: 0,
            steps: steps.iter().map(step).collect(),
        }
    }

    #[test]
    fn steps_are_drawn_to_scale() {
        let failover = failover(&[
            (-1000, StepKind::SwitchoverRequested),
            (0, StepKind::ForwardingStopped),
            (2000, StepKind::LeaderKeyTaken),
            (3000, StepKind::ForwardingStarted),
        ]);
        let Timeline { marks, waiting: (begin, width) } = Timeline::of(&failover);
        let drawn: Vec<String> = marks.iter().map(|mark| mark.x.to_string()).collect();
        assert_eq!(drawn, ["2.0%", "26.0%", "74.0%", "98.0%"]);
        let waiting = [begin, width].map(|at| at.to_string());
        assert_eq!(waiting, ["26.0%", "72.0%"], "from the end of forwarding to its beginning");
    }

    #[test]
    fn without_a_next_leader_the_wait_goes_on() {
        let mut failover = failover(&[(-500, StepKind::NewSessionsWaited), (0, StepKind::ForwardingStopped)]);
        failover.age_ms = 9500;
        let Timeline { marks, waiting: (begin, width) } = Timeline::of(&failover);
        assert_eq!([marks[0].x, marks[1].x, begin, width].map(|at| at.0), [20, 68, 20, 980]);
    }
}
