//! A command as the plugin sees it: started, waited for, or killed with everything that it has started.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::enter::Passage;
use super::{Ending, Entry, ExecError, ROLE};
use crate::supervisor::channel::Channel;

/// What a command reads and writes.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) terminal: bool,
}

/// A command that was started. Dropped before it has ended, it is killed together with its process group.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// Starts it. Our copies of its streams are closed then, so that their ends can be seen.
    pub(super) async fn start(program: &Path, entry: &Entry, streams: Streams) -> Result<Self, ExecError> {
        if entry.command.is_empty() {
            return Err(ExecError::Empty);
        }
        let (running, channel) =
            spawn(program, streams.stdout, streams.stderr).map_err(ExecError::NotStarted)?;
        let passage = Passage { entry: entry.clone(), terminal: streams.terminal };
        channel.send_with(&passage, &[streams.stdin.as_fd()]).await.map_err(|error| {
            let too_large = error.kind() == ErrorKind::InvalidInput;
            if too_large { ExecError::TooLarge(error) } else { ExecError::NotStarted(error) }
        })?;
        Ok(running)
    }

    /// Waits until the command itself has ended; what it left in the background may go on.
    pub(super) async fn ended(&mut self) -> Result<Ending, ExecError> {
        self.0.wait().await.map(Ending::from).map_err(ExecError::Lost)
    }

    fn kill(&mut self) {
        // None once it has been waited for: the number may mean another group by then.
        let Some(pid) = self.0.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else { return };
        // It leads a group of its own from the moment it has begun its session, and is alone before.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.0.start_kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Path, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<(Running, Channel)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = Channel::new(UnixStream::from_std(ours)?);
    let child = Command::new(program)
        .arg(ROLE)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    Ok((Running(child), ours))
}
