//! Commands to the process, from signals and from its supervisor.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::supervisor_link::SupervisorCommand;

/// A command from a signal or from the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// SIGHUP or the supervisor: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: drain, then stop. A second one stops at once.
    Stop,
    /// The supervisor: drain for at most this long, then stop.
    Drain(Duration),
    /// The supervisor is gone: stop at once.
    SupervisorGone,
}

/// The sources of commands: signals, and the supervisor if there is one.
pub(super) struct Commands {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    commands: Option<mpsc::Receiver<SupervisorCommand>>,
}

impl Commands {
    pub(super) fn new(commands: Option<mpsc::Receiver<SupervisorCommand>>) -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            commands,
        })
    }

    /// Waits for the next command. It is cancel safe.
    pub(super) async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.hangup.recv() => Command::Reload,
            _ = self.terminate.recv() => Command::Stop,
            _ = self.interrupt.recv() => Command::Stop,
            command = supervisor_command(&mut self.commands) => command,
        }
    }
}

async fn supervisor_command(commands: &mut Option<mpsc::Receiver<SupervisorCommand>>) -> Command {
    let Some(commands) = commands else { return std::future::pending().await };
    match commands.recv().await {
        Some(SupervisorCommand::Drain(patience)) => Command::Drain(patience),
        Some(SupervisorCommand::Reload) => Command::Reload,
        None => Command::SupervisorGone,
    }
}
