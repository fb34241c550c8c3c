//! The cgroups of a task: limits, members, and their end.
//!
//! Version 1 has a directory for each controller (Documentation/admin-guide/cgroup-v1 of the kernel), version 2 has
//! one for all (Documentation/admin-guide/cgroup-v2.rst).

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nomad_plugin_proto::driver::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use crate::process_id;

/// Where Nomad expects the hierarchies (`client/lib/cgroupslib`).
const ROOT: &str = "/sys/fs/cgroup";
/// Lists the processes of a cgroup; writing a pid moves the process into it.
const PROCS: &str = "cgroup.procs";
/// How long the processes of a task may take to end after SIGKILL.
const KILL_TIME: Duration = Duration::from_secs(2);
/// The pause between two looks at processes that were killed.
const KILL_POLL: Duration = Duration::from_millis(5);

/// The version of cgroups that Nomad uses on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// No cgroups are mounted.
    None,
    /// Version 1. In hybrid mode, version 2 is mounted too and has no controllers.
    V1,
    /// Version 2.
    V2,
}

impl CgroupMode {
    /// The version on this host.
    #[must_use]
    pub fn of_host() -> Self {
        let exists = |file: &str| Path::new(ROOT).join(file).exists();
        match (exists("cgroup.controllers"), exists("freezer/cgroup.procs")) {
            (true, _) => Self::V2,
            (false, true) => Self::V1,
            (false, false) => Self::None,
        }
    }
}

impl fmt::Display for CgroupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The cgroups of one task, as Nomad created them.
///
/// All methods block, mostly for microseconds; `kill_all` for up to two seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroups {
    /// A client without cgroups.
    #[default]
    None,
    /// Version 1. The directory of a controller that is not mounted does not exist.
    V1 {
        /// Lists the processes of the task, and no others.
        freezer: PathBuf,
        /// Limits memory.
        memory: PathBuf,
        /// Shares the processor.
        cpu: PathBuf,
        /// Assigns cores. It is shared with other tasks, unless the job asks for cores.
        cpuset: PathBuf,
    },
    /// Version 2.
    V2 {
        /// The task's directory.
        scope: PathBuf,
    },
}

impl Cgroups {
    /// The cgroups of a task.
    ///
    /// # Errors
    /// When there is no cgroup at the path that Nomad gave.
    pub fn of(alloc_id: &str, task_name: &str, resources: &LinuxResources) -> io::Result<Self> {
        if resources.cpuset_cgroup.is_empty() {
            return Ok(Self::None);
        }
        let given = Path::new(&resources.cpuset_cgroup);
        if given.join("cgroup.controllers").exists() {
            return Ok(Self::V2 { scope: given.to_owned() });
        }
        match Self::v1(given, &format!("{alloc_id}.{task_name}")) {
            Some(groups) if groups.list().is_ok() => Ok(groups),
            _ => {
                Err(io::Error::new(ErrorKind::NotFound, format!("there is no cgroup at {}", given.display())))
            }
        }
    }

    /// Sets the limits that the host allows, and returns why others could not be set. As in Nomad's own drivers, a
    /// task runs without them.
    #[must_use]
    pub fn limit(&self, limits: &Limits) -> Vec<String> {
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        let files = match self {
            Self::None => return Vec::new(),
            Self::V1 { memory, cpu, cpuset, .. } => [
                (memory, "memory.limit_in_bytes", text(limits.memory)),
                (memory, "memory.soft_limit_in_bytes", text(limits.memory_reserve)),
                (cpu, "cpu.shares", text(limits.cpu_shares)),
                (cpuset, "cpuset.cpus", limits.cpus.clone()),
            ],
            Self::V2 { scope } => [
                (scope, "memory.max", text(limits.memory)),
                (scope, "memory.low", text(limits.memory_reserve)),
                (scope, "cpu.weight", text(limits.cpu_weight())),
                (scope, "cpuset.cpus", limits.cpus.clone()),
            ],
        };
        let errors =
            files.into_iter().filter_map(|(group, name, value)| write(&group.join(name), &value?).err());
        errors.map(|error| error.to_string()).collect()
    }

    /// Moves this process, with all its threads, into the cgroups.
    ///
    /// # Errors
    /// When a cgroup does not accept it. The text names the file.
    pub fn join(&self) -> io::Result<()> {
        // The kernel takes 0 for the process that writes.
        let join = |group: &Path| write(&group.join(PROCS), "0");
        match self {
            Self::None => Ok(()),
            Self::V1 { freezer, memory, cpu, cpuset } => {
                join(freezer)?;
                let mut mounted =
                    [memory, cpu, cpuset].into_iter().filter(|group| group.join(PROCS).exists());
                mounted.try_for_each(|group| join(group))
            }
            Self::V2 { scope } => join(scope),
        }
    }

    /// The pids of the processes in the cgroups. Empty when the cgroups are gone.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.list().unwrap_or_default()
    }

    /// How many processes the kernel has killed for lack of memory since the cgroups were created. They outlive a
    /// restart of the task, so only the growth counts. 0 when that is not known.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let file = match self {
            Self::None => return 0,
            Self::V1 { memory, .. } => memory.join("memory.oom_control"),
            Self::V2 { scope } => scope.join("memory.events"),
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Bytes that count against the memory limit, now and at most so far. The peak is known from Linux 5.19 on in
    /// version 2.
    pub(super) fn memory(&self) -> (Option<u64>, Option<u64>) {
        let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
        match self {
            Self::None => (None, None),
            Self::V1 { memory, .. } => (
                number(memory.join("memory.usage_in_bytes")),
                number(memory.join("memory.max_usage_in_bytes")),
            ),
            Self::V2 { scope } => (number(scope.join("memory.current")), number(scope.join("memory.peak"))),
        }
    }

    /// Kills every process in the cgroups, and returns when they have ended. The next task of the allocation uses the
    /// same cgroups.
    ///
    /// # Errors
    /// When a process is left after two seconds. The text names it.
    pub fn kill_all(&self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_TIME;
        loop {
            let mut left = match self.list() {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                listed => listed?,
            };
            left.retain(|pid| process_id::stat(*pid).is_ok_and(|stat| !process_id::is_zombie(&stat)));
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let text = format!("the processes {left:?} still run {KILL_TIME:?} after SIGKILL");
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            self.kill(&left);
            thread::sleep(KILL_POLL);
        }
    }

    fn kill(&self, pids: &[u32]) {
        // At once and with cgroups inside, from Linux 5.14 on.
        if let Self::V2 { scope } = self
            && write(&scope.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            // A process that has ended already is no error.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn list(&self) -> io::Result<Vec<u32>> {
        let group = match self {
            Self::None => return Ok(Vec::new()),
            Self::V1 { freezer, .. } => freezer,
            Self::V2 { scope } => scope,
        };
        let mut pids = members(group)?;
        // A process of the task may have created groups inside, and moved into one.
        let mut directories = inside(group);
        while let Some(directory) = directories.pop() {
            // One that was removed meanwhile has no members.
            pids.extend(members(&directory).unwrap_or_default());
            directories.extend(inside(&directory));
        }
        Ok(pids)
    }

    /// Derives the directories of version 1 from that of the cpuset, which is `ROOT/cpuset/PARENT/share`, or
    /// `ROOT/cpuset/PARENT/reserve/SCOPE` for a task with cores of its own. The others are
    /// `ROOT/CONTROLLER/PARENT/SCOPE`.
    fn v1(cpuset: &Path, scope: &str) -> Option<Self> {
        let within = cpuset.strip_prefix(Path::new(ROOT).join("cpuset")).ok()?;
        let partition = if within.ends_with("share") { within } else { within.parent()? };
        let parent = partition.parent()?;
        let group = |controller| Path::new(ROOT).join(controller).join(parent).join(scope);
        Some(Self::V1 {
            freezer: group("freezer"),
            memory: group("memory"),
            cpu: group("cpu"),
            cpuset: cpuset.to_owned(),
        })
    }
}

/// The processes of one cgroup, without those of the groups inside.
fn members(group: &Path) -> io::Result<Vec<u32>> {
    let path = group.join(PROCS);
    let text = fs::read_to_string(&path).map_err(|error| with_path(&path, &error))?;
    // The kernel shows 0 for a process of another pid namespace.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect())
}

/// The cgroups directly inside of one.
fn inside(group: &Path) -> Vec<PathBuf> {
    let entries = group.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Writes to a file of the kernel. It is never created: outside of a cgroup it would be an ordinary file.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| with_path(path, &error))
}

/// The same error with the path. Files of a cgroup that is being removed return ENODEV instead of ENOENT.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    let gone = error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error());
    let kind = if gone { ErrorKind::NotFound } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
