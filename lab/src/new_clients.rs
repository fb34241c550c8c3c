//! Clients that keep arriving, also during a failover: each connects, writes once and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::background::Background;
use crate::load::{Failure, Load};

/// New clients that may wait at the same time. While so many wait, no more are started.
const MAX_WAITING: usize = 2000;

/// The outcome of one new client.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// When it began to connect.
    pub began: Instant,
    /// From then to the acknowledgement or the error.
    pub took: Duration,
    /// The member that acknowledged its write, or the failure and its error message.
    pub result: Result<Arc<str>, (Failure, String)>,
}

/// A steady stream of new clients, on a thread of its own.
#[derive(Debug)]
pub struct NewClients {
    outcomes: Arc<Mutex<Vec<NewClient>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _background: Background,
}

impl NewClients {
    /// Starts one client per interval. Of the load, only address, timeout and limit are used.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(load: Load, every: Duration) -> Result<Self> {
        let background = Background::start("lab-new-clients")?;
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let clients = run(Arc::new(load), every, Arc::clone(&outcomes), stopped);
        let task = background.handle()?.spawn(clients);
        Ok(Self { outcomes, stop, task, _background: background })
    }

    /// Waits until this many in all are done.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn wait_for(&self, clients: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while self.outcomes.lock().len() < clients {
            ensure!(Instant::now() < deadline, "waited {within:?} for {clients} new clients");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts no more, waits up to the load's timeout for those under way, and returns all in the order of their end.
    pub async fn stop(mut self) -> Vec<NewClient> {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
        std::mem::take(&mut self.outcomes.lock())
    }
}

async fn run(
    load: Arc<Load>,
    every: Duration,
    outcomes: Arc<Mutex<Vec<NewClient>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        while clients.try_join_next().is_some() {}
        let below_limit = outcomes.lock().len() + clients.len() < load.limit;
        if clients.len() < MAX_WAITING && below_limit {
            clients.spawn(connect_and_write(Arc::clone(&load), Arc::clone(&outcomes)));
        }
    }
    while clients.join_next().await.is_some() {}
}

async fn connect_and_write(load: Arc<Load>, outcomes: Arc<Mutex<Vec<NewClient>>>) {
    let began = Instant::now();
    let outcome = load.write(&mut None, load.next_id()).await;
    let result = outcome.map(|server| load.name_of(server));
    outcomes.lock().push(NewClient { began, took: began.elapsed(), result });
}
