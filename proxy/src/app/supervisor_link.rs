//! The ties of the process to whoever holds it: sockets that were kept for it, orders, news, and the word that it is up.

use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::events::EventRecord;

/// What ties the process to its holder. The default is a process that stands alone.
#[derive(Debug, Default)]
pub struct SupervisorLink {
    /// Listening sockets that the holder keeps as well: the process accepts from each of them, and leaves what waits
    /// in their backlogs to its successor. Each must have the address of a route. Addresses without any are bound.
    pub listeners: Vec<TcpListener>,
    /// What the holder orders. When its sender is dropped the holder is gone, and the process ends at once: nobody
    /// could stop it any more. `None` when there is no holder, and only signals say what to do.
    pub commands: Option<mpsc::Receiver<SupervisorCommand>>,
    /// Where news go. Nobody waits for a reader: what does not fit is dropped, the oldest first, with a warning.
    pub events: Option<mpsc::Sender<EventRecord>>,
    /// Told once every address listens; dropped without a word if that fails.
    pub ready: Option<oneshot::Sender<()>>,
}

/// What a holder orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorCommand {
    /// Accept nobody any more, let the sessions go on for so long, sever what is left, and end. Of several, the one
    /// that ends soonest holds.
    Drain(Duration),
    /// Read the configuration again, as on SIGHUP.
    Reload,
}
