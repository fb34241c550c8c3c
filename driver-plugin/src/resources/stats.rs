//! What a task uses, measured as Nomad's own `raw_exec` does: process by process from `/proc`, and summed up.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use nomad_plugin_proto::base::ClientTopology;
use nomad_plugin_proto::driver::{CpuUsage, MemoryUsage, TaskResourceUsage, cpu_usage, memory_usage};
use procfs::process::{Process, Stat};

use super::Cgroups;
use crate::process_id;

/// How many processes of a task are measured.
const PROCESSES_MAX: usize = 32;
const BYTES_PER_KIB: u64 = 1024;

/// What a task uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The whole task.
    pub all: TaskResourceUsage,
    /// Each of its processes, by pid.
    pub by_pid: HashMap<String, TaskResourceUsage>,
}

/// Measures one task. Percentages refer to the interval between two samples of one collector.
#[derive(Clone, Debug)]
pub struct StatsCollector {
    cgroups: Cgroups,
    pid: u32,
    mhz_per_core: Option<f64>,
    /// The start time of the main process.
    start_time: Option<u64>,
    last: Option<Reading>,
}

/// The processor time of every process, by pid and start time.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    times: BTreeMap<(i32, u64), Times>,
}

/// Processor time in clock ticks.
#[derive(Clone, Copy, Debug)]
struct Times {
    user: u64,
    system: u64,
}

impl StatsCollector {
    /// For the task whose proxy process is `pid`. Without the speed of a core no MHz are reported.
    #[must_use]
    pub fn new(cgroups: Cgroups, pid: u32, mhz_per_core: Option<f64>) -> Self {
        let start_time = process_id::stat(pid).ok().map(|stat| stat.starttime);
        Self { cgroups, pid, mhz_per_core, start_time, last: None }
    }

    /// What the task uses now; `None` when its proxy process has exited. The first sample has no interval: its
    /// percentages are 0.
    pub fn sample(&mut self) -> Option<Sample> {
        self.sample_at(Instant::now())
    }

    fn sample_at(&mut self, at: Instant) -> Option<Sample> {
        let main = process_id::stat(self.pid).ok().filter(|stat| !process_id::is_zombie(stat))?;
        if self.start_time != Some(main.starttime) {
            return None;
        }
        let pids = self.cgroups.pids().into_iter().filter(|pid| *pid != self.pid).take(PROCESSES_MAX - 1);
        let others = pids.filter_map(|pid| process_id::stat(pid).ok());
        let stats: Vec<Stat> = [main].into_iter().chain(others).collect();
        let now = Reading { at, times: stats.iter().map(|stat| (key(stat), times(stat))).collect() };
        let last = self.last.replace(now.clone()).unwrap_or(now);
        let by_pid: HashMap<_, _> =
            stats.iter().map(|stat| (stat.pid.to_string(), self.usage(stat, &last, at))).collect();
        Some(Sample { all: self.sum(&by_pid), by_pid })
    }

    /// What one process uses. A process that is new has no interval yet.
    fn usage(&self, stat: &Stat, last: &Reading, at: Instant) -> TaskResourceUsage {
        let now = times(stat);
        let before = last.times.get(&key(stat)).copied().unwrap_or(now);
        let elapsed = at.saturating_duration_since(last.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "ticks of one interval")]
        let percent = |now: u64, before: u64| {
            let seconds = now.saturating_sub(before) as f64 / procfs::ticks_per_second() as f64;
            if elapsed > 0.0 { seconds / elapsed * 100.0 } else { 0.0 }
        };
        let cpu = self.cpu(percent(now.user, before.user), percent(now.system, before.system));
        TaskResourceUsage::new(cpu, memory(stat.pid))
    }

    fn cpu(&self, user_mode: f64, system_mode: f64) -> CpuUsage {
        use cpu_usage::Fields;
        let percent = user_mode + system_mode;
        let mut measured = vec![Fields::SystemMode.into(), Fields::UserMode.into(), Fields::Percent.into()];
        measured.extend(self.mhz_per_core.map(|_| i32::from(Fields::TotalTicks)));
        CpuUsage {
            system_mode,
            user_mode,
            percent,
            total_ticks: self.mhz_per_core.map_or(0.0, |mhz| percent / 100.0 * mhz),
            measured_fields: measured,
            ..CpuUsage::default()
        }
    }

    /// The processes together, and what counts against the memory limit, kernel memory included.
    fn sum(&self, by_pid: &HashMap<String, TaskResourceUsage>) -> TaskResourceUsage {
        use memory_usage::Fields;
        let cpu =
            |part: fn(&CpuUsage) -> f64| by_pid.values().filter_map(|one| one.cpu.as_ref()).map(part).sum();
        let memory = |part: fn(&MemoryUsage) -> u64| {
            by_pid.values().filter_map(|one| one.memory.as_ref()).map(part).sum()
        };
        let (usage, max_usage) = self.cgroups.memory();
        let mut measured = vec![Fields::Rss.into(), Fields::Swap.into()];
        measured.extend(usage.map(|_| i32::from(Fields::Usage)));
        measured.extend(max_usage.map(|_| i32::from(Fields::MaxUsage)));
        let memory = MemoryUsage {
            rss: memory(|one| one.rss),
            swap: memory(|one| one.swap),
            usage: usage.unwrap_or_default(),
            max_usage: max_usage.unwrap_or_default(),
            measured_fields: measured,
            ..MemoryUsage::default()
        };
        TaskResourceUsage::new(self.cpu(cpu(|one| one.user_mode), cpu(|one| one.system_mode)), memory)
    }
}

/// The memory of one process. A process that has exited meanwhile has none.
fn memory(pid: i32) -> MemoryUsage {
    let status = Process::new(pid).and_then(|process| process.status()).ok();
    let bytes = |kib: Option<u64>| kib.unwrap_or_default().saturating_mul(BYTES_PER_KIB);
    MemoryUsage {
        rss: bytes(status.as_ref().and_then(|status| status.vmrss)),
        swap: bytes(status.as_ref().and_then(|status| status.vmswap)),
        measured_fields: vec![memory_usage::Fields::Rss.into(), memory_usage::Fields::Swap.into()],
        ..MemoryUsage::default()
    }
}

fn key(stat: &Stat) -> (i32, u64) {
    (stat.pid, stat.starttime)
}

fn times(stat: &Stat) -> Times {
    Times { user: stat.utime, system: stat.stime }
}

/// The speed of one core in MHz, on average, as Nomad has detected it; `None` when Nomad does not know. Nomad counts
/// processor use in MHz. Its total is that of the cores that are not disabled, unless the operator has set another
/// (`client/lib/numalib`).
#[must_use]
pub fn mhz_per_core(topology: &ClientTopology) -> Option<f64> {
    let usable = topology.cores.iter().filter(|core| !core.disable);
    let speeds: Vec<u64> = usable
        .map(|core| {
            let known =
                [core.base_speed, core.max_speed, core.guess_speed].into_iter().find(|speed| *speed > 0);
            known.unwrap_or_default()
        })
        .collect();
    let total = match topology.override_total_compute {
        0 => speeds.iter().sum(),
        set => set,
    };
    #[expect(clippy::cast_precision_loss, reason = "MHz and cores are far below 2^52")]
    let mhz = (total > 0 && !speeds.is_empty()).then(|| total as f64 / speeds.len() as f64);
    mhz
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
