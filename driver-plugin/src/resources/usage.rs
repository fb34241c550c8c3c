//! What a task uses, each figure only where it was measured.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nomad_plugin_proto::driver::{CpuUsage, MemoryUsage, TaskResourceUsage, cpu_usage, memory_usage};

/// One sample of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The whole task.
    pub all: Consumption,
    /// Its processes, at most `meter::PIDS_SHOWN` of them.
    pub by_pid: BTreeMap<u32, Consumption>,
}

/// Processor and memory of a task or of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumption {
    /// Since the sample before.
    pub cpu: Cpu,
    /// At this moment.
    pub memory: Memory,
}

/// Processor use over the interval of a sample; 100 percent is one core.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Both modes.
    pub percent: f64,
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// MHz, if the cores' speed is known.
    pub ticks: Option<f64>,
    /// Where a quota is accounted for.
    pub throttled: Option<Throttled>,
}

/// How often a quota has stopped a group since it was made, and for how long in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Periods in which it was stopped.
    pub periods: u64,
    /// How long it stood still.
    pub time: Duration,
}

/// Bytes of memory; None is not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the processes themselves.
    pub rss: Option<u64>,
    /// Of files that they read and wrote.
    pub cache: Option<u64>,
    /// Everything that counts against the limit.
    pub usage: Option<u64>,
    /// The most that it ever was.
    pub max_usage: Option<u64>,
    /// Swapped out.
    pub swap: Option<u64>,
    /// Of the kernel for them.
    pub kernel: Option<u64>,
    /// The most that it ever was.
    pub kernel_max: Option<u64>,
}

/// Processor time used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) all: Duration,
}

impl Cpu {
    /// The use between two readings. Nothing can be said of no time at all: 0 percent, as of the first sample.
    pub(super) fn between(
        earlier: Times,
        later: Times,
        elapsed: Duration,
        mhz_per_core: Option<f64>,
    ) -> Self {
        let percent = |earlier: Duration, later: Duration| {
            if elapsed.is_zero() {
                return 0.0;
            }
            later.saturating_sub(earlier).as_secs_f64() / elapsed.as_secs_f64() * 100.0
        };
        let all = percent(earlier.all, later.all);
        Self {
            percent: all,
            user: percent(earlier.user, later.user),
            system: percent(earlier.system, later.system),
            ticks: mhz_per_core.map(|mhz| all / 100.0 * mhz),
            throttled: None,
        }
    }
}

impl Usage {
    /// The processes in the form of the protocol, by pid as text.
    #[must_use]
    pub fn pids(&self) -> HashMap<String, TaskResourceUsage> {
        self.by_pid.iter().map(|(pid, one)| (pid.to_string(), one.into())).collect()
    }
}

impl From<&Consumption> for TaskResourceUsage {
    fn from(one: &Consumption) -> Self {
        Self::new((&one.cpu).into(), (&one.memory).into())
    }
}

impl From<&Cpu> for CpuUsage {
    fn from(cpu: &Cpu) -> Self {
        use cpu_usage::Fields;
        let mut measured = vec![Fields::SystemMode, Fields::UserMode, Fields::Percent];
        if cpu.ticks.is_some() {
            measured.push(Fields::TotalTicks);
        }
        if cpu.throttled.is_some() {
            measured.extend([Fields::ThrottledPeriods, Fields::ThrottledTime]);
        }
        let throttled = cpu.throttled.unwrap_or(Throttled { periods: 0, time: Duration::ZERO });
        Self {
            system_mode: cpu.system,
            user_mode: cpu.user,
            total_ticks: cpu.ticks.unwrap_or(0.0),
            throttled_periods: throttled.periods,
            throttled_time: u64::try_from(throttled.time.as_nanos()).unwrap_or(u64::MAX),
            percent: cpu.percent,
            measured_fields: measured.into_iter().map(i32::from).collect(),
        }
    }
}

impl From<&Memory> for MemoryUsage {
    fn from(memory: &Memory) -> Self {
        use memory_usage::Fields;
        let fields = [
            (Fields::Rss, memory.rss),
            (Fields::Cache, memory.cache),
            (Fields::MaxUsage, memory.max_usage),
            (Fields::KernelUsage, memory.kernel),
            (Fields::KernelMaxUsage, memory.kernel_max),
            (Fields::Usage, memory.usage),
            (Fields::Swap, memory.swap),
        ];
        let measured = fields.iter().filter(|(_, bytes)| bytes.is_some());
        Self {
            rss: memory.rss.unwrap_or(0),
            cache: memory.cache.unwrap_or(0),
            max_usage: memory.max_usage.unwrap_or(0),
            kernel_usage: memory.kernel.unwrap_or(0),
            kernel_max_usage: memory.kernel_max.unwrap_or(0),
            measured_fields: measured.map(|(field, _)| i32::from(*field)).collect(),
            usage: memory.usage.unwrap_or(0),
            swap: memory.swap.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(user: u64, system: u64) -> Times {
        let (user, system) = (Duration::from_millis(user), Duration::from_millis(system));
        Times { user, system, all: user + system }
    }

    #[test]
    fn one_busy_core_is_100_percent_and_its_speed_in_ticks() {
        let cpu = Cpu::between(times(1000, 0), times(1750, 250), Duration::from_secs(1), Some(2600.0));
        assert_eq!((cpu.percent, cpu.user, cpu.system, cpu.ticks), (100.0, 75.0, 25.0, Some(2600.0)));
        let half = Cpu::between(times(0, 0), times(500, 500), Duration::from_secs(2), Some(2600.0));
        assert_eq!((half.percent, half.ticks), (50.0, Some(1300.0)));
    }

    #[test]
    fn no_interval_and_no_progress_are_0_percent_and_never_less() {
        let none = Cpu::between(times(0, 0), times(500, 0), Duration::ZERO, None);
        assert_eq!((none.percent, none.ticks), (0.0, None));
        let back = Cpu::between(times(500, 0), times(100, 0), Duration::from_secs(1), Some(1000.0));
        assert_eq!((back.percent, back.ticks), (0.0, Some(0.0)));
    }

    #[test]
    fn what_was_not_measured_is_not_named() {
        let bare: CpuUsage = (&Cpu::default()).into();
        assert_eq!(bare.measured_fields, [0, 1, 5]);
        let throttled = Some(Throttled { periods: 7, time: Duration::from_micros(3) });
        let full: CpuUsage = (&Cpu { ticks: Some(1.0), throttled, ..Cpu::default() }).into();
        assert_eq!(full.measured_fields, [0, 1, 5, 2, 3, 4]);
        assert_eq!((full.throttled_periods, full.throttled_time), (7, 3000));

        let some: MemoryUsage =
            (&Memory { rss: Some(5), usage: Some(9), swap: Some(0), ..Memory::default() }).into();
        assert_eq!(some.measured_fields, [0, 5, 6]);
        assert_eq!((some.rss, some.usage), (5, 9));
        let none: MemoryUsage = (&Memory::default()).into();
        assert_eq!(none.measured_fields, [0; 0]);
    }
}
