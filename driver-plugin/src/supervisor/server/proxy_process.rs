//! The proxy process, as its supervisor handles it: spawn, set-up, commands and reports, exit.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::log_files::LogFiles;
use super::state::State;
use super::{neighbours, socket_store};
use crate::channel::Channel;
use crate::process_id::ProcessId;
use crate::resources::Cgroups;
use crate::signal::Signal;
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError};
use crate::supervisor::protocol::{ProxyCommand, ProxyReport};
use crate::supervisor::record::{TaskExit, TaskRecord};
use crate::{about, clock, roles};

/// The variables of the task's environment that libraries of the proxy read. The others are sent to the process, as
/// settings: it is root when it starts, and the environment comes from the job.
const LIBRARY_VARIABLES: [&str; 5] =
    ["LOCALDOMAIN", "RES_OPTIONS", "RUST_BACKTRACE", "SSL_CERT_DIR", "SSL_CERT_FILE"];

/// The proxy process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct ProxyProcess {
    child: Child,
    id: ProcessId,
    channel: Channel,
    cgroups: Cgroups,
    oom_kills_before: u64,
}

impl ProxyProcess {
    /// Starts the process.
    ///
    /// # Errors
    /// When no process can be created.
    pub(super) fn spawn(launch: &LaunchSpec, state: &State, logs: &LogFiles) -> Result<Self, StartError> {
        let oom_kills_before = launch.cgroups.oom_kills();
        let (child, channel) = logs
            .duplicate()
            .and_then(|logs| spawn(launch, logs))
            .map_err(|error| StartError::Transient(format!("cannot start the proxy process: {error}")))?;
        // The child was not waited for, so its pid is valid.
        let id = ProcessId::of_child(child.id().unwrap_or_default()).map_err(|error| not_ready(&error))?;
        state.proxy.send_replace(Some(id.clone()));
        let cgroups = launch.cgroups.clone();
        Ok(Self { child, id, channel, cgroups, oom_kills_before })
    }

    /// Sends the process its configuration and its sockets, and waits until it listens.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn make_ready(
        &mut self,
        launch: &LaunchSpec,
        state: &State,
    ) -> Result<TaskRecord, StartError> {
        match self.set_up(launch, state).await {
            Ok(Ok(())) => Ok(TaskRecord {
                supervisor: ProcessId::of_this_process().map_err(|error| not_ready(&error))?,
                proxy: self.id.clone(),
                directory: state.directory.clone(),
                cgroups: self.cgroups.clone(),
                started_at: clock::now(),
            }),
            Ok(Err(error)) => Err(error),
            // Usually the connection breaks because the process has exited, and its exit says more.
            Err(error) => match timeout(deadlines::LAST_REPORTS, self.child.wait()).await {
                Ok(Ok(status)) => {
                    Err(StartError::Transient(format!("the proxy exited before it was ready: {status}")))
                }
                Ok(Err(error)) => Err(not_ready(&error)),
                Err(_) => Err(not_ready(&error)),
            },
        }
    }

    /// The outer error is one of the connection, the inner one is reported by the process.
    async fn set_up(&mut self, launch: &LaunchSpec, state: &State) -> io::Result<Result<(), StartError>> {
        self.channel.send(&ProxyCommand::Run(Box::new(launch.clone()))).await?;
        loop {
            match self.channel.receive().await? {
                Some(ProxyReport::Listen(addresses)) => {
                    if let Err(error) = neighbours::acquire(state, launch, &addresses).await {
                        return Ok(Err(error));
                    }
                    socket_store::send_duplicates(&state.sockets, &addresses, &self.channel).await?;
                }
                Some(ProxyReport::Failed(error)) => return Ok(Err(error)),
                Some(ProxyReport::Event(event)) => state.events.send_modify(|events| events.push(event)),
                Some(ProxyReport::Ready) => return Ok(Ok(())),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Passes on commands and events until the process has exited, and returns how.
    pub(super) async fn run(
        mut self,
        state: &State,
        commands: &mut mpsc::Receiver<ProxyCommand>,
    ) -> TaskExit {
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                report = self.channel.receive(), if open => open = handle_report(report, state),
                Some(command) = commands.recv() => {
                    // A process that does not read its commands is killed at the end of its kill timeout.
                    let _ = self.channel.send(&command).await;
                }
            }
        };
        // Its last reports may still be unread.
        while open {
            let report = timeout(deadlines::LAST_REPORTS, self.channel.receive()).await;
            open = report.is_ok_and(|report| handle_report(report, state));
        }
        let oom_kill = self.cgroups.oom_kills() > self.oom_kills_before;
        match status {
            Ok(status) => {
                let exit = TaskExit::of(status, false);
                TaskExit { oom_killed: oom_kill && exit.signal == Signal::KILL.number(), ..exit }
            }
            Err(error) => TaskExit::unknown(format!("cannot wait for the proxy process: {error}")),
        }
    }

    /// Waits for the exit of a process that reported a failure, and kills one that does not exit.
    pub(super) async fn terminate(mut self) {
        if timeout(deadlines::LAST_REPORTS, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Handles a report of a task that has started. Returns whether more can follow.
fn handle_report(report: io::Result<Option<ProxyReport>>, state: &State) -> bool {
    match report {
        Ok(Some(ProxyReport::Event(event))) => {
            state.events.send_modify(|events| events.push(event));
            true
        }
        // These belong to the start.
        Ok(Some(ProxyReport::Ready | ProxyReport::Listen(_) | ProxyReport::Failed(_))) => true,
        Ok(None) | Err(_) => false,
    }
}

fn spawn(launch: &LaunchSpec, logs: LogFiles) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let own = |name| launch.environment.get(name).map(|value| (name, value));
    let child = Command::new(roles::THIS_EXECUTABLE)
        .arg0(about::PROGRAM)
        .arg(roles::PROXY)
        .env_clear()
        .envs(LIBRARY_VARIABLES.into_iter().filter_map(own))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(logs.stdout)
        .stderr(logs.stderr)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, Channel::new(UnixStream::from_std(ours)?)))
}

fn not_ready(error: &io::Error) -> StartError {
    StartError::Transient(format!("the proxy did not become ready: {error}"))
}
