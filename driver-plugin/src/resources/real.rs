//! Real groups of this machine for tests, removed when they are dropped, and processes to put into them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nomad_plugin_proto::driver::LinuxResources;

use super::Cgroups;
use super::mounts::Mounts;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Groups below a parent of their own, as Nomad would give them.
pub(crate) struct Groups {
    pub(crate) cgroups: Cgroups,
    /// The directory's name in each hierarchy, such as `pglp-test-17-0`.
    pub(crate) parent: String,
}

impl Groups {
    /// Of version 1: the real hierarchies of this host, which must have them.
    pub(crate) fn v1() -> Self {
        Self::given(|parent, mounts| {
            let cpuset =
                mounts.controller("cpuset").expect("this test needs the controllers of cgroup version 1");
            cpuset.join(parent).join("reserve/alloc.proxy")
        })
    }

    /// Of version 2; in hybrid mode without controllers.
    pub(crate) fn v2() -> Self {
        Self::given(|parent, mounts| {
            let unified = mounts.unified().expect("this test needs a mount of cgroup version 2");
            unified.join(parent).join("share.slice/alloc.proxy.scope")
        })
    }

    fn given(path: impl FnOnce(&str, &Mounts) -> PathBuf) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test makes real cgroups: run it as root");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = format!("pglp-test-{}-{number}", std::process::id());
        let path = path(&parent, &Mounts::here().unwrap());
        let resources = LinuxResources {
            cpuset_cgroup: path.to_string_lossy().into_owned(),
            ..LinuxResources::default()
        };
        let mut cgroups = Cgroups::of("alloc", "proxy", &resources).unwrap();
        cgroups.make().unwrap();
        Self { cgroups, parent }
    }

    /// A shell that does nothing before it is in the groups, then runs the script.
    pub(crate) fn shell(&self, script: &str) -> Shell {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        for directory in self.directories() {
            fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Shell(child)
    }

    /// The innermost directories, one for each hierarchy.
    fn directories(&self) -> Vec<PathBuf> {
        let json = serde_json::to_value(&self.cgroups).unwrap();
        let made = json["made"].as_array().unwrap().iter();
        let made: Vec<&Path> = made.map(|path| Path::new(path.as_str().unwrap())).collect();
        let inner = |path: &&Path| !made.iter().any(|other| other != path && other.starts_with(path));
        made.iter().filter(|path| inner(path)).map(|path| path.to_path_buf()).collect()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.cgroups.kill_all();
        self.cgroups.remove();
    }
}

/// Killed and waited for when it is dropped.
pub(crate) struct Shell(pub(crate) Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
