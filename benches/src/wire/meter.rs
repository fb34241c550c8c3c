//! Meters: what the kernel says that a process, its threads and the whole machine have used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine;

/// Processor time of a process's living threads.
///
/// # Errors
/// When there is no such process, or the kernel keeps no such account.
pub fn cpu(process: u32) -> Result<Duration> {
    Ok(threads(process)?.iter().map(|thread| thread.cpu).sum())
}

/// A thread and what it has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// Its processor time.
    pub cpu: Duration,
}

/// The living threads of a process.
///
/// # Errors
/// As [`cpu`].
pub fn threads(process: u32) -> Result<Vec<Thread>> {
    let directory = format!("/proc/{process}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("reading {directory}"))?;
    let mut threads = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {directory}"))?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A thread that ends in between is not counted, as those that ended before.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
        let (Some(id), Some(nanos)) = (id, nanos) else {
            anyhow::bail!("{directory} has an entry that makes no sense: {text:?}")
        };
        threads.push(Thread { id, cpu: Duration::from_nanos(nanos) });
    }
    Ok(threads)
}

/// Memory of a process in bytes (`Pss`), without what is mapped from files: its share of libc falls with every process that
/// starts anywhere, such as a server's for each session.
///
/// # Errors
/// When there is no such process.
pub fn memory(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let kib = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.with_context(|| format!("{file} has no {name}"))
    };
    Ok((kib("Pss_Anon:")? + kib("Pss_Shmem:")?) * 1024)
}

/// How much the machine has worked since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    busy: Duration,
    all: Duration,
}

impl Machine {
    /// Up to now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let (busy, all) = machine::ticks(&text).context("/proc/stat makes no sense")?;
        let time = |ticks: u64| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        Ok(Self { busy: time(busy), all: time(all) })
    }

    /// What all processors worked since, and the share of them that was busy, 0 to 1.
    ///
    /// # Errors
    /// As [`Machine::now`].
    pub fn since(&self) -> Result<(Duration, f64)> {
        let now = Self::now()?;
        let busy = now.busy.saturating_sub(self.busy);
        let all = now.all.saturating_sub(self.all);
        Ok((busy, busy.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_is_seen() {
        let own = std::process::id();
        let (before, machine) = (cpu(own).unwrap(), Machine::now().unwrap());
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(cpu(own).unwrap() > before);
        assert!(machine.since().unwrap().0 > Duration::ZERO);
        assert!(memory(own).unwrap() > 100_000);
        assert!(cpu(u32::MAX).is_err());
    }
}
