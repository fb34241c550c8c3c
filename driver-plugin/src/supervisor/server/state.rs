//! What the supervisor knows of its task, shared by the requests and the lifecycle.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use pg_leader_proxy::cli::Exit;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::event_queue::EventQueue;
use super::socket_store::SocketStore;
use crate::channel::Channel;
use crate::process_id::ProcessId;
use crate::signal::Signal;
use crate::supervisor::deadlines;
use crate::supervisor::launch::LaunchSpec;
use crate::supervisor::protocol::{self, Description, ProxyCommand};
use crate::supervisor::record::{TaskExit, TaskRecord};

/// How many commands may wait until the proxy process reads them.
const COMMANDS_MAX: usize = 16;

/// The phases of a task, in order.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing listens yet.
    Starting,
    /// The proxy process listens.
    Running(TaskRecord),
    /// The proxy process has exited, and its exit is recorded.
    Exited(TaskRecord, TaskExit),
    /// The start failed or was cancelled.
    StartFailed,
}

impl Phase {
    /// Whether no phase follows.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Exited(..) | Self::StartFailed)
    }
}

/// The state of a supervisor and of its task.
#[derive(Debug)]
pub(super) struct State {
    /// The supervisor's own directory.
    pub(super) directory: PathBuf,
    /// What to start, once it was received.
    pub(super) launch: OnceLock<LaunchSpec>,
    /// The phase of the task.
    pub(super) phase: watch::Sender<Phase>,
    /// The events that no plugin has delivered yet.
    pub(super) events: watch::Sender<EventQueue>,
    /// The listening sockets.
    pub(super) sockets: watch::Sender<SocketStore>,
    /// Set by a start that failed or was cancelled, and by `Destroy`: the directory is removed at the end.
    pub(super) discarded: watch::Sender<bool>,
    /// The proxy process that runs, or ran last.
    pub(super) proxy: watch::Sender<Option<ProcessId>>,
    /// Whether the task is to end. A proxy process that exits is not started again then.
    pub(super) ending: watch::Sender<bool>,
    /// The signal that the plugin had sent last, or 0.
    signalled: AtomicI32,
    /// Whether the proxy was told to accept no more clients.
    draining: AtomicBool,
    /// The connection that asked for the start; there is one at most.
    starts: mpsc::Sender<Channel>,
    /// To the proxy process.
    commands: mpsc::Sender<ProxyCommand>,
}

/// What the lifecycle receives from the requests.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The connection that asked for the start.
    pub(super) starts: mpsc::Receiver<Channel>,
    /// Commands for the proxy process.
    pub(super) commands: mpsc::Receiver<ProxyCommand>,
}

impl State {
    pub(super) fn new(directory: PathBuf) -> (Self, Inbox) {
        let (starts, starts_in) = mpsc::channel(1);
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let state = Self {
            directory,
            launch: OnceLock::new(),
            phase: watch::Sender::new(Phase::Starting),
            events: watch::Sender::default(),
            sockets: watch::Sender::default(),
            discarded: watch::Sender::new(false),
            proxy: watch::Sender::default(),
            ending: watch::Sender::new(false),
            signalled: AtomicI32::new(0),
            draining: AtomicBool::new(false),
            starts,
            commands,
        };
        (state, Inbox { starts: starts_in, commands: commands_in })
    }

    /// Hands a start and the connection that asked for it to the lifecycle. Returns the connection if there was a start
    /// already.
    pub(super) fn start(&self, launch: LaunchSpec, client: Channel) -> Result<(), Channel> {
        if self.launch.set(launch).is_err() {
            return Err(client);
        }
        self.starts.try_send(client).map_err(mpsc::error::TrySendError::into_inner)
    }

    pub(super) fn description(&self) -> Description {
        let (record, exit) = match &*self.phase.borrow() {
            Phase::Starting | Phase::StartFailed => (None, None),
            Phase::Running(record) => (Some(record.clone()), None),
            Phase::Exited(record, exit) => (Some(record.clone()), Some(exit.clone())),
        };
        Description {
            version: protocol::VERSION,
            proxy: self.proxy.borrow().clone(),
            launch: self.launch.get().cloned(),
            record,
            exit,
            accepting: self.accepts_clients(),
            listening: self.sockets.borrow().addresses(),
        }
    }

    /// Returns how the task exited, once it has; `None` when it never started.
    pub(super) async fn exited(&self) -> Option<TaskExit> {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(Phase::is_over).await.as_deref() {
            Ok(Phase::Exited(_, exit)) => Some(exit.clone()),
            _ => None,
        }
    }

    /// Whether a proxy process accepts clients, or will. While it drains it does not: the next task may take its
    /// sockets at once, because Nomad need not wait for the exit of the old one.
    pub(super) fn accepts_clients(&self) -> bool {
        !self.phase.borrow().is_over() && !self.draining.load(Ordering::Relaxed)
    }

    /// Ends the task, and returns when it has exited. A start that is under way is cancelled.
    pub(super) async fn stop(&self, kill_timeout: Duration, signal: Option<Signal>) -> Option<TaskExit> {
        self.ending.send_replace(true);
        if matches!(&*self.phase.borrow(), Phase::Starting) {
            self.discarded.send_replace(true);
        }
        if kill_timeout.is_zero() {
            self.kill();
            return self.exited().await;
        }
        match signal {
            Some(signal) if signal != Signal::TERM && signal != Signal::INT => {
                // If it cannot be sent, the process is killed below.
                let _ = self.signal(signal);
            }
            _ => {
                self.draining.store(true, Ordering::Relaxed);
                self.command(ProxyCommand::Drain(kill_timeout));
            }
        }
        if timeout(kill_timeout.saturating_add(deadlines::STOP_GRACE), self.exited()).await.is_err() {
            self.kill();
        }
        self.exited().await
    }

    /// Sends the proxy process a signal.
    ///
    /// # Errors
    /// When there is none, or the signal cannot be sent.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let not_running = || "the task is not running".to_owned();
        let proxy = self.proxy.borrow().clone().ok_or_else(not_running)?;
        if !matches!(&*self.phase.borrow(), Phase::Running(_)) {
            return Err(not_running());
        }
        if signal == Signal::HUP {
            // The command has the same effect, and cannot arrive before the proxy handles signals.
            self.command(ProxyCommand::Reload);
            return Ok(());
        }
        self.signalled.store(signal.number(), Ordering::Relaxed);
        proxy.signal(signal).map_err(|error| error.to_string())
    }

    /// Whether the proxy process exited in this way although nobody told it to, and another one may do better.
    pub(super) fn has_crashed(&self, exit: &TaskExit) -> bool {
        let told_to = exit.signal == self.signalled.load(Ordering::Relaxed);
        let by_signal = exit.signal != 0 && !told_to;
        let misconfigured = exit.code == i32::from(Exit::Configuration.code());
        let by_itself = exit.signal == 0 && exit.code != 0 && !misconfigured;
        !*self.ending.borrow() && (by_signal || by_itself)
    }

    /// Kills the proxy process if it runs.
    pub(super) fn kill(&self) {
        self.ending.send_replace(true);
        let _ = self.signal(Signal::KILL);
    }

    /// Queues a command. A proxy process that leaves the queue full obeys none of them, and is killed at the end of
    /// its kill timeout.
    fn command(&self, command: ProxyCommand) {
        let _ = self.commands.try_send(command);
    }
}
