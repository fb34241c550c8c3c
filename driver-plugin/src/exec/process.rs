//! A command as the plugin handles it: started, waited for, or killed with its session.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::output::OutputReader;
use super::session::Session;
use super::shim::ExecRequest;
use super::{ExecError, ExecSpec};
use crate::channel::Channel;
use crate::roles;

/// The command's ends of its standard streams.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) terminal: bool,
}

/// A command that was started. Dropping it before it has exited kills its session. With a terminal, dropping it after the
/// exit does so, too: jobs of an interactive shell would have nobody left to control them.
#[derive(Debug)]
pub(super) struct RunningCommand {
    child: Child,
    session: Session,
    terminal: bool,
    exited: watch::Sender<bool>,
}

impl RunningCommand {
    /// Starts a command. The plugin's copies of its streams are closed, so that their ends can be noticed.
    pub(super) async fn start(program: &Path, spec: &ExecSpec, streams: Streams) -> Result<Self, ExecError> {
        if spec.command.is_empty() {
            return Err(ExecError::Empty);
        }
        let (command, channel) = spawn(program, streams.stdout, streams.stderr, streams.terminal)
            .map_err(ExecError::NotStarted)?;
        let request = ExecRequest { spec: spec.clone(), terminal: streams.terminal };
        channel.send_with(&request, &[streams.stdin.as_fd()]).await.map_err(|error| {
            let too_large = error.kind() == ErrorKind::InvalidInput;
            if too_large { ExecError::TooLarge(error) } else { ExecError::NotStarted(error) }
        })?;
        Ok(command)
    }

    /// A reader for one of its outputs.
    pub(super) fn output(&self, source: pipe::Receiver) -> OutputReader {
        OutputReader::new(source, self.exited.subscribe())
    }

    /// Waits until the command itself has exited. Processes that it left in the background may go on.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, ExecError> {
        let status = self.child.wait().await.map_err(ExecError::Lost);
        self.exited.send_replace(true);
        status
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        // There is no pid once the child was waited for: the number may mean another process group by then.
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // At once, whatever becomes of this process. The shim has no children before it leads its own process group.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.start_kill();
        }
        if (pid.is_some() || self.terminal)
            && let Ok(runtime) = Handle::try_current()
        {
            // It looks at all processes of the machine.
            let session = self.session.clone();
            runtime.spawn_blocking(move || session.kill());
        }
    }
}

fn spawn(
    program: &Path,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
) -> io::Result<(RunningCommand, Channel)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = Channel::new(UnixStream::from_std(ours)?);
    let child = Command::new(program)
        .arg(roles::EXEC_SHIM)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    // The child was not waited for, so its pid is valid.
    let session = Session::of_child(child.id().unwrap_or_default())?;
    Ok((RunningCommand { child, session, terminal, exited: watch::Sender::new(false) }, ours))
}
