//! Playing steps to a router as the shell would, and comparing what comes out with what a scenario expects.

use pg_leader_proxy_core::{
    FailoverLog, MemberView, Moment, Observation, Policy, Router, Routing, WriteRoute,
};

use super::expect::{Reader, alarm_word, write_text};
use super::{Expectation, Input, Line, Scenario, ScriptError, Step};

/// A router, told one step after the other.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    /// The router as it stands.
    pub(crate) router: Router,
    /// What the reports tell.
    pub(crate) failover_log: FailoverLog,
    /// The routing after each call of the router.
    pub(crate) trail: Vec<Snapshot>,
    heard: usize,
    changed: bool,
}

/// The routing after one call of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// When the call was.
    pub(crate) at: Moment,
    /// How many steps the router had heard of.
    pub(crate) heard: usize,
    /// What it said.
    pub(crate) routing: Routing,
    /// Until when it may be trusted.
    pub(crate) valid_until: Option<Moment>,
    /// When it wants to be called again.
    pub(crate) deadline: Option<Moment>,
}

/// Plays a whole history to a new router.
pub(crate) fn play(steps: &[Step]) -> Player {
    let mut player = Player::new();
    steps.iter().for_each(|step| player.play(step));
    player
}

/// Plays a scenario and stops at the first expectation that is not met; `text` is the file, for the message.
pub(crate) fn run(file: &str, text: &str, scenario: &Scenario) -> Result<(), ScriptError> {
    let mut player = Player::new();
    for (number, line) in &scenario.lines {
        match line {
            Line::Step(step) => player.play(step),
            Line::Expect(expectation) => player.check(expectation).map_err(|why| ScriptError {
                file: file.to_owned(),
                line: *number,
                text: text.lines().nth(number - 1).unwrap_or_default().trim().to_owned(),
                why,
            })?,
        }
    }
    Ok(())
}

impl Player {
    /// A new router under the default policy.
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(Policy::default()),
            failover_log: FailoverLog::default(),
            trail: Vec::new(),
            heard: 0,
            changed: false,
        }
    }

    /// Lets time pass until the step, then takes it.
    pub(crate) fn play(&mut self, step: &Step) {
        self.changed = false;
        self.pass(step.at);
        self.heard += 1;
        match &step.input {
            Input::Policy(policy) => self.call(None, step.at, |router| router.set_policy(*policy, step.at)),
            Input::Restrict(restrictions) => {
                self.call(None, step.at, |router| router.restrict(restrictions.clone(), step.at))
            }
            Input::Observe(observation) => {
                self.call(Some(observation), step.at, |router| router.observe(observation.clone(), step.at))
            }
            Input::Tick => self.advance(step.at),
        }
    }

    /// Advances the router at each deadline up to `until`.
    pub(crate) fn pass(&mut self, until: Moment) {
        while let Some(deadline) = self.router.deadline().filter(|deadline| *deadline <= until) {
            self.advance(deadline);
            assert!(self.router.deadline() > Some(deadline) || self.router.deadline().is_none());
        }
    }

    /// Advances the router once.
    pub(crate) fn advance(&mut self, now: Moment) {
        self.call(None, now, |router| router.advance(now));
    }

    fn call(
        &mut self,
        observation: Option<&Observation>,
        at: Moment,
        tell: impl FnOnce(&mut Router) -> bool,
    ) {
        let before = self.router.routing().clone();
        let changed = tell(&mut self.router);
        let routing = self.router.routing().clone();
        assert_eq!(changed, before != routing, "the router must return whether the routing changed");
        self.failover_log.record(observation, &before.write, &routing.write, at);
        self.changed |= changed;
        self.trail.push(Snapshot {
            at,
            heard: self.heard,
            routing,
            valid_until: self.router.valid_until(),
            deadline: self.router.deadline(),
        });
    }

    /// Whether the routing is as expected; if not, what it is instead.
    pub(crate) fn check(&self, expectation: &Expectation) -> Result<(), String> {
        let write = &self.router.routing().write;
        let (met, instead) = match expectation {
            Expectation::Hold(code) => {
                (matches!(write, WriteRoute::Hold(reason) if reason.code() == code), write_text(write))
            }
            Expectation::HoldText(text) => {
                (matches!(write, WriteRoute::Hold(reason) if reason.to_string() == *text), write_text(write))
            }
            Expectation::WaitsText(text) => {
                let waits = write.leader().and_then(|leader| leader.admission().waits());
                (waits.is_some_and(|reason| reason.to_string() == *text), format!("{waits:?}"))
            }
            Expectation::Forward(forward) => {
                (write.leader().is_some_and(|leader| forward.is(leader)), write_text(write))
            }
            Expectation::Unchanged => (!self.changed, format!("the routing changed, {}", write_text(write))),
            Expectation::ValidUntil(moment) => (
                self.router.valid_until() == Some(*moment),
                format!("valid until {:?}", self.router.valid_until()),
            ),
            Expectation::AlarmText(text) => {
                let alarms: Vec<String> =
                    self.router.routing().alarms.iter().map(ToString::to_string).collect();
                (alarms.contains(text), format!("{alarms:?}"))
            }
            Expectation::Read(_)
            | Expectation::Alarms(_)
            | Expectation::ProbeUrgency(_)
            | Expectation::Asked(_)
            | Expectation::Report(_) => {
                let is = self.all_that_is();
                (is.contains(expectation), is.map(|is| is.to_string()).join(" "))
            }
        };
        if met { Ok(()) } else { Err(format!("instead {instead}")) }
    }

    fn all_that_is(&self) -> [Expectation; 5] {
        let routing = self.router.routing();
        let steps = self.failover_log.reports().last().map(|report| report.steps.clone());
        let asked = |(name, member): (_, &MemberView)| match member.departed {
            None => format!("{name}"),
            Some(_) => format!("{name}(departed)"),
        };
        [
            Reader::of_all(routing.read.servers()),
            Expectation::Alarms(routing.alarms.iter().map(alarm_word).collect()),
            Expectation::ProbeUrgency(routing.probe_urgency.clone()),
            Expectation::Asked(self.router.evidence().members().iter().map(asked).collect()),
            Expectation::Report(steps.unwrap_or_default()),
        ]
    }
}
