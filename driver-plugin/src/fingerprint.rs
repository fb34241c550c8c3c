//! Whether this host can run a task, and the node attributes for Nomad's scheduler.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nomad_plugin_proto::driver::FingerprintResponse;
use nomad_plugin_proto::driver::fingerprint_response::HealthState;
use nomad_plugin_proto::structs::Attribute;
use rustix::fs::{Access, access};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::resources::CgroupMode;
use crate::roles::THIS_EXECUTABLE;
use crate::safe_open;
use crate::supervisor::state_dir;

/// The prefix of every attribute.
const PREFIX: &str = "driver.pg-leader-proxy.";

/// Nomad's own text for a healthy driver.
const HEALTHY: &str = "Healthy";

/// The state of the host. It is the same for an unchanged host: each change is an update for Nomad's servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// Whether a task can be started.
    pub healthy: bool,
    /// `Healthy`, with remarks for the operator, or every reason why not.
    pub description: String,
    /// Attributes of the node, which jobs may use in constraints.
    pub attributes: HashMap<String, Attribute>,
}

/// The executable file, as it was when this process started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Device and inode.
    file: Option<(u64, u64)>,
    /// By which it is started again.
    executable: PathBuf,
}

impl Program {
    /// The file of this process. It must be called when the process starts.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(std::env::current_exe().unwrap_or_default(), PathBuf::from(THIS_EXECUTABLE))
    }

    fn new(path: PathBuf, executable: PathBuf) -> Self {
        let file = file(&executable);
        Self { path, file, executable }
    }

    /// Tasks are started from the file of this process, which exists even after its path was removed.
    fn executable(&self) -> io::Result<()> {
        Ok(access(&self.executable, Access::EXEC_OK)?)
    }

    fn replaced(&self) -> bool {
        file(&self.path) != self.file
    }
}

/// What was found on the host.
#[derive(Debug)]
struct Facts {
    pidfd: io::Result<()>,
    openat2: io::Result<()>,
    executable: io::Result<()>,
    replaced: bool,
    state_dir: (PathBuf, io::Result<()>),
    cgroups: CgroupMode,
    root: bool,
}

impl Fingerprint {
    /// Examines the host. Creates the supervisors' directory if it is missing. Blocks for moments.
    #[must_use]
    pub fn take(program: &Program, state_dir: &Path) -> Self {
        Self::of(&Facts {
            pidfd: pidfd_open(getpid(), PidfdFlags::empty()).map(drop).map_err(io::Error::from),
            openat2: safe_open::is_supported(),
            executable: program.executable(),
            replaced: program.replaced(),
            state_dir: (state_dir.to_owned(), write(state_dir)),
            cgroups: CgroupMode::of_host(),
            root: rustix::process::geteuid().is_root(),
        })
    }

    fn of(facts: &Facts) -> Self {
        let reasons = facts.reasons();
        let healthy = reasons.is_empty();
        let description =
            if healthy { [vec![HEALTHY.to_owned()], facts.remarks()].concat() } else { reasons };
        let description = description.join("; ");
        Self { healthy, description, attributes: facts.attributes() }
    }
}

impl Facts {
    /// Why tasks cannot be started.
    fn reasons(&self) -> Vec<String> {
        let (state_dir, written) = &self.state_dir;
        let reasons = [
            problem(&self.pidfd, "the kernel has no pidfd_open (Linux 5.3)"),
            problem(&self.openat2, "the kernel has no openat2 (Linux 5.6)"),
            problem(&self.executable, "the executable cannot be started"),
            problem(written, &format!("the state directory {} cannot be used", state_dir.display())),
        ];
        reasons.into_iter().flatten().collect()
    }

    /// What tasks can do without.
    fn remarks(&self) -> Vec<String> {
        let remarks = [
            (self.replaced, "the executable was replaced: restart the agent to use the new one"),
            (!self.root, "not running as root: the user of a task cannot be set"),
            (!self.limits(), "no cgroups: memory and CPU of tasks are not limited"),
        ];
        remarks.iter().filter(|(holds, _)| *holds).map(|(_, remark)| (*remark).to_owned()).collect()
    }

    fn attributes(&self) -> HashMap<String, Attribute> {
        let attributes = [
            ("version", Attribute::from(env!("CARGO_PKG_VERSION").to_owned())),
            ("cgroup", Attribute::from(self.cgroups.to_string())),
            // Limits are enforced, and a kill for lack of memory is reported as such.
            ("limits", Attribute::from(self.limits())),
            // A task runs as the `user` of the job.
            ("user", Attribute::from(self.root)),
            // A task that is replaced hands its listening sockets over to the next one.
            ("handover", Attribute::from(true)),
        ];
        attributes.map(|(name, value)| (format!("{PREFIX}{name}"), value)).into()
    }

    /// Nomad needs root for version 1. A part of version 2 can be delegated to another user.
    fn limits(&self) -> bool {
        match self.cgroups {
            CgroupMode::None => false,
            CgroupMode::V1 => self.root,
            CgroupMode::V2 => true,
        }
    }
}

fn problem(fact: &io::Result<()>, what: &str) -> Option<String> {
    fact.as_ref().err().map(|error| format!("{what}: {error}"))
}

fn file(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
}

/// Writes to a temporary file without a name.
fn write(state_dir: &Path) -> io::Result<()> {
    state_dir::prepare(state_dir)?;
    tempfile::tempfile_in(state_dir)?.write_all(b".")
}

impl From<Fingerprint> for FingerprintResponse {
    fn from(fingerprint: Fingerprint) -> Self {
        let Fingerprint { healthy, description, attributes } = fingerprint;
        let health = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
        Self { attributes, health: health.into(), health_description: description, err: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            pidfd: Ok(()),
            openat2: Ok(()),
            executable: Ok(()),
            replaced: false,
            state_dir: (PathBuf::from("/run/x"), Ok(())),
            cgroups: CgroupMode::V2,
            root: true,
        }
    }

    fn unhealthy(facts: &Facts, reason: &str) {
        let seen = Fingerprint::of(facts);
        assert_eq!((seen.healthy, seen.description.as_str()), (false, reason));
        let response: FingerprintResponse = seen.into();
        assert_eq!(
            (response.health(), response.health_description.as_str()),
            (HealthState::Unhealthy, reason)
        );
    }

    fn remark(facts: &Facts, remark: &str) -> HashMap<String, Attribute> {
        let seen = Fingerprint::of(facts);
        assert_eq!((seen.healthy, seen.description), (true, format!("Healthy; {remark}")));
        seen.attributes
    }

    fn denied() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    #[test]
    fn a_host_that_has_everything_is_healthy() {
        let seen = Fingerprint::of(&facts());
        assert_eq!((seen.healthy, seen.description.as_str()), (true, "Healthy"));
        let text = |text: &str| Attribute::from(text.to_owned());
        let expected = [
            ("cgroup", text("v2")),
            ("handover", Attribute::from(true)),
            ("limits", Attribute::from(true)),
            ("user", Attribute::from(true)),
            ("version", text(env!("CARGO_PKG_VERSION"))),
        ];
        let expected = expected.map(|(name, value)| (format!("driver.pg-leader-proxy.{name}"), value));
        assert_eq!(seen.attributes, expected.into());
        let other = Facts { cgroups: CgroupMode::V1, ..facts() };
        assert_eq!(Fingerprint::of(&other).attributes["driver.pg-leader-proxy.cgroup"], text("v1"));
    }

    #[test]
    fn a_kernel_without_pidfds_is_unhealthy() {
        let old = Facts { pidfd: Err(io::Error::from_raw_os_error(38)), ..facts() };
        unhealthy(&old, "the kernel has no pidfd_open (Linux 5.3): Function not implemented (os error 38)");
    }

    #[test]
    fn an_executable_that_cannot_be_started_is_unhealthy() {
        let gone = Facts { executable: Err(denied()), ..facts() };
        unhealthy(&gone, "the executable cannot be started: permission denied");
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_unhealthy() {
        let full = Facts { state_dir: (PathBuf::from("/run/x"), Err(denied())), ..facts() };
        unhealthy(&full, "the state directory /run/x cannot be used: permission denied");
    }

    #[test]
    fn every_reason_is_given() {
        let state_dir = (PathBuf::from("/run/x"), Err(denied()));
        let seen = Fingerprint::of(&Facts { executable: Err(denied()), state_dir, root: false, ..facts() });
        assert_eq!(seen.description.matches("; ").count(), 1, "{}", seen.description);
    }

    #[test]
    fn what_tasks_can_do_without_is_a_remark() {
        let user = remark(
            &Facts { root: false, ..facts() },
            "not running as root: the user of a task cannot be set",
        );
        assert_eq!(user["driver.pg-leader-proxy.user"], Attribute::from(false));
        let none = Facts { cgroups: CgroupMode::None, ..facts() };
        let none = remark(&none, "no cgroups: memory and CPU of tasks are not limited");
        assert_eq!(none["driver.pg-leader-proxy.cgroup"], Attribute::from("none".to_owned()));
        assert_eq!(none["driver.pg-leader-proxy.limits"], Attribute::from(false));
        let user = Facts { cgroups: CgroupMode::V1, root: false, ..facts() };
        assert_eq!(
            Fingerprint::of(&user).attributes["driver.pg-leader-proxy.limits"],
            Attribute::from(false)
        );
        let replaced = "the executable was replaced: restart the agent to use the new one";
        remark(&Facts { replaced: true, ..facts() }, replaced);
    }

    #[test]
    fn the_state_directory_is_created_and_written() {
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
    fn a_removed_or_replaced_executable_is_noticed_and_can_still_be_started() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("program");
        fs::copy("/bin/true", &path).unwrap();
        // A second name takes the place of /proc/self/exe.
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
