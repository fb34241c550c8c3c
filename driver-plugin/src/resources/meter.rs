//! Samples of what a task uses.

use std::collections::BTreeMap;
use std::time::Instant;

use super::cgroups::Cgroups;
use super::memory;
use super::processes::{Proc, Stat};
use super::summed::Summed;
use super::usage::{Consumption, Cpu, Times, Usage};

/// Processes that are shown one by one.
const PIDS_SHOWN: usize = 16;

/// Processes that are looked at for their time, where no group accounts for it.
const PIDS_SUMMED: usize = 1024;

/// Measures one task. Each stream of samples has its own, since a percentage is over the interval of a stream.
#[derive(Clone, Debug)]
pub struct Meter {
    cgroups: Cgroups,
    main_pid: u32,
    mhz_per_core: Option<f64>,
    proc: Proc,
    start: Option<u64>,
    summed: Summed,
    last: Option<Reading>,
}

/// What the next sample is compared with.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    all: Times,
    by_pid: BTreeMap<(u32, u64), Times>,
}

impl Meter {
    /// For the task whose relay is `main_pid`, which runs. Without a speed of the cores no MHz are told.
    #[must_use]
    pub fn new(cgroups: Cgroups, main_pid: u32, mhz_per_core: Option<f64>) -> Self {
        Self::reading(Proc::here(), cgroups, main_pid, mhz_per_core)
    }

    fn reading(proc: Proc, cgroups: Cgroups, main_pid: u32, mhz_per_core: Option<f64>) -> Self {
        let start = proc.stat(main_pid).map(|stat| stat.start);
        Self { cgroups, main_pid, mhz_per_core, proc, start, summed: Summed::default(), last: None }
    }

    /// What the task uses now. The first sample has no interval, so its percentages are 0. None when the task is gone:
    /// its stream of samples ends.
    pub fn sample(&mut self) -> Option<Usage> {
        self.sample_at(Instant::now())
    }

    fn sample_at(&mut self, at: Instant) -> Option<Usage> {
        let main = self.proc.stat(self.main_pid).filter(|stat| !stat.ended)?;
        if self.start != Some(main.start) {
            return None;
        }
        let stats = self.stats(main)?;
        let all = self.cgroups.times().unwrap_or_else(|| self.sum(&stats));
        let now =
            Reading { at, all, by_pid: shown(&stats).map(|stat| (identity(stat), times(stat))).collect() };
        let last = self.last.replace(now.clone()).unwrap_or_else(|| now.clone());
        let memory = self.cgroups.memory().or_else(|| Some(self.memory_of(self.main_pid)));
        let cpu = Cpu { throttled: self.cgroups.throttled(), ..self.compare(&last, &now, last.all, now.all) };
        let by_pid = shown(&stats).map(|stat| {
            // Who was not shown before has no interval yet.
            let then = last.by_pid.get(&identity(stat)).copied().unwrap_or_else(|| times(stat));
            (
                stat.pid,
                Consumption {
                    cpu: self.compare(&last, &now, then, times(stat)),
                    memory: self.memory_of(stat.pid),
                },
            )
        });
        let by_pid = by_pid.collect();
        Some(Usage { all: Consumption { cpu, memory: memory? }, by_pid })
    }

    /// The task's processes, the main one first. None when its groups are gone.
    fn stats(&self, main: Stat) -> Option<Vec<Stat>> {
        let members = match self.cgroups.members() {
            None => Vec::new(),
            Some(members) => members.ok()?,
        };
        let others = members.into_iter().filter(|pid| *pid != main.pid).take(PIDS_SUMMED);
        let others = others.filter_map(|pid| self.proc.stat(pid));
        Some([main].into_iter().chain(others).collect())
    }

    fn sum(&mut self, stats: &[Stat]) -> Times {
        let listed = |known: &Stat| stats.iter().any(|stat| identity(stat) == identity(known));
        let unlisted = self.summed.known().filter(|known| !listed(known));
        let still = unlisted.filter_map(|known| Some((known, self.proc.stat(known.pid)?)));
        let still = still.filter(|(known, now)| known.start == now.start).map(|(_, now)| now);
        let all: Vec<Stat> = stats.iter().copied().chain(still).collect();
        self.summed.advance(&all)
    }

    fn compare(&self, last: &Reading, now: &Reading, earlier: Times, later: Times) -> Cpu {
        Cpu::between(earlier, later, now.at.saturating_duration_since(last.at), self.mhz_per_core)
    }

    fn memory_of(&self, pid: u32) -> super::usage::Memory {
        memory::of_process(&self.proc.status(pid).unwrap_or_default())
    }
}

fn shown(stats: &[Stat]) -> impl Iterator<Item = &Stat> {
    stats.iter().take(PIDS_SHOWN)
}

fn identity(stat: &Stat) -> (u32, u64) {
    (stat.pid, stat.start)
}

/// Of a process itself; its children are shown with their own.
fn times(stat: &Stat) -> Times {
    let (user, system) = (Proc::duration(stat.own.user), Proc::duration(stat.own.system));
    Times { user, system, all: user + system }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
