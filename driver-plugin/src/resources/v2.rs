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
        let memory = limits.memory.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
        let wanted = [
            ("memory.max", Some(memory)),
            // 0 where there is no reserve: an earlier task of this scope may have had one.
            ("memory.low", Some(limits.memory_reserve.unwrap_or(0).to_string())),
            ("cpu.weight", limits.cpu_weight().map(|weight| weight.to_string())),
            ("cpuset.cpus", limits.cpus.clone()),
        ];
        let wanted = wanted.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        wanted.filter_map(|(name, value)| files::write(&self.scope.join(name), value).err()).collect()
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
        let kill = self.scope.join("cgroup.kill");
        kill_until_empty(
            || self.processes(),
            |listed| {
                // Before Linux 5.14 there is no such file.
                if files::write(&kill, "1").is_err() {
                    processes::kill_each(listed);
                }
            },
        )
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
