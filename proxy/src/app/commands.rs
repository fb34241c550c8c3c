//! Commands to the process, from signals, its supervisor and the control socket.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::supervisor_link::SupervisorCommand;
use crate::control_socket::ReloadRequest;

/// A command to the process.
#[derive(Debug)]
pub(super) enum Command {
    /// SIGHUP, the supervisor, or the control socket, which is answered: read the configuration again.
    Reload(Option<ReloadRequest>),
    /// SIGTERM or SIGINT: drain, then stop. A second one stops at once.
    Stop,
    /// The supervisor: drain for at most this long, then stop.
    Drain(Duration),
    /// The supervisor is gone: stop at once.
    SupervisorGone,
}

/// The sources of commands: signals, the control socket, and the supervisor if there is one.
pub(super) struct Commands {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    commands: Option<mpsc::Receiver<SupervisorCommand>>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

impl Commands {
    pub(super) fn new(
        commands: Option<mpsc::Receiver<SupervisorCommand>>,
        reloads: mpsc::Receiver<ReloadRequest>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            commands,
            reloads,
        })
    }

    /// Waits for the next command. It is cancel safe.
    pub(super) async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.hangup.recv() => Command::Reload(None),
            _ = self.terminate.recv() => Command::Stop,
            _ = self.interrupt.recv() => Command::Stop,
            Some(request) = self.reloads.recv() => Command::Reload(Some(request)),
            command = supervisor_command(&mut self.commands) => command,
        }
    }
}

async fn supervisor_command(commands: &mut Option<mpsc::Receiver<SupervisorCommand>>) -> Command {
    let Some(commands) = commands else { return std::future::pending().await };
    match commands.recv().await {
        Some(SupervisorCommand::Drain(patience)) => Command::Drain(patience),
        Some(SupervisorCommand::Reload) => Command::Reload(None),
        None => Command::SupervisorGone,
    }
}
