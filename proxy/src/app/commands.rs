//! What the process is asked to do, by signals and by the orders of its holder.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::supervisor_link::SupervisorCommand;

/// What a signal or an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// SIGHUP, or an order: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: stop; a second one does not wait for the sessions.
    Stop,
    /// An order: stop, and wait so long for the sessions.
    Drain(Duration),
    /// The holder is gone: stop at once.
    SupervisorGone,
}

/// One stream for each signal, and the orders if somebody gives any.
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

    /// What is asked for next. Nothing is lost when this is dropped half way.
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
