//! The link to a supervisor: inherited sockets, commands, events, and the notice that the process is ready.

use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::service_manager::ServiceManager;
use crate::events::EventRecord;

/// The link to a supervisor, such as that of a Nomad task. The default is a process without one.
#[derive(Debug, Default)]
pub struct SupervisorLink {
    /// Listening sockets that the supervisor keeps open too. The process accepts from each of them, and leaves their
    /// backlogs to its successor. Each must have the address of a route; other addresses are bound.
    pub listeners: Vec<TcpListener>,
    /// Commands of the supervisor. When the sender is dropped, the supervisor is gone and the process stops at once,
    /// because nothing else could stop it. `None` without a supervisor: then only signals control the process.
    pub commands: Option<mpsc::Receiver<SupervisorCommand>>,
    /// Where events go. The proxy never waits for the receiver: when too many wait, the oldest are dropped with a warning.
    pub events: Option<mpsc::Sender<EventRecord>>,
    /// Notified once every address listens; dropped if that fails.
    pub ready: Option<oneshot::Sender<()>>,
    /// systemd, if it runs the process as a service.
    pub service_manager: ServiceManager,
}

/// A command of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorCommand {
    /// Stop accepting clients, wait at most this long for the sessions, terminate the rest, and exit. With several such
    /// commands, the one that ends first counts.
    Drain(Duration),
    /// Read the configuration again, as on SIGHUP.
    Reload,
}
