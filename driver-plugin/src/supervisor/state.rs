//! What a supervisor knows and keeps; the conversations and the life of its relay meet here.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::channel::Channel;
use super::launch::Launch;
use super::news::Board;
use super::protocol::{Description, Order};
use super::record::{Exit, Record};
use super::sockets::Shelf;
use crate::signal::Signal;

/// How much longer than it was given a relay may take to end before it is killed: it has to write its last words.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);
/// How many orders may wait for the relay to read them.
const ORDERS: usize = 16;

/// How far the task has come.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// Nothing runs yet.
    Starting,
    /// The relay is up.
    Running(Record),
    /// The relay has ended, and how is on disk.
    Ended(Record, Exit),
    /// The relay never came up.
    NotStarted,
}

/// What the conversations see of the task.
#[derive(Debug)]
pub(super) struct State {
    /// The supervisor's own directory.
    pub(super) directory: PathBuf,
    /// What was to be started, as soon as that was said.
    pub(super) launch: OnceLock<Launch>,
    /// How far it has come.
    pub(super) life: watch::Sender<Life>,
    /// The news that wait for a plugin.
    pub(super) board: watch::Sender<Board>,
    /// The listening sockets.
    pub(super) shelf: watch::Sender<Shelf>,
    /// Whether the relay has been told to accept nobody any more.
    draining: AtomicBool,
    /// Whether nothing is to be left behind.
    pub(super) forgotten: watch::Sender<bool>,
    /// To whoever starts the relay; there is one launch only.
    launches: mpsc::Sender<Channel>,
    /// To the relay.
    orders: mpsc::Sender<Order>,
}

/// What the one who starts the relay and is with it gets from the conversations.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Who asked for the launch.
    pub(super) launches: mpsc::Receiver<Channel>,
    /// Orders for the relay.
    pub(super) orders: mpsc::Receiver<Order>,
}

impl State {
    pub(super) fn new(directory: PathBuf) -> (Self, Inbox) {
        let (launches, launches_in) = mpsc::channel(1);
        let (orders, orders_in) = mpsc::channel(ORDERS);
        let state = Self {
            directory,
            launch: OnceLock::new(),
            life: watch::Sender::new(Life::Starting),
            board: watch::Sender::default(),
            shelf: watch::Sender::default(),
            draining: AtomicBool::new(false),
            forgotten: watch::Sender::new(false),
            launches,
            orders,
        };
        (state, Inbox { launches: launches_in, orders: orders_in })
    }

    /// Hands a launch over to be started; `asker` waits for the outcome. Gives `asker` back if there was one already.
    pub(super) fn launch(&self, launch: Launch, asker: Channel) -> Result<(), Channel> {
        if self.launch.set(launch).is_err() {
            return Err(asker);
        }
        self.launches.try_send(asker).map_err(mpsc::error::TrySendError::into_inner)
    }

    pub(super) fn description(&self) -> Description {
        let (record, exit) = match &*self.life.borrow() {
            Life::Starting | Life::NotStarted => (None, None),
            Life::Running(record) => (Some(record.clone()), None),
            Life::Ended(record, exit) => (Some(record.clone()), Some(exit.clone())),
        };
        Description { launch: self.launch.get().cloned(), record, exit }
    }

    /// How the relay ended, when it has; `None` when it never came up.
    pub(super) async fn ended(&self) -> Option<Exit> {
        let mut life = self.life.subscribe();
        let over = life.wait_for(|life| matches!(life, Life::Ended(..) | Life::NotStarted)).await;
        match over.as_deref() {
            Ok(Life::Ended(_, exit)) => Some(exit.clone()),
            _ => None,
        }
    }

    /// Whether there is, or will be, a relay that accepts clients. One that drains does not: its sockets may go to the
    /// next task at once, where Nomad does not wait for the end of this one.
    pub(super) fn accepts(&self) -> bool {
        let lives = matches!(&*self.life.borrow(), Life::Starting | Life::Running(_));
        lives && !self.draining.load(Ordering::Relaxed)
    }

    /// Ends the relay, and waits until it has. A start that is under way is given up.
    pub(super) async fn stop(&self, patience: Duration, signal: Option<Signal>) -> Option<Exit> {
        if matches!(&*self.life.borrow(), Life::Starting) {
            self.forgotten.send_replace(true);
        }
        if patience.is_zero() {
            self.kill();
            return self.ended().await;
        }
        match signal {
            Some(signal) if signal != Signal::TERM && signal != Signal::INT => {
                // If it cannot be sent, the time runs out below.
                let _ = self.signal(signal);
            }
            _ => {
                self.draining.store(true, Ordering::Relaxed);
                self.order(Order::Drain(patience));
            }
        }
        if timeout(patience.saturating_add(STOP_GRACE), self.ended()).await.is_err() {
            self.kill();
        }
        self.ended().await
    }

    /// Sends the relay a signal.
    ///
    /// # Errors
    /// When none runs, or it cannot be sent.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let Life::Running(record) = &*self.life.borrow() else { return Err("no relay runs".to_owned()) };
        if signal == Signal::HUP {
            // It has no other meaning there, and an order cannot come before the relay listens to signals.
            self.order(Order::Reload);
            return Ok(());
        }
        record.relay.signal(signal.raw()).map_err(|error| error.to_string())
    }

    /// Ends the relay without further words. One that has ended already cannot be killed.
    pub(super) fn kill(&self) {
        let _ = self.signal(Signal::KILL);
    }

    /// A relay that does not read so many orders does not obey one more either: it is killed when its time is over.
    fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }
}
