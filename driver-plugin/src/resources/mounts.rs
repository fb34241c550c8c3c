//! Where the cgroup hierarchies are mounted, and which version of them Nomad uses here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::files;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Every mount of a cgroup hierarchy that this process sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

/// Which interface of the kernel limits tasks on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No hierarchy is mounted.
    None,
    /// One hierarchy per controller; also in hybrid mode, where a second version is mounted that has no controllers.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) hierarchy: Hierarchy,
    writable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    Unified,
    Controllers(Vec<String>),
}

impl Mounts {
    /// The mounts of this process.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn here() -> io::Result<Self> {
        Ok(Self::parse(&files::read(Path::new(MOUNTINFO))?))
    }

    /// Reads the text of /proc/self/mountinfo, proc(5). Lines of another form are skipped.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        Self(mountinfo.lines().filter_map(mount).collect())
    }

    /// The version that limits tasks.
    #[must_use]
    pub fn version(&self) -> Version {
        let limits = ["freezer", "memory", "cpu"];
        if limits.iter().any(|name| self.controller(name).is_some()) {
            Version::V1
        } else if self.0.iter().any(|mount| mount.hierarchy == Hierarchy::Unified) {
            Version::V2
        } else {
            Version::None
        }
    }

    /// The first hierarchy in use that is mounted read-only: no task can be put into it.
    #[must_use]
    pub fn read_only(&self) -> Option<&Path> {
        let version = self.version();
        let mut used = self.0.iter().filter(|mount| match &mount.hierarchy {
            Hierarchy::Unified => version == Version::V2,
            Hierarchy::Controllers(names) => names.iter().any(|name| USED.contains(&name.as_str())),
        });
        used.find(|mount| !mount.writable).map(|mount| mount.point.as_path())
    }

    /// Where a controller of version 1 is mounted, alone or together with others.
    pub(super) fn controller(&self, name: &str) -> Option<&Path> {
        let mut found = self.0.iter().filter(|mount| match &mount.hierarchy {
            Hierarchy::Unified => false,
            Hierarchy::Controllers(names) => names.iter().any(|mounted| mounted == name),
        });
        found.next().map(|mount| mount.point.as_path())
    }

    #[cfg(test)]
    pub(super) fn unified(&self) -> Option<&Path> {
        let mut found = self.0.iter().filter(|mount| mount.hierarchy == Hierarchy::Unified);
        found.next().map(|mount| mount.point.as_path())
    }

    /// The hierarchy that a path lies in.
    pub(super) fn holding(&self, path: &Path) -> Option<&Mount> {
        let holding = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        holding.max_by_key(|mount| mount.point.components().count())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The controllers that limit a task, and the one that stops its processes.
const USED: [&str; 4] = ["freezer", "memory", "cpu", "cpuset"];

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let (point, options) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, _source, of_hierarchy) = (after.next()?, after.next()?, after.next()?);
    let hierarchy = match kind {
        "cgroup2" => Hierarchy::Unified,
        "cgroup" => Hierarchy::Controllers(of_hierarchy.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    let writable = [options, of_hierarchy].iter().all(|options| !options.split(',').any(|word| word == "ro"));
    Some(Mount { point: PathBuf::from(unescape(point)), hierarchy, writable })
}

/// A blank, a tab, a line end and a backslash are octal numbers in mountinfo.
fn unescape(path: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::resources) const UNIFIED: &str = "\
24 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
26 25 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 26 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    pub(in crate::resources) const SEPARATE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    pub(in crate::resources) const TOGETHER: &str = "\
25 18 0:20 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755
26 25 0:21 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
28 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
29 25 0:24 / /sys/fs/cgroup/freezer rw,nosuid shared:11 - cgroup cgroup rw,freezer
30 25 0:25 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory
31 25 0:26 / /sys/fs/cgroup/cpuset rw,nosuid shared:13 - cgroup cgroup rw,cpuset
";

    #[test]
    fn each_layout_is_known_for_what_it_is() {
        assert_eq!(Mounts::parse(UNIFIED).version(), Version::V2);
        assert_eq!(Mounts::parse(SEPARATE).version(), Version::V1);
        assert_eq!(Mounts::parse(TOGETHER).version(), Version::V1);
        let without = "24 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n";
        assert_eq!(Mounts::parse(without).version(), Version::None);
    }

    #[test]
    fn a_controller_is_found_alone_and_in_company() {
        let point = |text, name| Mounts::parse(text).controller(name).map(Path::to_owned);
        assert_eq!(point(SEPARATE, "cpuacct"), Some("/sys/fs/cgroup/cpuacct".into()));
        assert_eq!(point(TOGETHER, "cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(point(UNIFIED, "cpu"), None);
    }

    #[test]
    fn the_innermost_mount_holds_a_path() {
        let mounts =
            Mounts::parse(&format!("29 26 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n{SEPARATE}"));
        let held = |path| mounts.holding(Path::new(path)).map(|mount| mount.point.clone());
        assert_eq!(held("/sys/fs/cgroup/cpuset/nomad/share"), Some("/sys/fs/cgroup/cpuset".into()));
        assert_eq!(held("/sys/fs/cgroup/other"), Some("/sys/fs/cgroup".into()));
        assert_eq!(held("/var/lib"), None);
    }

    #[test]
    fn a_read_only_hierarchy_is_named_if_it_is_one_of_those_in_use() {
        assert_eq!(Mounts::parse(TOGETHER).read_only(), None);
        let frozen = TOGETHER.replace("memory rw,nosuid", "memory ro,nosuid");
        assert_eq!(Mounts::parse(&frozen).read_only(), Some(Path::new("/sys/fs/cgroup/memory")));
        let systemd = TOGETHER.replace("systemd rw,nosuid", "systemd ro,nosuid");
        assert_eq!(Mounts::parse(&systemd).read_only(), None);
        let container = UNIFIED.replace("cgroup rw,nosuid", "cgroup ro,nosuid");
        assert_eq!(Mounts::parse(&container).read_only(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_blank_in_a_mount_point_is_a_blank() {
        let mounts = Mounts::parse("29 26 0:26 / /a\\040b rw - cgroup2 cgroup2 rw\n");
        assert!(mounts.holding(Path::new("/a b/c")).is_some());
    }

    #[test]
    fn this_machine_can_be_read() {
        assert!(Mounts::here().is_ok());
    }
}
