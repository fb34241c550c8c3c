//! Clients that write all the time and record which member acknowledged what, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::background::Background;
use crate::history::{Acknowledged, Failed, History};
use crate::load::Load;

/// Running writers, on a thread of their own. Dropping them stops them.
#[derive(Debug)]
pub struct Writers {
    history: Arc<Mutex<History>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _background: Background,
}

impl Writers {
    /// Starts `load.writers` tasks. They retry after every error until they are stopped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(load: Load) -> Result<Self> {
        let background = Background::start("lab-writers")?;
        let history = Arc::new(Mutex::new(History::begin(Instant::now())));
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(load);
        let handle = background.handle()?;
        let tasks = (0..load.writers)
            .map(|_| {
                handle.spawn(write_until_stopped(Arc::clone(&load), Arc::clone(&history), stopped.clone()))
            })
            .collect();
        Ok(Self { history, stop, tasks, _background: background })
    }

    /// The number of writes acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.history.lock().acknowledged.len()
    }

    /// A copy of the history so far; the writers go on.
    #[must_use]
    pub fn snapshot(&self) -> History {
        let mut history = self.history.lock().clone();
        history.end = Instant::now();
        history
    }

    /// Waits until this many more writes are acknowledged.
    ///
    /// # Errors
    /// When that takes longer than `within`; the error names the failures.
    pub async fn wait_for_more(&self, writes: usize, within: Duration) -> Result<()> {
        let wanted = self.acknowledged() + writes;
        let deadline = Instant::now() + within;
        while self.acknowledged() < wanted {
            ensure!(
                Instant::now() < deadline,
                "waited {within:?} for {writes} more acknowledged writes; failures so far: {:?}",
                self.snapshot().errors_by_kind()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops all writers at once and returns the history. An attempt in progress is given up and not recorded, but the
    /// time it waited counts as downtime, because the history ends now.
    pub async fn stop(mut self) -> History {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.snapshot()
    }
}

async fn write_until_stopped(load: Arc<Load>, history: Arc<Mutex<History>>, mut stop: watch::Receiver<bool>) {
    let mut session = None;
    loop {
        let id = load.next_id();
        let sent = Instant::now();
        let outcome = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            outcome = load.write(&mut session, id) => outcome,
        };
        let ended = Instant::now();
        let (pause, full) = {
            let mut history = history.lock();
            let pause = match outcome {
                Ok(server) => {
                    let member = load.name_of(server);
                    history.acknowledged.push(Acknowledged { id, sent, acknowledged: ended, member });
                    load.pause
                }
                Err((failure, message)) => {
                    history.messages.entry(failure.clone()).or_insert(message);
                    history.failed.push(Failed { id, sent, ended, failure });
                    load.pause_after_error
                }
            };
            history.full |= history.acknowledged.len().max(history.failed.len()) >= load.limit;
            (pause, history.full)
        };
        if full {
            return;
        }
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
    }
}
