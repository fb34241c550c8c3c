//! Clients that arrive one after the other, all through a failover: each connects anew and writes once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::background::Background;
use crate::cluster::lock;
use crate::load::{Failure, Load};

/// Latecomers that may wait at the same time; further ones are not sent.
const WAITING: usize = 2000;

/// How one of them fared.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it began to connect.
    pub began: Instant,
    /// From then to the acknowledgement or the error.
    pub took: Duration,
    /// The member that acknowledged its write, or why none did and in whose words.
    pub result: Result<Arc<str>, (Failure, String)>,
}

/// Latecomers that keep coming, on a thread of their own.
#[derive(Debug)]
pub struct Latecomers {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _background: Background,
}

impl Latecomers {
    /// Sends one every so often. Of the load, address and timeout count.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(load: Load, every: Duration) -> Result<Self> {
        let background = Background::start("lab-latecomers")?;
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let task = background.handle()?.spawn(send(Arc::new(load), every, Arc::clone(&arrivals), stopped));
        Ok(Self { arrivals, stop, task, _background: background })
    }

    /// Waits until so many in all have come and gone.
    ///
    /// # Errors
    /// When they had not within the time.
    pub async fn wait_for(&self, arrivals: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while lock(&self.arrivals).len() < arrivals {
            anyhow::ensure!(Instant::now() < deadline, "waited {within:?} for {arrivals} latecomers");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Sends no more, waits up to the load's timeout for the ones under way, and gives all in order of their end.
    pub async fn stop(mut self) -> Vec<Arrival> {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
        std::mem::take(&mut *lock(&self.arrivals))
    }
}

async fn send(
    load: Arc<Load>,
    every: Duration,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut visits = JoinSet::new();
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        while visits.try_join_next().is_some() {}
        let room = lock(&arrivals).len() + visits.len() < load.limit;
        if visits.len() < WAITING && room {
            visits.spawn(visit(Arc::clone(&load), Arc::clone(&arrivals)));
        }
    }
    while visits.join_next().await.is_some() {}
}

async fn visit(load: Arc<Load>, arrivals: Arc<Mutex<Vec<Arrival>>>) {
    let began = Instant::now();
    let outcome = load.write(&mut None, load.next_id()).await;
    let result = outcome.map(|server| load.name_of(server));
    lock(&arrivals).push(Arrival { began, took: began.elapsed(), result });
}
