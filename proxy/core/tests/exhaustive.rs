//! Checks the laws against every history of a small alphabet, up to a depth. Random histories might miss some of these.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "the number of visited states belongs in the test's output")]

mod oracle;
mod script;

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use oracle::Oracle;
use pg_leader_proxy_core::{Leader, MemberName, Moment, Router, ServerAddr, Timeline};
use script::{Input, Line, Player, Snapshot, Step, parse, play, scenario_text};

/// How every history begins.
const START: &str = "
    policy margin=1s max_probe_age=3s max_member_probe_age=2s probe_interval=1s
    0s members a b
    0s initialize 7
    0s key a 10 lease 3s
";

/// What can happen at each step. The empty entry lets time pass.
const ALPHABET: [&str; 14] = [
    "key a 10 lease 3s",
    "key b 20",
    "key b 20 lease 3s",
    "key vacant",
    "dcs silent",
    "config paused",
    "probe a primary 1",
    "probe a replica 1",
    "probe a refused",
    "probe b primary 1",
    "probe b primary 2",
    "probe b replica 1",
    "probe b timed_out",
    "",
];

/// How many steps follow the start.
const DEPTH: usize = 6;

/// By how much the empty entry advances time.
const WAIT: Duration = Duration::from_secs(1);

#[test]
fn no_history_of_a_small_alphabet_breaks_a_law() {
    let mut start = State { player: Player::new(), history: Vec::new(), newest: None };
    parse("the beginning", START).unwrap().steps().into_iter().for_each(|step| start.take(step));
    let mut visited = HashSet::new();
    let mut forwarding = 0_usize;
    let mut histories = 0_usize;
    let mut frontier = vec![start];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for known in &frontier {
            for input in ALPHABET {
                histories += 1;
                let mut reached = known.clone();
                reached.take(known.step(input));
                if visited.insert(reached.fingerprint()) {
                    reached.check_replay();
                    forwarding += usize::from(reached.player.router.routing().write.leader().is_some());
                    next.push(reached);
                }
            }
        }
        frontier = next;
    }
    println!("{histories} steps to {} states, {forwarding} of them forwarding", visited.len());
    assert!(visited.len() > 10_000, "only {} states were visited", visited.len());
    assert!(forwarding > visited.len() / 20, "only {forwarding} of {} states forward", visited.len());
}

/// A state of the router and the first history that led to it.
#[derive(Clone)]
struct State {
    player: Player,
    history: Vec<Step>,
    /// The newest epoch.
    newest: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Epoch {
    number: u64,
    leader: (MemberName, ServerAddr, Timeline),
    ended: bool,
}

impl State {
    fn now(&self) -> Moment {
        self.history.last().map(|step| step.at).unwrap_or_default()
    }

    /// The step for an entry of the alphabet, at the present moment.
    fn step(&self, input: &str) -> Step {
        if input.is_empty() {
            return Step { at: self.now() + WAIT, input: Input::Tick };
        }
        let lines = parse("the alphabet", &format!("{}ms {input}", self.now().since_boot().as_millis()))
            .unwrap()
            .lines;
        match lines.into_iter().next() {
            Some((_, Line::Step(step))) => step,
            _ => panic!("`{input}` is nothing that happens"),
        }
    }

    fn take(&mut self, step: Step) {
        self.player.trail.clear();
        self.player.play(&step);
        self.history.push(step);
        for snapshot in self.player.trail.clone() {
            self.check(&snapshot);
        }
    }

    fn check(&mut self, snapshot: &Snapshot) {
        let leader = snapshot.routing.write.leader();
        let oracle = Oracle { steps: &self.history[..snapshot.steps], now: snapshot.at };
        let said = leader.map(|leader| (leader.member().clone(), leader.basis(), snapshot.valid_until));
        let allowed = oracle.verdict().map(|rules| (rules.member, rules.basis, Some(rules.until)));
        assert_eq!(said, allowed, "the router and the rules differ after\n{}", self.scenario_text());
        assert!(snapshot.deadline <= snapshot.valid_until || leader.is_none(), "{}", self.scenario_text());
        if let Err(why) = self.check_epoch(leader) {
            panic!("{why} after\n{}", self.scenario_text());
        }
    }

    /// Checks that epochs only grow, have one leader each, and never return.
    fn check_epoch(&mut self, leader: Option<&Leader>) -> Result<(), String> {
        let Some(leader) = leader else {
            if let Some(epoch) = &mut self.newest {
                epoch.ended = true;
            }
            return Ok(());
        };
        let number = leader.epoch().number();
        let identity = (leader.member().clone(), leader.addr().clone(), leader.timeline());
        let epoch = Epoch { number, leader: identity, ended: false };
        if self.newest.as_ref().is_some_and(|newest| newest.number >= number && *newest != epoch) {
            return Err(format!("{epoch:?} follows {:?}", self.newest));
        }
        self.newest = Some(epoch);
        Ok(())
    }

    fn check_replay(&self) {
        let again = play(&self.history);
        let scenario_text = || self.scenario_text();
        assert_eq!(again.router.routing(), self.player.router.routing(), "{}", scenario_text());
        assert_eq!(again.router.valid_until(), self.player.router.valid_until(), "{}", scenario_text());
    }

    /// Equal for two histories if and only if no continuation can tell them apart.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let router: &Router = &self.player.router;
        let mut text = String::new();
        write!(text, "{router:?}").unwrap();
        (text, &self.newest, self.now()).hash(&mut hasher);
        hasher.finish()
    }

    fn scenario_text(&self) -> String {
        scenario_text("A history that breaks a law.", &self.history)
    }
}
