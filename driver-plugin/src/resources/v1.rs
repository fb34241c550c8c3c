//! Cgroup version 1: a directory for each controller (Documentation/admin-guide/cgroup-v1 of the kernel).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files;
use super::limits::{Limits, MIN_SHARES};
use super::memory;
use super::mounts::Mounts;
use super::processes::{self, Proc, kill_until_empty};
use super::usage::{Memory, Throttled, Times};

/// Nomad's directory in each hierarchy, where the path of the cpuset does not say otherwise.
const PARENT: &str = "nomad";

/// How long a group may take to come to a stop before its processes are killed as they run.
const FREEZE_LIMIT: Duration = Duration::from_millis(100);
const FREEZE_POLL: Duration = Duration::from_millis(1);

/// The task's groups. Those of controllers that are not mounted are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct V1 {
    freezer: Option<PathBuf>,
    memory: Option<PathBuf>,
    /// Also that of `cpuacct` where the two are mounted together; Nomad makes none where they are not.
    cpu: Option<PathBuf>,
    /// Shared with all tasks unless the job asked for cores: who is in it says nothing.
    cpuset: PathBuf,
}

impl V1 {
    /// `given` is the cpuset: `<parent>/share`, or `<parent>/reserve/<scope>` for a task with cores of its own.
    pub(super) fn new(mounts: &Mounts, cpuset_mount: &Path, given: &Path, scope: &str) -> Self {
        let within = given.strip_prefix(cpuset_mount).unwrap_or_else(|_| Path::new(""));
        let partition = if within.ends_with("share") { Some(within) } else { within.parent() };
        let of_partition = partition.filter(|path| path.ends_with("share") || path.ends_with("reserve"));
        let parent = of_partition.and_then(Path::parent).unwrap_or_else(|| Path::new(PARENT));
        let group = |controller| Some(mounts.controller(controller)?.join(parent).join(scope));
        Self {
            freezer: group("freezer"),
            memory: group("memory"),
            cpu: group("cpu"),
            cpuset: given.to_owned(),
        }
    }

    pub(super) fn make(&self, made: &mut Vec<PathBuf>) -> io::Result<()> {
        self.groups().try_for_each(|group| files::make(group, made))?;
        inherit_cpuset(&self.cpuset)
    }

    pub(super) fn limit(&self, limits: &Limits) -> Vec<io::Error> {
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        let shares = limits.cpu_shares.map(|shares| shares.max(MIN_SHARES));
        let memory = self.memory.as_deref();
        let wanted = [
            (memory, "memory.limit_in_bytes", text(limits.memory), Some("-1")),
            (memory, "memory.soft_limit_in_bytes", text(limits.memory_reserve), Some("-1")),
            (self.cpu.as_deref(), "cpu.shares", text(shares), None),
            (Some(self.cpuset.as_path()), "cpuset.cpus", limits.cpus.clone(), None),
        ];
        let set =
            |(group, name, value, none): (Option<&Path>, &str, Option<String>, Option<&str>)| match group {
                Some(group) => files::set(&group.join(name), value.as_deref(), none).err(),
                None => value.map(|_| io::Error::other(format!("no cgroup hierarchy has {name}"))),
            };
        wanted.into_iter().filter_map(set).collect()
    }

    /// The freezer comes first: whoever is in it can be killed.
    pub(super) fn join(&self) -> io::Result<()> {
        self.groups().try_for_each(|group| files::write(&group.join("cgroup.procs"), processes::MYSELF))
    }

    pub(super) fn oom_kills(&self) -> u64 {
        let Some(memory) = &self.memory else { return 0 };
        let control = files::read(&memory.join("memory.oom_control")).unwrap_or_default();
        files::keyed(&control, "oom_kill").unwrap_or(0)
    }

    pub(super) fn processes(&self) -> io::Result<Vec<u32>> {
        match [&self.freezer, &self.memory, &self.cpu].into_iter().flatten().next() {
            Some(own) => Ok(files::pids(&files::read(&own.join("cgroup.procs"))?)),
            None => Ok(Vec::new()),
        }
    }

    /// A group that is frozen cannot fork, so that nobody escapes; the signal takes effect when it thaws.
    pub(super) fn kill_all(&self) -> io::Result<()> {
        kill_until_empty(
            || self.processes(),
            |listed| {
                let frozen = self.freezer.as_deref().map(Frozen::new);
                match frozen.as_ref().and_then(|_| self.processes().ok()) {
                    Some(still) => processes::kill_each(&still),
                    None => processes::kill_each(listed),
                }
            },
        )
    }

    pub(super) fn times(&self) -> Option<Times> {
        let group = self.cpu.as_deref()?;
        let nanos = |name| files::number(&group.join(name)).map(Duration::from_nanos);
        let all = nanos("cpuacct.usage")?;
        if let (Some(user), Some(system)) = (nanos("cpuacct.usage_user"), nanos("cpuacct.usage_sys")) {
            return Some(Times { user, system, all });
        }
        // Before Linux 4.6 the modes were told in clock ticks only.
        let stat = files::read(&group.join("cpuacct.stat")).ok()?;
        let ticks = |key| files::keyed(&stat, key).map(Proc::duration);
        Some(Times { user: ticks("user")?, system: ticks("system")?, all })
    }

    pub(super) fn throttled(&self) -> Option<Throttled> {
        let stat = files::read(&self.cpu.as_ref()?.join("cpu.stat")).ok()?;
        let time = files::keyed(&stat, "throttled_time").map(Duration::from_nanos)?;
        Some(Throttled { periods: files::keyed(&stat, "nr_throttled")?, time })
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        memory::of_v1(self.memory.as_deref()?)
    }

    fn groups(&self) -> impl Iterator<Item = &Path> {
        let own = [&self.freezer, &self.memory, &self.cpu].into_iter().flatten();
        own.map(PathBuf::as_path).chain([self.cpuset.as_path()])
    }
}

/// A new cpuset has no cores and no memory nodes, and takes no process until it has: it gets those of its parent.
fn inherit_cpuset(cpuset: &Path) -> io::Result<()> {
    let chain: Vec<&Path> = cpuset.ancestors().take_while(|path| path.join("cpuset.cpus").exists()).collect();
    for pair in chain.windows(2).rev() {
        let [group, parent] = pair else { continue };
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if files::read(&group.join(name))?.trim().is_empty() {
                files::write(&group.join(name), files::read(&parent.join(name))?.trim())?;
            }
        }
    }
    Ok(())
}

/// A group that stands still for as long as this lives.
struct Frozen(PathBuf);

impl Frozen {
    fn new(freezer: &Path) -> Self {
        let state = freezer.join("freezer.state");
        // Where it does not freeze, its processes are killed as they run, and once more until none is left.
        let _ = files::write(&state, "FROZEN");
        let deadline = Instant::now() + FREEZE_LIMIT;
        let frozen = || fs::read_to_string(&state).is_ok_and(|text| text.trim() == "FROZEN");
        while !frozen() && state.exists() && Instant::now() < deadline {
            thread::sleep(FREEZE_POLL);
        }
        Self(state)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = files::write(&self.0, "THAWED");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, V1) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let cpu = Some(root.path().to_owned());
        let v1 = V1 { freezer: None, memory: None, cpu, cpuset: root.path().to_owned() };
        (root, v1)
    }

    #[test]
    fn where_cpuacct_is_mounted_with_cpu_the_group_tells_its_time_in_nanoseconds() {
        let files =
            [("cpuacct.usage", "7500\n"), ("cpuacct.usage_user", "5000\n"), ("cpuacct.usage_sys", "2500\n")];
        let expected = Times {
            user: Duration::from_nanos(5000),
            system: Duration::from_nanos(2500),
            all: Duration::from_nanos(7500),
        };
        assert_eq!(group(&files).1.times(), Some(expected));
    }

    #[test]
    fn an_old_kernel_tells_the_modes_in_ticks() {
        let (_root, v1) =
            group(&[("cpuacct.usage", "7500000000\n"), ("cpuacct.stat", "user 500\nsystem 250\n")]);
        let times = v1.times().unwrap();
        assert_eq!((times.user, times.system), (Proc::duration(500), Proc::duration(250)));
        assert_eq!(times.all, Duration::from_millis(7500));
    }

    #[test]
    fn without_cpuacct_the_group_tells_no_time_but_how_often_it_was_throttled() {
        let (_root, v1) = group(&[("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 1200\n")]);
        assert_eq!(v1.times(), None);
        assert_eq!(v1.throttled(), Some(Throttled { periods: 4, time: Duration::from_nanos(1200) }));
    }
}
