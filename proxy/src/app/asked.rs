//! What the process is asked to do, by signals and by the orders of its holder.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::ties::Order;

/// What a signal or an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGHUP, or an order: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: stop; a second one does not wait for the sessions.
    Stop,
    /// An order: stop, and wait so long for the sessions.
    Drain(Duration),
    /// The holder is gone: stop at once.
    Abandon,
}

/// One stream for each signal, and the orders if somebody gives any.
pub(super) struct Asking {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    orders: Option<mpsc::Receiver<Order>>,
}

impl Asking {
    pub(super) fn new(orders: Option<mpsc::Receiver<Order>>) -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            orders,
        })
    }

    /// What is asked for next. Nothing is lost when this is dropped half way.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            asked = ordered(&mut self.orders) => asked,
        }
    }
}

async fn ordered(orders: &mut Option<mpsc::Receiver<Order>>) -> Asked {
    let Some(orders) = orders else { return std::future::pending().await };
    match orders.recv().await {
        Some(Order::Drain(patience)) => Asked::Drain(patience),
        Some(Order::Reload) => Asked::Reload,
        None => Asked::Abandon,
    }
}
