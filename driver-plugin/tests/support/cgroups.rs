//! Cgroups of a task, created as Nomad's client does, in the real hierarchies of this machine.
//!
//! Version 1 needs the usual controllers below `/sys/fs/cgroup`. Version 2 is either the whole of `/sys/fs/cgroup`,
//! or the part without controllers that a hybrid host mounts at `unified`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_plugin_proto::driver::LinuxResources;

const ROOT: &str = "/sys/fs/cgroup";

/// Removed when they are dropped.
pub(crate) struct TaskCgroups {
    pub(crate) cgroups: Cgroups,
    /// The directory's name in each hierarchy.
    pub(crate) parent: String,
    /// The innermost directories.
    pub(crate) groups: Vec<PathBuf>,
}

impl TaskCgroups {
    /// Version 1, with cores of its own.
    pub(crate) fn v1() -> Self {
        let parent = new_parent();
        let cpuset = Path::new(ROOT).join("cpuset");
        let mut groups: Vec<PathBuf> = ["freezer", "memory", "cpu"]
            .map(|controller| Path::new(ROOT).join(controller).join(&parent).join("alloc.proxy"))
            .to_vec();
        for group in &groups {
            fs::create_dir_all(group).unwrap();
        }
        let mut group = cpuset;
        for name in [&parent, "reserve", "alloc.proxy"] {
            let outer = group.clone();
            group.push(name);
            fs::create_dir(&group).unwrap();
            // A new cpuset has no cores and no memory nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(outer.join(file)).unwrap()).unwrap();
            }
        }
        groups.push(group);
        Self::of(parent, groups)
    }

    /// Version 2.
    pub(crate) fn v2() -> Self {
        let parent = new_parent();
        let hybrid = Path::new(ROOT).join("unified");
        let root = if hybrid.exists() { hybrid } else { PathBuf::from(ROOT) };
        let scope = root.join(&parent).join("share.slice/alloc.proxy.scope");
        fs::create_dir_all(&scope).unwrap();
        Self::of(parent, vec![scope])
    }

    fn of(parent: String, groups: Vec<PathBuf>) -> Self {
        let cpuset_cgroup = groups.last().unwrap().to_string_lossy().into_owned();
        let resources = LinuxResources { cpuset_cgroup, ..LinuxResources::default() };
        let cgroups = Cgroups::of("alloc", "proxy", &resources).unwrap();
        Self { cgroups, parent, groups }
    }

    /// The directory of a controller of version 1.
    pub(crate) fn of_controller(&self, name: &str) -> &Path {
        self.groups.iter().find(|group| group.starts_with(Path::new(ROOT).join(name))).unwrap()
    }

    /// A shell that runs the script once it is in the cgroups.
    pub(crate) fn shell(&self, script: &str) -> Shell {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for group in &self.groups {
            fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Shell(child)
    }
}

impl Drop for TaskCgroups {
    fn drop(&mut self) {
        let _ = self.cgroups.kill_all();
        for group in &self.groups {
            let ours = group.ancestors().take_while(|path| path.to_string_lossy().contains(&self.parent));
            for directory in ours {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

/// Killed and reaped when it is dropped.
pub(crate) struct Shell(pub(crate) Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn new_parent() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(rustix::process::geteuid().is_root(), "this test creates cgroups and needs root");
    format!("pglp-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
