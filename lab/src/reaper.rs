//! A directory, and a small process that outlives this one to end what was started in it and to remove it.
//!
//! A panic, Ctrl-C or SIGKILL of a test must leave nothing running. The reaper is a shell that reads a pipe whose other
//! end only this process holds: the kernel closes the pipe however this process ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;

use crate::user::User;
use crate::wait::retry;

/// How long `Drop` waits for the reaper; after that the reaper goes on alone.
const CLEANUP: Duration = Duration::from_secs(10);
const SCRIPT: &str = include_str!("reaper.sh");

/// Owns a directory. Dropping it ends every process in it and removes it, unless the environment has `LAB_KEEP=1`.
#[derive(Debug)]
pub struct Reaper {
    directory: PathBuf,
    shell: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
}

impl Reaper {
    /// Makes a directory that belongs to `user` and starts the reaper as that user: only a process of the same user may
    /// see in which directory another one runs.
    ///
    /// # Errors
    /// When the directory cannot be made, or there is no shell.
    pub fn start(user: &User) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("pglp-lab-").tempdir().context("making a directory")?.keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .context("making the directory readable")?;
        user.take_ownership(&directory)?;
        let keep = std::env::var_os("LAB_KEEP").is_some_and(|value| value == "1");
        let mut shell = user
            .command(Path::new("/bin/sh"))
            .args(["-c", SCRIPT, "lab-reaper"])
            .arg(&directory)
            .arg(if keep { "keep" } else { "remove" })
            // Its own group: Ctrl-C on the terminal goes to the whole foreground group, and must not end it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the reaper (/bin/sh)")?;
        let pipe = Arc::new(Mutex::new(shell.stdin.take()));
        Ok(Self { directory, shell, pipe })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the reaper end this process too, wherever it runs, until the watch is dropped.
    pub(crate) fn watch(&self, pid: u32) -> Result<Watch> {
        let watch = Watch { pid, pipe: Arc::clone(&self.pipe) };
        watch.send("watch")?;
        Ok(watch)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.pipe.lock().take());
        let _ = retry("the reaper", CLEANUP, || {
            ensure!(self.shell.try_wait()?.is_some(), "it still runs");
            Ok(())
        });
    }
}

/// A process that the reaper ends. Dropped when the process has ended, because its id may then be reused.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: u32,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
}

impl Watch {
    fn send(&self, verb: &str) -> Result<()> {
        let mut pipe = self.pipe.lock();
        let pipe = pipe.as_mut().context("the reaper has been told to end")?;
        writeln!(pipe, "{verb} {}", self.pid).context("writing to the reaper")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.send("forget");
    }
}
