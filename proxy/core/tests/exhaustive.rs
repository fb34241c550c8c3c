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

use oracle::Oracle;
use pg_leader_proxy_core::{Leader, MemberName, Moment, Router, ServerAddr, Timeline};
use script::{Event, Line, Player, Snapshot, Step, parse, play, story};

/// What every history begins with.
const BEGINNING: &str = "
    policy margin=1s max_probe_age=3s max_member_probe_age=2s probe_interval=1s
    0s members a b
    0s initialize 7
    0s key a 10 lease 3s
";

/// What can happen next, at the moment that has come.
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

/// How many things happen after the beginning.
const DEPTH: usize = 6;

/// How far the letter for the passing of time moves it.
const WAIT: Duration = Duration::from_secs(1);

#[test]
fn no_history_of_a_small_alphabet_breaks_a_law() {
    let mut beginning = Explored { player: Player::new(), history: Vec::new(), highest: None };
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
    /// The newest epoch: whose it is, and whether it has ended.
    highest: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Epoch {
    number: u64,
    leader: (MemberName, ServerAddr, Timeline),
    ended: bool,
}

impl Explored {
    fn now(&self) -> Moment {
        self.history.last().map(|step| step.at).unwrap_or_default()
    }

    /// A letter of the alphabet, now; the empty one lets time pass.
    fn step(&self, letter: &str) -> Step {
        if letter.is_empty() {
            return Step { at: self.now() + WAIT, event: Event::Tick };
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
        for snapshot in self.player.trail.clone() {
            self.confirm(&snapshot);
        }
    }

    fn confirm(&mut self, snapshot: &Snapshot) {
        let leader = snapshot.routing.write.leader();
        let oracle = Oracle { heard: &self.history[..snapshot.heard], now: snapshot.at };
        let said = leader.map(|leader| (leader.member().clone(), leader.basis(), snapshot.valid_until));
        let allowed = oracle.verdict().map(|rules| (rules.member, rules.basis, Some(rules.until)));
        assert_eq!(said, allowed, "the router and the rules differ after\n{}", self.story());
        assert!(snapshot.deadline <= snapshot.valid_until || leader.is_none(), "{}", self.story());
        if let Err(why) = self.note_epoch(leader) {
            panic!("{why} after\n{}", self.story());
        }
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
        let identity = (leader.member().clone(), leader.addr().clone(), leader.timeline());
        let epoch = Epoch { number, leader: identity, ended: false };
        if self.highest.as_ref().is_some_and(|highest| highest.number >= number && *highest != epoch) {
            return Err(format!("{epoch:?} follows {:?}", self.highest));
        }
        self.highest = Some(epoch);
        Ok(())
    }

    fn replay_gives_the_same(&self) {
        let again = play(&self.history);
        let story = || self.story();
        assert_eq!(again.router.routing(), self.player.router.routing(), "{}", story());
        assert_eq!(again.router.valid_until(), self.player.router.valid_until(), "{}", story());
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

    fn story(&self) -> String {
        story("A history that breaks a law.", &self.history)
    }
}
