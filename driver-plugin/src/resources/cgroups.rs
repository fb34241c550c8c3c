//! Where a task's processes belong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nomad_plugin_proto::driver::LinuxResources;
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::mounts::{Hierarchy, Mounts};
use super::usage::{Memory, Throttled, Times};
use super::v1::V1;
use super::v2::V2;

/// The groups of one task, as Nomad gave them. The default is none: a client without cgroups gives no path.
///
/// Everything here blocks, mostly for microseconds; `kill_all` for up to two seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Cgroups {
    kind: Kind,
    /// The directories that were missing and that we made, outermost first.
    made: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    None,
    V1(V1),
    V2(V2),
}

/// The same groups are equal, whoever made them: a task that is started once more, since the plugin did not live to tell,
/// finds those that its first start made.
impl PartialEq for Cgroups {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Cgroups {}

impl Cgroups {
    /// The groups of a task. Nothing is made yet.
    ///
    /// # Errors
    /// When the path that Nomad gave lies in no cgroup hierarchy of this host: nothing could be limited or killed there.
    pub fn of(alloc_id: &str, task_name: &str, resources: &LinuxResources) -> io::Result<Self> {
        Self::within(&Mounts::here()?, &format!("{alloc_id}.{task_name}"), resources)
    }

    fn within(mounts: &Mounts, scope: &str, resources: &LinuxResources) -> io::Result<Self> {
        if resources.cpuset_cgroup.is_empty() {
            return Ok(Self::default());
        }
        let given = Path::new(&resources.cpuset_cgroup);
        let kind = match mounts.holding(given).map(|mount| (&mount.hierarchy, &mount.point)) {
            Some((Hierarchy::Unified, _)) => Kind::V2(V2::new(given)),
            Some((Hierarchy::Controllers(_), point)) => Kind::V1(V1::new(mounts, point, given, scope)),
            None => {
                let text = format!("the task's cgroup {} is in no cgroup hierarchy", given.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        Ok(Self { kind, made: Vec::new() })
    }

    /// Makes the directories that are missing. To be called before the groups are written down or joined.
    ///
    /// # Errors
    /// When a directory cannot be made; the text names it.
    pub fn make(&mut self) -> io::Result<()> {
        let Self { kind, made } = self;
        match kind {
            Kind::None => Ok(()),
            Kind::V1(v1) => v1.make(made),
            Kind::V2(v2) => v2.make(made),
        }
    }

    /// Sets the limits, as far as the host lets us, and says which could not be set: a task that runs without one of its
    /// limits is better than none, as Nomad's own drivers have it, but its owner should know.
    #[must_use]
    pub fn limit(&self, limits: &Limits) -> Vec<String> {
        let errors = match &self.kind {
            Kind::None => Vec::new(),
            Kind::V1(v1) => v1.limit(limits),
            Kind::V2(v2) => v2.limit(limits),
        };
        errors.iter().map(ToString::to_string).collect()
    }

    /// Puts this process, with all its threads, into the groups. Those that have been removed meanwhile are made anew.
    ///
    /// # Errors
    /// When one of them does not take it; the text names the file.
    pub fn join(&self) -> io::Result<()> {
        let mut made = Vec::new();
        match &self.kind {
            Kind::None => Ok(()),
            Kind::V1(v1) => v1.make(&mut made).and_then(|()| v1.join()),
            Kind::V2(v2) => v2.make(&mut made).and_then(|()| v2.join()),
        }
    }

    /// How many processes of the groups the kernel has ended for want of memory since the groups were made. The groups
    /// outlive a restart of the task, so it is the growth that counts. 0 when they are gone or cannot say.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        match &self.kind {
            Kind::None => 0,
            Kind::V1(v1) => v1.oom_kills(),
            Kind::V2(v2) => v2.oom_kills(),
        }
    }

    /// The processes in the groups, by pid; empty when the groups are gone.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.listed().unwrap_or_default()
    }

    /// Ends every process in the groups, and waits until they are gone. A task without cgroups has none to end.
    ///
    /// The next task of the same allocation gets the same groups: this must be over before the exit is reported.
    ///
    /// # Errors
    /// When one of them is still there after two seconds.
    pub fn kill_all(&self) -> io::Result<()> {
        match &self.kind {
            Kind::None => Ok(()),
            Kind::V1(v1) => v1.kill_all(),
            Kind::V2(v2) => v2.kill_all(),
        }
    }

    /// Removes what `make` has made, where it is empty. What Nomad made is Nomad's. For DestroyTask: Nomad calls it
    /// before it starts the next task of the same allocation, which has the same groups.
    pub fn remove(&self) {
        for directory in self.made.iter().rev() {
            // Busy means that somebody uses it by now, and missing that Nomad was quicker: both are right.
            let _ = fs::remove_dir(directory);
        }
    }

    /// None where there are no groups at all.
    ///
    /// # Errors
    /// When they are gone.
    pub(super) fn members(&self) -> Option<io::Result<Vec<u32>>> {
        match self.kind {
            Kind::None => None,
            Kind::V1(_) | Kind::V2(_) => Some(self.listed()),
        }
    }

    /// Processor time that the groups themselves account for.
    pub(super) fn times(&self) -> Option<Times> {
        match &self.kind {
            Kind::None => None,
            Kind::V1(v1) => v1.times(),
            Kind::V2(v2) => v2.times(),
        }
    }

    pub(super) fn throttled(&self) -> Option<Throttled> {
        match &self.kind {
            Kind::None => None,
            Kind::V1(v1) => v1.throttled(),
            Kind::V2(v2) => v2.throttled(),
        }
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        match &self.kind {
            Kind::None => None,
            Kind::V1(v1) => v1.memory(),
            Kind::V2(v2) => v2.memory(),
        }
    }

    fn listed(&self) -> io::Result<Vec<u32>> {
        match &self.kind {
            Kind::None => Ok(Vec::new()),
            Kind::V1(v1) => v1.processes(),
            Kind::V2(v2) => v2.processes(),
        }
    }
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
