//! Every message between the driver's processes. Each is one line of JSON, see [`Channel`](crate::channel::Channel).
//!
//! ```text
//! plugin or another supervisor ── Request, Reply ── supervisor ── ProxyCommand, ProxyReport ── proxy process
//! ```
//!
//! A supervisor lives as long as its task, so after an upgrade or a roll-back of the driver it is of another version than
//! the plugin and its neighbours. Therefore messages only grow: a field that is added has a default, a field or variant
//! is never removed or given another meaning, and a request that a supervisor does not know is answered by `Failed`.
//! [`VERSION`] counts the changes. `Start`, [`ProxyCommand`] and [`ProxyReport`] are exempt: their two ends are the same
//! executable.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use pg_leader_proxy::app::EventRecord;
use serde::{Deserialize, Serialize};

use super::launch::{LaunchSpec, StartError};
use super::record::{TaskExit, TaskRecord};
use crate::process_id::ProcessId;
use crate::signal::Signal;

/// The version of the messages.
///
/// 1. The first. Its messages do not name a version.
/// 2. `Release`; `Description` has version, current process and listening addresses; `LaunchSpec` has the job and the
///    account.
pub const VERSION: u16 = 2;

/// How many sockets one message carries; more take several messages.
pub const SOCKETS_PER_MESSAGE: usize = 64;

/// A request to a supervisor. A connection carries one request and the messages that belong to it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start this task. Answered by `Started` or `StartFailed`. Unless `Ack` follows `Started`, the task is ended
    /// again.
    Start(Box<LaunchSpec>),
    /// Confirms the started task, or the sockets, that were just received.
    Ack,
    /// Answered by `Description`.
    Describe,
    /// Answered by `Exited` once the task has exited.
    Wait,
    /// End the task. Answered by `Exited` once it has exited.
    Stop {
        /// How long it may take.
        kill_timeout: Duration,
        /// The signal to send. Without one, or for SIGTERM and SIGINT, the proxy drains.
        signal: Option<Signal>,
    },
    /// Send the proxy process this signal. Answered by `Done` or `Failed`.
    Signal(Signal),
    /// Send the events. Answered by `Event` for each, as they come, and by `Exited` after the last.
    Events,
    /// The events up to this number were delivered and can be dropped. No reply.
    Delivered(u64),
    /// Hand over the listening sockets of these addresses, if the task has exited or drains. Answered by `Sockets`, the
    /// last of which is empty, and confirmed by `Ack`.
    TakeSockets(Vec<SocketAddr>),
    /// Close the sockets that are kept for these addresses and for those that overlap with them: a task of another job
    /// is about to listen there. Answered by `Done`, or by `Failed` while the task accepts clients.
    Release(Vec<SocketAddr>),
    /// Kill the task if it runs, and remove the directory when the supervisor ends. Answered by `Done`.
    Destroy,
}

/// A supervisor's reply.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The task listens.
    Started(TaskRecord),
    /// The task did not start.
    StartFailed(StartError),
    /// What the supervisor runs.
    Description(Box<Description>),
    /// The task has exited.
    Exited(TaskExit),
    /// An event of the task.
    Event(QueuedEvent),
    /// One descriptor comes with it for each address, of a socket that listens there.
    Sockets(Vec<SocketAddr>),
    /// The request was carried out.
    Done,
    /// The request could not be carried out.
    Failed(String),
}

/// What a supervisor runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// The version of the supervisor's messages.
    #[serde(default = "first_version")]
    pub version: u16,
    /// What it was told to start, if it was told.
    pub launch: Option<LaunchSpec>,
    /// Where to find the task, once it listens.
    pub record: Option<TaskRecord>,
    /// How the task exited, if it has.
    pub exit: Option<TaskExit>,
    /// The proxy process that runs, or ran last. The record has the first one.
    #[serde(default)]
    pub proxy: Option<ProcessId>,
    /// Whether the task accepts clients, or will.
    #[serde(default)]
    pub accepting: bool,
    /// The addresses of the listening sockets that the supervisor has.
    #[serde(default)]
    pub listening: Vec<SocketAddr>,
}

const fn first_version() -> u16 {
    1
}

/// An event of the proxy that no plugin has delivered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// Counts the events of the task, from 1.
    pub number: u64,
    /// When the supervisor received it.
    pub at: SystemTime,
    /// The event.
    pub event: EventRecord,
}

/// A supervisor's command to its proxy process.
#[derive(Debug, Serialize, Deserialize)]
pub enum ProxyCommand {
    /// The first message: become what this says, then run the proxy.
    Run(Box<LaunchSpec>),
    /// One descriptor comes with it for each address, of a socket that listens there. An empty list is the last.
    Sockets(Vec<SocketAddr>),
    /// Accept no more clients, terminate the sessions that are left after this time, and exit.
    Drain(Duration),
    /// Read the configuration again.
    Reload,
}

/// A proxy process's report to its supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum ProxyReport {
    /// It needs sockets that listen on these addresses. Answered by `ProxyCommand::Sockets`.
    Listen(Vec<SocketAddr>),
    /// It listens.
    Ready,
    /// It cannot start, and exits.
    Failed(StartError),
    /// Something an operator should know.
    Event(EventRecord),
}
