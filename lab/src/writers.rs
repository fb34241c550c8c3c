//! Clients that write all the time, and remember what was acknowledged when and by whom.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::background::Background;
use crate::cluster::lock;
use crate::history::{Acknowledged, Failed, History};
use crate::load::Load;

/// Writers at work on a thread of their own. Dropping them stops them without a history.
#[derive(Debug)]
pub struct Writers {
    record: Arc<Mutex<History>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _background: Background,
}

impl Writers {
    /// Starts `load.writers` tasks. They try again at once after an error, for ever.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(load: Load) -> Result<Self> {
        let background = Background::start("lab-writers")?;
        let record = Arc::new(Mutex::new(History::begin(Instant::now())));
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(load);
        let handle = background.handle()?;
        let tasks = (0..load.writers)
            .map(|_| handle.spawn(write_on(Arc::clone(&load), Arc::clone(&record), stopped.clone())))
            .collect();
        Ok(Self { record, stop, tasks, _background: background })
    }

    /// Acknowledged writes until now.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        lock(&self.record).acknowledged.len()
    }

    /// A copy of what happened until now, while they go on.
    #[must_use]
    pub fn so_far(&self) -> History {
        let mut history = lock(&self.record).clone();
        history.end = Instant::now();
        history
    }

    /// Waits until this many more writes were acknowledged: the way through works.
    ///
    /// # Errors
    /// When they were not within the time; the error names the failures.
    pub async fn wait_for_more(&self, writes: usize, within: Duration) -> Result<()> {
        let wanted = self.acknowledged() + writes;
        let deadline = Instant::now() + within;
        while self.acknowledged() < wanted {
            anyhow::ensure!(
                Instant::now() < deadline,
                "waited {within:?} for {writes} more acknowledged writes; failures so far: {:?}",
                self.so_far().errors_by_kind()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops all writers at once and gives what happened. A try under way is given up and counted nowhere, but the gap
    /// it waits in is: the history ends now.
    pub async fn stop(mut self) -> History {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.so_far()
    }
}

async fn write_on(load: Arc<Load>, record: Arc<Mutex<History>>, mut stop: watch::Receiver<bool>) {
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
            let mut history = lock(&record);
            let pause = match outcome {
                Ok(server) => {
                    let member = load.name_of(server);
                    history.acknowledged.push(Acknowledged { id, sent, acknowledged: ended, member });
                    load.pause
                }
                Err((failure, text)) => {
                    history.words.entry(failure.clone()).or_insert(text);
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
