//! Plays steps to a router as control would, and compares the routing with a scenario's expectations.

use pg_leader_proxy_core::{
    Admission, Basis, FailoverLog, Moment, Observation, Policy, ReadRoute, Router, Routing, WriteRoute,
};

use super::{Expectation, Input, Line, Scenario, ScriptError, Step};

/// A router that gets one step after the other.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    /// The router.
    pub(crate) router: Router,
    /// Its failover reports.
    pub(crate) failover_log: FailoverLog,
    /// The routing after each call of the router.
    pub(crate) trail: Vec<Snapshot>,
    steps: usize,
    changed: bool,
}

/// The routing after one call of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// When the call was.
    pub(crate) at: Moment,
    /// How many steps the router had been given.
    pub(crate) steps: usize,
    /// The routing.
    pub(crate) routing: Routing,
    /// Until when the write route may forward without newer evidence.
    pub(crate) valid_until: Option<Moment>,
    /// When the router must be advanced.
    pub(crate) deadline: Option<Moment>,
}

/// Plays a whole history to a new router.
pub(crate) fn play(steps: &[Step]) -> Player {
    let mut player = Player::new();
    steps.iter().for_each(|step| player.play(step));
    player
}

/// Plays a scenario and returns the first expectation that is not met. `text` is the file, for the message.
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
            steps: 0,
            changed: false,
        }
    }

    /// Lets time pass until the step, then plays it.
    pub(crate) fn play(&mut self, step: &Step) {
        self.changed = false;
        self.pass(step.at);
        self.steps += 1;
        match &step.input {
            Input::Policy(policy) => self.call(None, step.at, |router| router.set_policy(*policy, step.at)),
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
            steps: self.steps,
            routing,
            valid_until: self.router.valid_until(),
            deadline: self.router.deadline(),
        });
    }

    /// Checks an expectation, or returns what the routing is instead.
    pub(crate) fn check(&self, expectation: &Expectation) -> Result<(), String> {
        let routing = self.router.routing();
        let (met, instead) = match expectation {
            Expectation::Hold(code) => {
                (reason_is(&routing.write, |known| known.0 == *code), write_text(&routing.write))
            }
            Expectation::HoldText(text) => {
                (reason_is(&routing.write, |known| known.1 == *text), write_text(&routing.write))
            }
            Expectation::Forward { .. } => {
                (forwards(&routing.write, expectation), write_text(&routing.write))
            }
            Expectation::Read(_) | Expectation::Alarm(_) | Expectation::ProbeUrgency(_) => {
                let is = [
                    read_expectation(&routing.read),
                    Expectation::Alarm(routing.two_primaries.clone()),
                    Expectation::ProbeUrgency(routing.probe_urgency.clone()),
                ];
                (is.contains(expectation), is.map(|is| is.to_string()).join(" "))
            }
            Expectation::Unchanged => {
                (!self.changed, format!("the routing changed, {}", write_text(&routing.write)))
            }
            Expectation::ValidUntil(moment) => (
                self.router.valid_until() == Some(*moment),
                format!("valid until {:?}", self.router.valid_until()),
            ),
            Expectation::Report(_) => match self.failover_log.reports().last() {
                Some(report) => {
                    let is = Expectation::Report(report.steps.clone());
                    (is == *expectation, is.to_string())
                }
                None => (false, "there is no report".to_owned()),
            },
        };
        if met { Ok(()) } else { Err(format!("instead {instead}")) }
    }
}

fn reason_is(write: &WriteRoute, is: impl FnOnce((&str, String)) -> bool) -> bool {
    match write {
        WriteRoute::Hold(reason) => is((reason.code(), reason.to_string())),
        WriteRoute::Forward(_) => false,
    }
}

fn forwards(write: &WriteRoute, expectation: &Expectation) -> bool {
    let (Some(leader), Expectation::Forward { member, epoch, timeline, all_members, holds_new }) =
        (write.leader(), expectation)
    else {
        return false;
    };
    leader.member() == member
        && leader.epoch().number() == *epoch
        && timeline.is_none_or(|timeline| timeline == leader.timeline())
        && *all_members == (leader.basis() == Basis::AllMembers)
        && *holds_new == leader.hold_reason().is_some()
}

fn write_text(write: &WriteRoute) -> String {
    match write {
        WriteRoute::Hold(reason) => format!("=> hold {}: {reason}", reason.code()),
        WriteRoute::Forward(leader) => Expectation::Forward {
            member: leader.member().clone(),
            epoch: leader.epoch().number(),
            timeline: Some(leader.timeline()),
            all_members: leader.basis() == Basis::AllMembers,
            holds_new: leader.hold_reason().is_some(),
        }
        .to_string(),
    }
}

fn read_expectation(read: &ReadRoute) -> Expectation {
    let mut servers: Vec<_> =
        read.servers().iter().map(|server| (server.member.clone(), server.admission)).collect();
    servers.sort_by_key(|(member, admission)| (*admission == Admission::ExistingOnly, member.clone()));
    Expectation::Read(servers)
}
