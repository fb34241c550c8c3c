//! A program that ends when we do: on drop, on panic, and also when this process is killed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::Scratch;
use crate::wait::wait_for;

/// A running program, its directory and its log.
///
/// A shell stands between us and the program and reads a pipe that only we hold open. When the pipe closes, for whatever
/// reason, it ends the program and removes its directory, so tearing down and being killed are the same path.
#[derive(Debug)]
pub struct Leashed {
    name: &'static str,
    shell: Child,
    directory: Scratch,
}

impl Leashed {
    /// Starts `argv`, to be ended by `signal` (a name without `SIG`). Its output goes to `log` in `directory`.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub fn start(
        name: &'static str,
        directory: Scratch,
        signal: &str,
        argv: &[String],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let shell = Command::new("bash")
            .args(["-c", include_str!("leash.sh"), "leash"])
            .arg(directory.path())
            .arg(signal)
            .args(argv)
            .envs(env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C for the test run must reach the program through the leash, not beside it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name, shell, directory })
    }

    /// The directory it works in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The program's process id.
    ///
    /// # Errors
    /// When the shell has not written it down.
    pub fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.directory.join("pid")).context("read the process id")?;
        text.trim().parse().with_context(|| format!("{text:?} as a process id"))
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// When that takes longer than `bound` or the program ended; the log is in the error.
    pub fn wait_until(&mut self, bound: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let shell = &mut self.shell;
        let name = self.name;
        let outcome = wait_for(name, bound, || {
            if let Some(status) = shell.try_wait()? {
                bail!("{name} ended: {status}");
            }
            Ok(ready()?.then_some(()))
        });
        outcome.with_context(|| format!("{name} is not ready; its log:\n{}", self.log()))
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let shell = &mut self.shell;
        let ended = wait_for(self.name, TEARDOWN, || Ok(shell.try_wait()?));
        if ended.is_err() {
            if let Some(group) = i32::try_from(shell.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = shell.wait();
        }
    }
}

/// PostgreSQL itself kills what did not end five seconds after an immediate shutdown was asked for.
const TEARDOWN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn start(script: &str) -> Leashed {
        let argv = ["bash", "-c", script].map(str::to_owned);
        Leashed::start("a program", Scratch::new("leash").unwrap(), "TERM", &argv, &[("WORD", "heard")])
            .unwrap()
    }

    #[test]
    fn dropping_ends_the_program_and_removes_its_files() {
        let program = start("echo $WORD; exec sleep 600");
        wait_for("the program's word", TEARDOWN, || {
            Ok((program.log().contains("heard") && program.pid().is_ok()).then_some(()))
        })
        .unwrap();
        let process = PathBuf::from(format!("/proc/{}", program.pid().unwrap()));
        let directory = program.directory().to_owned();
        assert!(process.exists() && directory.exists());
        drop(program);
        assert!(!process.exists() && !directory.exists());
    }

    #[test]
    fn a_program_that_ended_by_itself_is_told_with_its_log() {
        let mut program = start("echo went wrong; exit 3");
        let error = program.wait_until(TEARDOWN, || Ok(false)).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 3") && text.contains("went wrong"), "{text}");
    }
}
