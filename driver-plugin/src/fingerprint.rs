//! Whether this host can run a task, and what Nomad's scheduler may know of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nomad_plugin_proto::driver::FingerprintResponse;
use nomad_plugin_proto::driver::fingerprint_response::HealthState;
use nomad_plugin_proto::structs::Attribute;
use rustix::fs::{Access, access};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::resources::{Mounts, Version};

/// What every attribute begins with; Nomad itself adds the name without a point for a driver that is there.
const PREFIX: &str = "driver.pg-leader-proxy.";

/// What Nomad itself says of a driver that is well.
const HEALTHY: &str = "Healthy";

/// The file by which this process can be started again, whatever has become of its path.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// One look at the host. Two looks at an unchanged host are equal: each change costs Nomad's servers an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Whether a task can be started.
    pub healthy: bool,
    /// `Healthy`, with what an operator should know nevertheless, or every reason why not.
    pub description: String,
    /// What constraints of jobs may ask for.
    pub attributes: BTreeMap<String, Value>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// It is so or not.
    Bool(bool),
    /// Text.
    Text(String),
}

/// The program's file, as it was when this process started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Device and inode.
    file: Option<(u64, u64)>,
    /// How it is started again.
    executable: PathBuf,
}

impl Program {
    /// The file of this process. To be asked for at its start.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(std::env::current_exe().unwrap_or_default(), PathBuf::from(THIS_PROGRAM))
    }

    fn new(path: PathBuf, executable: PathBuf) -> Self {
        let file = file(&executable);
        Self { path, file, executable }
    }

    /// Tasks are started from the file that this process runs, which is there even without a name.
    fn executable(&self) -> io::Result<()> {
        Ok(access(&self.executable, Access::EXEC_OK)?)
    }

    fn replaced(&self) -> bool {
        file(&self.path) != self.file
    }
}

/// What was found, to be judged.
#[derive(Debug)]
struct Facts {
    processes: io::Result<()>,
    executable: io::Result<()>,
    replaced: bool,
    state_dir: (PathBuf, io::Result<()>),
    mounts: io::Result<Mounts>,
    root: bool,
}

impl Fingerprint {
    /// Looks at the host. The directory of the supervisors is made if it is missing. Blocks for moments.
    #[must_use]
    pub fn take(program: &Program, state_dir: &Path) -> Self {
        Self::of(&Facts {
            processes: pidfd_open(getpid(), PidfdFlags::empty()).map(drop).map_err(io::Error::from),
            executable: program.executable(),
            replaced: program.replaced(),
            state_dir: (state_dir.to_owned(), write(state_dir)),
            mounts: Mounts::here(),
            root: rustix::process::geteuid().is_root(),
        })
    }

    fn of(facts: &Facts) -> Self {
        let reasons = facts.reasons();
        let said = if reasons.is_empty() { facts.remarks() } else { reasons.clone() };
        let healthy = reasons.is_empty();
        let first = healthy.then(|| HEALTHY.to_owned());
        let description = first.into_iter().chain(said).collect::<Vec<_>>().join("; ");
        Self { healthy, description, attributes: facts.attributes() }
    }
}

impl Facts {
    /// Why no task can be started.
    fn reasons(&self) -> Vec<String> {
        let (state_dir, written) = &self.state_dir;
        let read_only = self.mounts.as_ref().ok().and_then(Mounts::read_only);
        let reasons = [
            said(&self.processes, "the kernel has no descriptors of processes (Linux 5.3)"),
            said(&self.executable, "the program cannot be executed any more"),
            said(written, &format!("the state directory {} cannot be written", state_dir.display())),
            said(&self.mounts, "/proc cannot be read"),
            read_only.map(|path| format!("the cgroup hierarchy {} is mounted read-only", path.display())),
        ];
        reasons.into_iter().flatten().collect()
    }

    /// What a task can do without.
    fn remarks(&self) -> Vec<String> {
        let remarks = [
            (
                self.replaced,
                "the program's file was replaced: it takes a restart of the agent to run the new one",
            ),
            (!self.root, "not root: a task's user cannot be set"),
            (!self.limits(), "no cgroups: memory and processor of a task are not limited"),
        ];
        remarks.iter().filter(|(holds, _)| *holds).map(|(_, remark)| (*remark).to_owned()).collect()
    }

    fn attributes(&self) -> BTreeMap<String, Value> {
        let version = self.version();
        let attributes = [
            ("version", Value::Text(env!("CARGO_PKG_VERSION").to_owned())),
            ("cgroup", Value::Text(version.to_string())),
            // Limits are enforced, and a task that the kernel ends for want of memory is told from others.
            ("limits", Value::Bool(self.limits())),
            // A task's `user` is honoured.
            ("user", Value::Bool(self.root)),
            // A task that is replaced by its next version hands its listening sockets over.
            ("handover", Value::Bool(true)),
        ];
        attributes.map(|(name, value)| (format!("{PREFIX}{name}"), value)).into()
    }

    /// Of version 1 Nomad makes groups only as root; of version 2 somebody else may have given it a part of them.
    fn limits(&self) -> bool {
        match self.version() {
            Version::None => false,
            Version::V1 => self.root,
            Version::V2 => true,
        }
    }

    fn version(&self) -> Version {
        self.mounts.as_ref().map_or(Version::None, Mounts::version)
    }
}

fn said<T>(fact: &io::Result<T>, what: &str) -> Option<String> {
    fact.as_ref().err().map(|error| format!("{what}: {error}"))
}

fn file(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
}

/// Writes a file that has no name and is gone at once.
fn write(state_dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    tempfile::tempfile_in(state_dir)?.write_all(b".")
}

impl From<Fingerprint> for FingerprintResponse {
    fn from(fingerprint: Fingerprint) -> Self {
        let Fingerprint { healthy, description, attributes } = fingerprint;
        let health = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
        let attributes: HashMap<String, Attribute> =
            attributes.into_iter().map(|(name, value)| (name, value.into())).collect();
        Self { attributes, health: health.into(), health_description: description, err: String::new() }
    }
}

impl From<Value> for Attribute {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(value) => value.into(),
            Value::Text(text) => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "29 26 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const SEPARATE: &str = "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n";

    fn facts() -> Facts {
        Facts {
            processes: Ok(()),
            executable: Ok(()),
            replaced: false,
            state_dir: (PathBuf::from("/run/x"), Ok(())),
            mounts: Ok(Mounts::parse(UNIFIED)),
            root: true,
        }
    }

    fn unhealthy(facts: &Facts, reason: &str) {
        let seen = Fingerprint::of(facts);
        assert_eq!((seen.healthy, seen.description.as_str()), (false, reason));
        assert_eq!(seen.attributes, Fingerprint::of(facts).attributes, "it stays the same");
        let response: FingerprintResponse = seen.into();
        assert_eq!(
            (response.health(), response.health_description.as_str()),
            (HealthState::Unhealthy, reason)
        );
    }

    fn remark(facts: &Facts, remark: &str) -> BTreeMap<String, Value> {
        let seen = Fingerprint::of(facts);
        assert_eq!((seen.healthy, seen.description), (true, format!("Healthy; {remark}")));
        seen.attributes
    }

    fn denied() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    #[test]
    fn a_host_that_has_everything_is_healthy_and_says_what_it_has() {
        let seen = Fingerprint::of(&facts());
        assert_eq!((seen.healthy, seen.description.as_str()), (true, "Healthy"));
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = [
            ("cgroup", text("v2")),
            ("handover", Value::Bool(true)),
            ("limits", Value::Bool(true)),
            ("user", Value::Bool(true)),
            ("version", text(env!("CARGO_PKG_VERSION"))),
        ];
        let expected = expected.map(|(name, value)| (format!("driver.pg-leader-proxy.{name}"), value));
        assert_eq!(seen.attributes, expected.into());
        let other = Facts { mounts: Ok(Mounts::parse(SEPARATE)), ..facts() };
        assert_eq!(Fingerprint::of(&other).attributes["driver.pg-leader-proxy.cgroup"], text("v1"));
    }

    #[test]
    fn a_kernel_without_descriptors_of_processes_is_unhealthy() {
        let old = Facts { processes: Err(io::Error::from_raw_os_error(38)), ..facts() };
        let reason =
            "the kernel has no descriptors of processes (Linux 5.3): Function not implemented (os error 38)";
        unhealthy(&old, reason);
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_unhealthy() {
        let gone = Facts { executable: Err(denied()), ..facts() };
        unhealthy(&gone, "the program cannot be executed any more: permission denied");
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_unhealthy() {
        let full = Facts { state_dir: (PathBuf::from("/run/x"), Err(denied())), ..facts() };
        unhealthy(&full, "the state directory /run/x cannot be written: permission denied");
    }

    #[test]
    fn cgroups_that_cannot_be_used_are_unhealthy() {
        let mounts = Mounts::parse(&UNIFIED.replace("rw,nosuid", "ro,nosuid"));
        let read_only = Facts { mounts: Ok(mounts), ..facts() };
        unhealthy(&read_only, "the cgroup hierarchy /sys/fs/cgroup is mounted read-only");
        unhealthy(&Facts { mounts: Err(denied()), ..facts() }, "/proc cannot be read: permission denied");
    }

    #[test]
    fn every_reason_is_given() {
        let state_dir = (PathBuf::from("/run/x"), Err(denied()));
        let seen = Fingerprint::of(&Facts { executable: Err(denied()), state_dir, root: false, ..facts() });
        assert_eq!(seen.description.matches("; ").count(), 1, "{}", seen.description);
    }

    #[test]
    fn what_a_task_can_do_without_is_a_remark() {
        let user = remark(&Facts { root: false, ..facts() }, "not root: a task's user cannot be set");
        assert_eq!(user["driver.pg-leader-proxy.user"], Value::Bool(false));
        let none = Facts { mounts: Ok(Mounts::default()), ..facts() };
        let none = remark(&none, "no cgroups: memory and processor of a task are not limited");
        assert_eq!(none["driver.pg-leader-proxy.cgroup"], Value::Text("none".to_owned()));
        assert_eq!(none["driver.pg-leader-proxy.limits"], Value::Bool(false));
        let user = Facts { mounts: Ok(Mounts::parse(SEPARATE)), root: false, ..facts() };
        assert_eq!(Fingerprint::of(&user).attributes["driver.pg-leader-proxy.limits"], Value::Bool(false));
        let replaced = "the program's file was replaced: it takes a restart of the agent to run the new one";
        remark(&Facts { replaced: true, ..facts() }, replaced);
    }

    #[test]
    fn a_state_directory_is_made_and_really_written() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("a/b");
        write(&state_dir).unwrap();
        assert_eq!(fs::metadata(&state_dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 0);
        fs::write(root.path().join("file"), "").unwrap();
        assert!(write(&root.path().join("file")).is_err());
        assert!(write(Path::new("/proc/nobody-can-write-here")).is_err());
    }

    #[test]
    fn a_program_that_is_moved_aside_or_replaced_is_noticed_and_can_still_be_started() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("program");
        fs::copy("/bin/true", &path).unwrap();
        // A second name stands for /proc/self/exe, which needs none.
        let kept = root.path().join("kept");
        fs::hard_link(&path, &kept).unwrap();
        let program = Program::new(path.clone(), kept);
        assert!(!program.replaced());
        fs::remove_file(&path).unwrap();
        assert!(program.replaced() && program.executable().is_ok());
        fs::write(&path, "another").unwrap();
        assert!(program.replaced());
    }

    #[test]
    fn this_host_can_run_a_task() {
        let state_dir = tempfile::tempdir().unwrap();
        let program = Program::of_this_process();
        let seen = Fingerprint::take(&program, state_dir.path());
        assert!(seen.healthy, "{}", seen.description);
        assert_eq!(seen, Fingerprint::take(&program, state_dir.path()));
    }
}
