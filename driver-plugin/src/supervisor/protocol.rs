//! Every message between the driver's processes. Each is one line of JSON, see [`Channel`](crate::channel::Channel).
//!
//! ```text
//! plugin or another supervisor ── Request, Reply ── supervisor ── ProxyCommand, ProxyReport ── proxy process
//! ```

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use pg_leader_proxy::app::EventRecord;
use serde::{Deserialize, Serialize};

use super::launch::{LaunchSpec, StartError};
use super::record::{TaskExit, TaskRecord};
use crate::signal::Signal;

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
    /// What it was told to start, if it was told.
    pub launch: Option<LaunchSpec>,
    /// Where to find the task, once it listens.
    pub record: Option<TaskRecord>,
    /// How the task exited, if it has.
    pub exit: Option<TaskExit>,
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
