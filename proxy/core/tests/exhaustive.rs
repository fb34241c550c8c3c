//! Every history of a small alphabet, up to a depth: what random histories might miss is not there.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::print_stdout,
    reason = "the number of states that were visited belongs in the test's output"
)]

mod oracle;
mod script;

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use oracle::{Replay, ReplayState};
use pg_leader_proxy_core::{Leader, Moment, Router, ServerId, Timeline};
use script::{Input, Line, Player, Snapshot, Step, parse, play, scenario_text};

/// What every history begins with.
const BEGINNING: &str = "
    policy margin=1s max_probe_age=3s max_member_probe_age=2s probe_interval=1s max_suspension=2s on_dcs_loss=all_members
    0s members a b
    0s initialize 7
    0s key a 10 lease 3s
    0s probe a primary 1
    0s probe b replica 1
";

/// What can happen next, at the moment that has come.
const ALPHABET: [&str; 18] = [
    "key a 10 lease 3s",
    "key b 20",
    "key b 20 lease 3s",
    "key vacant",
    "dcs silent",
    "config paused",
    "clock stepped",
    "members b",
    "address a 10.0.0.9:5432",
    "probe a primary 1",
    "probe a replica 1",
    "probe a refused",
    "probe a refused new_connection",
    "probe a primary 1 started 9 at 10.0.0.9:5432",
    "probe b primary 2",
    "probe b replica 1",
    "probe b timed_out",
    "",
];

/// How many things happen after the beginning.
const DEPTH: usize = 5;

/// How far the letter for the passing of time moves it.
const WAIT: Duration = Duration::from_secs(1);

#[test]
fn no_history_of_a_small_alphabet_breaks_a_law() {
    let mut beginning = Explored::new();
    parse("the beginning", BEGINNING).unwrap().steps().into_iter().for_each(|step| beginning.take(step));
    let mut visited = HashSet::new();
    let mut forwarding = 0_usize;
    let mut histories = 0_usize;
    let mut border = vec![beginning];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for known in &border {
            for letter in ALPHABET {
                histories += 1;
                let mut reached = known.clone();
                reached.take(known.step(letter));
                if visited.insert(reached.fingerprint()) {
                    reached.replay_gives_the_same();
                    forwarding += usize::from(reached.player.router.routing().write.leader().is_some());
                    next.push(reached);
                }
            }
        }
        border = next;
    }
    println!("{histories} steps to {} states, {forwarding} of them forwarding", visited.len());
    assert!(visited.len() > 10_000, "only {} states were visited", visited.len());
    assert!(forwarding > visited.len() / 20, "only {forwarding} of {} states forward", visited.len());
}

/// A state and the first history that led to it.
#[derive(Clone)]
struct Explored {
    player: Player,
    history: Vec<Step>,
    /// What the router said last.
    last: Option<Snapshot>,
    replay: ReplayState,
    /// The newest epoch: whose it is, and whether it has ended.
    highest: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Epoch {
    number: u64,
    leader: (ServerId, Timeline),
    ended: bool,
}

impl Explored {
    fn new() -> Self {
        Self {
            player: Player::new(),
            history: Vec::new(),
            last: None,
            replay: ReplayState::default(),
            highest: None,
        }
    }

    fn now(&self) -> Moment {
        self.history.last().map(|step| step.at).unwrap_or_default()
    }

    /// A letter of the alphabet, now; the empty one lets time pass.
    fn step(&self, letter: &str) -> Step {
        if letter.is_empty() {
            return Step { at: self.now() + WAIT, input: Input::Tick };
        }
        let lines = parse("the alphabet", &format!("{}ms {letter}", self.now().since_boot().as_millis()))
            .unwrap()
            .lines;
        match lines.into_iter().next() {
            Some((_, Line::Step(step))) => step,
            _ => panic!("`{letter}` is nothing that happens"),
        }
    }

    fn take(&mut self, step: Step) {
        self.player.trail.clear();
        self.player.play(&step);
        self.history.push(step);
        let trail: Vec<Snapshot> = self.last.iter().chain(&self.player.trail).cloned().collect();
        let mut replay = Replay::resume(&self.history, &trail, &self.replay);
        let mut broken = None;
        while let Some((snapshot, oracle)) = replay.next() {
            let judged = oracle::by_the_table(snapshot, &oracle);
            broken = broken
                .or_else(|| judged.and_then(|()| oracle::no_healthy_leader_is_cut(snapshot, &oracle)).err());
        }
        self.replay = replay.state();
        for snapshot in self.player.trail.clone() {
            broken = broken.or_else(|| self.check(&snapshot).err());
        }
        if let Some(why) = broken {
            panic!("{why} after\n{}", self.scenario_text());
        }
        self.last = trail.last().cloned();
    }

    fn check(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let leader = snapshot.routing.write.leader();
        let suspended = snapshot.valid_until <= Some(snapshot.at);
        if leader.is_some() && !suspended && snapshot.deadline > snapshot.valid_until {
            return Err("nobody looks when it ends".to_owned());
        }
        self.note_epoch(leader)
    }

    /// Epochs only grow, have one leader each, and do not return.
    fn note_epoch(&mut self, leader: Option<&Leader>) -> Result<(), String> {
        let Some(leader) = leader else {
            if let Some(epoch) = &mut self.highest {
                epoch.ended = true;
            }
            return Ok(());
        };
        let number = leader.epoch().number();
        let identity = (leader.server(), leader.timeline());
        let epoch = Epoch { number, leader: identity, ended: false };
        if self.highest.as_ref().is_some_and(|highest| highest.number >= number && *highest != epoch) {
            return Err(format!("{epoch:?} follows {:?}", self.highest));
        }
        self.highest = Some(epoch);
        Ok(())
    }

    fn replay_gives_the_same(&self) {
        let again = play(&self.history);
        let scenario = || self.scenario_text();
        assert_eq!(again.router.routing(), self.player.router.routing(), "{}", scenario());
        assert_eq!(again.router.valid_until(), self.player.router.valid_until(), "{}", scenario());
    }

    /// Equal for two histories exactly when nothing that follows can tell them apart.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let router: &Router = &self.player.router;
        let mut text = String::new();
        write!(text, "{router:?}").unwrap();
        (text, &self.highest, self.now()).hash(&mut hasher);
        hasher.finish()
    }

    fn scenario_text(&self) -> String {
        scenario_text("A history that breaks a law.", &self.history)
    }
}
