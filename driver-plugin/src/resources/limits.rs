//! The limits that Nomad assigns to a task.

use nomad_plugin_proto::driver::Resources;

/// `memory_max = -1` in a job: no limit.
const UNLIMITED: i64 = -1;
const MIB: u64 = 1024 * 1024;

/// The limits of a task's cgroups. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory beyond which the kernel kills the task.
    pub memory: Option<u64>,
    /// Bytes that are reserved for the task when the host runs short of memory. Only for a task that may use more
    /// than it reserved.
    pub memory_reserve: Option<u64>,
    /// MHz that the job asked for: the share of the task when all tasks want the processor at once.
    pub cpu_shares: Option<u64>,
    /// The cores of a task that asked for `cores`, such as `2,3`.
    pub cpus: Option<String>,
}

impl Limits {
    /// The limits in the resources that `StartTask` receives.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let linux = resources.linux_resources.as_ref();
        let allocated = resources.allocated_resources.as_ref().and_then(|all| all.memory.as_ref());
        let (reserved, max) = allocated.map_or((0, 0), |memory| (memory.memory_mb, memory.memory_max_mb));
        let limit = linux.and_then(|linux| positive(linux.memory_limit_bytes));
        let reserve = positive(reserved).map(|mib| mib.saturating_mul(MIB));
        Self {
            memory: if max == UNLIMITED { None } else { limit },
            memory_reserve: if max == UNLIMITED || max > reserved { reserve } else { None },
            cpu_shares: linux
                .and_then(|linux| positive(linux.cpu_shares))
                .map(|shares| shares.max(MIN_SHARES)),
            cpus: linux.map(|linux| linux.cpuset_cpus.clone()).filter(|cpus| !cpus.is_empty()),
        }
    }

    /// The weight of cgroup version 2 (1 to 10000) for the shares of version 1 (2 to 262144): the curve of the
    /// container runtimes, through 2 → 1, 1024 → 100 and 262144 → 10000. Nomad 1.11 uses it for its other tasks.
    pub(super) fn cpu_weight(&self) -> Option<u64> {
        let shares = self.cpu_shares?;
        if shares <= MIN_SHARES {
            return Some(1);
        }
        if shares >= MAX_SHARES {
            return Some(MAX_WEIGHT);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 2^18")]
        let log = (shares as f64).log2();
        let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
        let weight = 10_f64.powf(exponent).ceil() as u64;
        Some(weight)
    }
}

/// The range of shares that the kernel accepts.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const MAX_WEIGHT: u64 = 10_000;

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use nomad_plugin_proto::driver::{AllocatedMemoryResources, AllocatedTaskResources, LinuxResources};

    use super::*;

    fn limits(memory_mb: i64, memory_max_mb: i64) -> Limits {
        let memory = AllocatedMemoryResources { memory_mb, memory_max_mb };
        let most = memory_mb.max(memory_max_mb) * 1024 * 1024;
        Limits::of(&Resources {
            allocated_resources: Some(AllocatedTaskResources { memory: Some(memory), ..Default::default() }),
            linux_resources: Some(LinuxResources {
                memory_limit_bytes: most,
                cpu_shares: 500,
                ..Default::default()
            }),
            ports: Vec::new(),
        })
    }

    #[test]
    fn memory_is_the_limit_and_below_memory_max_the_reserve() {
        let (plain, above) = (limits(256, 0), limits(256, 512));
        assert_eq!((plain.memory, plain.memory_reserve), (Some(256 * MIB), None));
        assert_eq!((above.memory, above.memory_reserve), (Some(512 * MIB), Some(256 * MIB)));
        let same = limits(256, 256);
        assert_eq!((same.memory, same.memory_reserve), (Some(256 * MIB), None));
    }

    #[test]
    fn a_memory_max_of_minus_one_is_no_limit() {
        let open = limits(256, -1);
        assert_eq!((open.memory, open.memory_reserve), (None, Some(256 * MIB)));
    }

    #[test]
    fn missing_resources_are_no_limits() {
        assert_eq!(Limits::of(&Resources::default()), Limits::default());
    }

    #[test]
    fn shares_become_the_weight_that_other_drivers_use() {
        let weight = |shares| Limits { cpu_shares: Some(shares), ..Limits::default() }.cpu_weight();
        let known =
            [(1, 1), (2, 1), (100, 17), (500, 58), (1024, 100), (262_144, 10_000), (1_000_000, 10_000)];
        for (shares, expected) in known {
            assert_eq!(weight(shares), Some(expected), "{shares} MHz");
        }
        assert_eq!(Limits::default().cpu_weight(), None);
    }
}
