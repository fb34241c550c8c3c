//! Cgroup version 2: one directory for everything (Documentation/admin-guide/cgroup-v2.rst of the kernel).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files;
use super::limits::Limits;
use super::memory;
use super::processes::{self, kill_until_empty};
use super::usage::{Memory, Throttled, Times};

/// The task's scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct V2 {
    scope: PathBuf,
}

impl V2 {
    pub(super) fn new(scope: &Path) -> Self {
        Self { scope: scope.to_owned() }
    }

    pub(super) fn make(&self, made: &mut Vec<PathBuf>) -> io::Result<()> {
        files::make(&self.scope, made)
    }

    pub(super) fn limit(&self, limits: &Limits) -> Vec<io::Error> {
        let wanted = [
            ("memory.max", limits.memory.map(|bytes| bytes.to_string()), Some("max")),
            ("memory.low", limits.memory_reserve.map(|bytes| bytes.to_string()), Some("0")),
            ("cpu.weight", limits.cpu_weight().map(|weight| weight.to_string()), None),
            ("cpuset.cpus", limits.cpus.clone(), None),
        ];
        let set = |(name, value, none): (&str, Option<String>, Option<&str>)| {
            files::set(&self.scope.join(name), value.as_deref(), none).err()
        };
        wanted.into_iter().filter_map(set).collect()
    }

    pub(super) fn join(&self) -> io::Result<()> {
        files::write(&self.scope.join("cgroup.procs"), processes::MYSELF)
    }

    pub(super) fn oom_kills(&self) -> u64 {
        let events = files::read(&self.scope.join("memory.events")).unwrap_or_default();
        files::keyed(&events, "oom_kill").unwrap_or(0)
    }

    pub(super) fn processes(&self) -> io::Result<Vec<u32>> {
        Ok(files::pids(&files::read(&self.scope.join("cgroup.procs"))?))
    }

    pub(super) fn kill_all(&self) -> io::Result<()> {
        // Reaches the groups inside too. Before Linux 5.14 there is no such file.
        let at_once = files::write(&self.scope.join("cgroup.kill"), "1").is_ok();
        let one_by_one = |listed: &[u32]| {
            if !at_once {
                processes::kill_each(listed);
            }
        };
        kill_until_empty(|| self.processes(), one_by_one)
    }

    pub(super) fn times(&self) -> Option<Times> {
        let stat = self.cpu_stat()?;
        let micros = |key| files::keyed(&stat, key).map(Duration::from_micros);
        Some(Times { all: micros("usage_usec")?, user: micros("user_usec")?, system: micros("system_usec")? })
    }

    /// Only where the cpu controller is on.
    pub(super) fn throttled(&self) -> Option<Throttled> {
        let stat = self.cpu_stat()?;
        let time = files::keyed(&stat, "throttled_usec").map(Duration::from_micros)?;
        Some(Throttled { periods: files::keyed(&stat, "nr_throttled")?, time })
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        memory::of_v2(&self.scope)
    }

    fn cpu_stat(&self) -> Option<String> {
        files::read(&self.scope.join("cpu.stat")).ok()
    }
}
