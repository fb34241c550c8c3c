//! The search: every history with so many disturbances, at any moments.
//!
//! Between two disturbances the world goes on in one way only, so what follows a disturbance is a chain of states, which ends
//! at a state that was seen before. (It does end: moments count by their distance from now, so a world that is left alone
//! comes to rest.) The search goes through all chains with one disturbance, then through those with two, and so on. So a
//! state is first met with the fewest disturbances that lead to it, and need not be followed when it is met again. What is
//! kept of a state is its fingerprint, and of a chain its history, from which it can be lived through once more.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use pg_leader_proxy_core::PolicyError;

use crate::broken::Broken;
use crate::disturbance::Disturbance;
use crate::history::{Counterexample, History};
use crate::setup::Setup;
use crate::world::World;

/// A chain that is longer than this never comes to rest, which is a mistake in the model.
const LONGEST_CHAIN: u16 = 200;
/// So many parts has the set of fingerprints, each behind its own lock.
const SHARDS: usize = 64;

/// What was explored.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// How many different states.
    pub states: usize,
    /// In how many of them every proxy forwards.
    pub forwarding: usize,
    /// The most rounds that it took until every proxy took new sessions after all faults had ended.
    pub slowest_recovery: u32,
    /// The first history that was found to break a law.
    pub broken: Option<Counterexample>,
}

/// The states that follow a disturbance until one that was known.
struct Chain {
    history: History,
    length: u16,
}

/// Explores every history of `setup` with up to `depth` disturbances, on so many threads.
///
/// # Errors
/// [`PolicyError`] when the setup's policy contradicts itself.
pub fn explore(setup: Setup, depth: usize, threads: usize) -> Result<Explored, PolicyError> {
    let mut start = World::new(setup)?;
    let warm = start.warm_up();
    start.forget_recordings();
    let search = Search {
        disturbances: Disturbance::all(&setup),
        start,
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        recovered: (0..SHARDS).map(|_| Mutex::default()).collect(),
        explored: Mutex::default(),
        over: AtomicBool::new(false),
    };
    if let Err(broken) = warm {
        search.fail(&History::default(), 0, false, broken);
    }
    let mut chains = vec![search.follow(search.start.clone(), History::default())];
    for depth_left in (0..depth).rev() {
        chains = search.layer(&chains, depth_left > 0, threads);
    }
    Ok(search.explored.into_inner().unwrap_or_default())
}

struct Search {
    disturbances: Vec<Disturbance>,
    start: World,
    seen: Vec<Mutex<HashSet<u64>>>,
    recovered: Vec<Mutex<HashSet<u64>>>,
    explored: Mutex<Explored>,
    over: AtomicBool,
}

impl Search {
    /// Every chain that begins with a disturbance in one of the states of `chains`; none is returned unless it is needed.
    fn layer(&self, chains: &[Chain], needed: bool, threads: usize) -> Vec<Chain> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while let Some(chain) = chains.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let more = self.branch(chain);
                        if needed && let Ok(mut found) = found.lock() {
                            found.extend(more);
                        }
                    }
                });
            }
        });
        found.into_inner().unwrap_or_default()
    }

    /// The chains that begin in the states of `chain`.
    fn branch(&self, chain: &Chain) -> Vec<Chain> {
        let mut world = self.start.clone();
        let mut chains = Vec::new();
        if self.is_over() || chain.history.live(&mut world).is_err() {
            return chains;
        }
        for rounds in 0..chain.length {
            for disturbance in &self.disturbances {
                let mut disturbed = world.clone();
                if disturbed.disturb(*disturbance) {
                    chains.push(self.follow(disturbed, chain.history.then(rounds, *disturbance)));
                }
            }
            if world.round().is_err() {
                break;
            }
        }
        chains.retain(|chain| chain.length > 0);
        chains
    }

    /// Follows `world`, which has just lived through `history`, to a state that is known.
    fn follow(&self, mut world: World, history: History) -> Chain {
        let mut length = 0;
        let mut judged = world.judge();
        while let Ok(()) = judged {
            if length == LONGEST_CHAIN {
                judged = Err(Broken::new(0, "the world does not come to rest"));
                break;
            }
            if self.is_over() || !insert(&self.seen, world.fingerprint()) {
                return Chain { history, length };
            }
            if let Err(broken) = self.check_recovery(&world) {
                self.fail(&history, length, true, broken);
                break;
            }
            self.count(&world);
            length += 1;
            judged = world.round();
        }
        if let Err(broken) = judged {
            self.fail(&history, length, false, broken);
        }
        Chain { history, length }
    }
}

impl Search {
    /// Law 6, once for each world that is alike when its faults have ended.
    fn check_recovery(&self, world: &World) -> Result<(), Broken> {
        let mut healed = world.clone();
        healed.heal();
        if !insert(&self.recovered, healed.fingerprint()) {
            return Ok(());
        }
        let rounds = healed.recover()?;
        if let Ok(mut explored) = self.explored.lock() {
            explored.slowest_recovery = explored.slowest_recovery.max(rounds);
        }
        Ok(())
    }

    fn count(&self, world: &World) {
        if let Ok(mut explored) = self.explored.lock() {
            explored.states += 1;
            explored.forwarding += usize::from(world.proxies.iter().all(|proxy| proxy.passes_to().is_some()));
        }
    }

    /// Keeps the shortest history that breaks a law; the search ends then.
    fn fail(&self, history: &History, rounds: u16, recovering: bool, broken: Broken) {
        self.over.store(true, Ordering::Relaxed);
        let (setup, history) = (self.start.setup, history.clone());
        if let Ok(mut explored) = self.explored.lock() {
            explored.broken.get_or_insert(Counterexample { setup, history, rounds, recovering, broken });
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Whether a fingerprint is new.
fn insert(set: &[Mutex<HashSet<u64>>], fingerprint: u64) -> bool {
    let shard = usize::try_from(fingerprint % SHARDS as u64).unwrap_or_default();
    set[shard].lock().is_ok_and(|mut seen| seen.insert(fingerprint))
}
