//! Processor time and memory of processes and of the machine, as the kernel counts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};
use tokio::task::JoinHandle;

/// Between two samples of the machine's processor time.
const SAMPLE: Duration = Duration::from_millis(100);
/// Half of the second around a moment.
const AROUND: Duration = Duration::from_millis(500);

/// A thread and its processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) id: i32,
    pub(crate) cpu: Duration,
}

/// The living threads of a process.
pub(crate) fn threads(process: u32) -> Result<Vec<Thread>> {
    let tasks = find(process)?.tasks().context("listing the threads of a process")?;
    let mut threads = Vec::new();
    for task in tasks.flatten() {
        match task.schedstat() {
            Ok(stat) => {
                threads.push(Thread { id: task.tid, cpu: Duration::from_nanos(stat.sum_exec_runtime) })
            }
            // It has ended meanwhile.
            Err(procfs::ProcError::NotFound(_)) => {}
            Err(error) => return Err(error).context("reading the scheduler statistics of a thread"),
        }
    }
    Ok(threads)
}

/// Processor time of a process's living threads.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    Ok(threads(process)?.iter().map(|thread| thread.cpu).sum())
}

/// The memory of a process in bytes: its proportional set size (Pss) without mapped files. Its share of libc depends on
/// how many other processes map libc.
pub(crate) fn memory(process: u32) -> Result<u64> {
    let rollup = find(process)?.smaps_rollup().context("reading the memory of a process")?;
    let map = rollup.memory_map_rollup.into_iter().next().context("a process without memory")?.extension.map;
    let bytes = |field: &str| map.get(field).copied().with_context(|| format!("smaps_rollup has no {field}"));
    Ok(bytes("Pss_Anon")? + bytes("Pss_Shmem")?)
}

fn find(process: u32) -> Result<Process> {
    Process::new(process.cast_signed()).with_context(|| format!("looking at process {process}"))
}

/// The machine's processor time since it was started, over all cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuTime {
    busy: Duration,
    total: Duration,
}

impl CpuTime {
    pub(crate) fn now() -> Result<Self> {
        let cpu = KernelStats::current().context("reading /proc/stat")?.total;
        // Guests are part of user and nice.
        let other = [cpu.irq_duration(), cpu.softirq_duration(), cpu.steal_duration()];
        let working = cpu.user_duration() + cpu.nice_duration() + cpu.system_duration();
        let busy = working + other.into_iter().flatten().sum::<Duration>();
        let idle = cpu.idle_duration() + cpu.iowait_duration().unwrap_or_default();
        Ok(Self { busy, total: busy + idle })
    }

    /// The busy time since `earlier`, and its share of all cores' time, 0 to 1.
    pub(crate) fn since(&self, earlier: &Self) -> (Duration, f64) {
        let busy = self.busy.saturating_sub(earlier.busy);
        let total = self.total.saturating_sub(earlier.total);
        (busy, busy.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE))
    }
}

/// Samples the machine's processor time in the background until it is dropped.
#[derive(Debug)]
pub(crate) struct CpuSampler {
    samples: Arc<Mutex<Vec<(Instant, CpuTime)>>>,
    task: JoinHandle<()>,
}

impl CpuSampler {
    pub(crate) fn start() -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(time) = CpuTime::now() {
                    sink.lock().push((Instant::now(), time));
                }
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Self { samples, task }
    }

    /// The busy share of all cores in the second around a moment, 0 to 1.
    pub(crate) fn busy_around(&self, moment: Instant) -> f64 {
        let samples = self.samples.lock();
        let first = samples.iter().rfind(|(at, _)| *at + AROUND <= moment).or_else(|| samples.first());
        let last = samples.iter().find(|(at, _)| *at >= moment + AROUND).or_else(|| samples.last());
        first.zip(last).map_or(0.0, |((_, first), (_, last))| last.since(first).1)
    }
}

impl Drop for CpuSampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_measured() {
        let own = std::process::id();
        let (before, machine) = (cpu(own).unwrap(), CpuTime::now().unwrap());
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(cpu(own).unwrap() > before);
        let (busy, share) = CpuTime::now().unwrap().since(&machine);
        assert!(busy > Duration::ZERO && share > 0.0 && share <= 1.0);
        assert!(memory(own).unwrap() > 100_000);
        assert!(cpu(u32::MAX).is_err());
    }
}
