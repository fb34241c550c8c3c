//! The lab's directory, and a small process that outlives the lab to end what it started and remove it.
//!
//! A panic, Ctrl-C or SIGKILL of a test must leave nothing running. The reaper is a shell that waits for the end of a
//! pipe whose writing end only this process holds: the kernel closes it however the process ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{User, wait_for_end};

/// How long `Drop` waits for the reaper to sweep; it goes on alone after that.
const SWEEP: Duration = Duration::from_secs(10);
const SCRIPT: &str = include_str!("reaper.sh");

/// Holds a directory and the reaper over it. Dropping it ends every process in it and, unless `LAB_KEEP=1`, removes it.
#[derive(Debug)]
pub struct Reaper {
    directory: PathBuf,
    shell: Child,
}

impl Reaper {
    /// Makes the directory, owned by `user`, and starts the reaper as that user: only a process of the same user may
    /// see where another one runs.
    ///
    /// # Errors
    /// When the directory cannot be made or given to that user, or there is no shell.
    pub fn start(user: &User) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("pglp-lab-")
            .tempdir()
            .context("making the lab's directory")?
            .keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .context("opening the lab's directory for reading")?;
        if let User::Other { uid, gid, .. } = user {
            chown(&directory, Some(*uid), Some(*gid)).context("giving the lab's directory away")?;
        }
        let keep = std::env::var_os("LAB_KEEP").is_some_and(|value| value == "1");
        let mut command = user.command(Path::new("/bin/sh"));
        command.args(["-c", SCRIPT, "lab-reaper"]).arg(&directory).arg(if keep { "keep" } else { "remove" });
        let shell = group_of_its_own(&mut command)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the reaper (/bin/sh)")?;
        Ok(Self { directory, shell })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Also ends this process, which does not run in the directory.
    pub(crate) fn watch(&mut self, pid: u32) -> Result<()> {
        self.say("watch", pid)
    }

    /// The process has ended and its number may be another's soon.
    pub(crate) fn forget(&mut self, pid: u32) -> Result<()> {
        self.say("forget", pid)
    }

    fn say(&mut self, verb: &str, pid: u32) -> Result<()> {
        let pipe = self.shell.stdin.as_mut().context("the reaper's pipe is closed")?;
        writeln!(pipe, "{verb} {pid}").context("writing to the reaper")
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = wait_for_end(&mut self.shell, SWEEP);
    }
}

/// So that Ctrl-C on the terminal, which goes to the whole foreground group, does not reach it.
fn group_of_its_own(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}
