//! A watch of the leader key of its own: who held the key when, on this machine's clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{EventType, WatchOptions};
use tokio::sync::watch;

use crate::background::Background;
use crate::cluster::Cluster;
use crate::etcd;

/// Pause before the watch is opened again, at the next etcd server.
const RETRY: Duration = Duration::from_millis(50);
/// How long the first read of the key may take.
const FIRST_READ: Duration = Duration::from_secs(10);

/// One change of the leader key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// When this machine learned of it: some milliseconds after the change, or later if an etcd server had just failed.
    pub at: Instant,
    /// Who holds the key from then on; `None` when it was deleted or has expired.
    pub holder: Option<String>,
    /// etcd's revision at which the key was created, 0 when it is gone. Each leadership has its own.
    pub create_revision: i64,
    /// etcd's revision of this change.
    pub revision: i64,
}

/// Every change of the leader key, oldest first. The first entry is the state when the watch began.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// The changes.
    pub events: Vec<KeyEvent>,
}

impl KeyHistory {
    /// The state of the key at a moment; `None` before the watch began.
    #[must_use]
    pub fn at(&self, moment: Instant) -> Option<&KeyEvent> {
        let later = self.events.partition_point(|event| event.at <= moment);
        self.events.get(later.checked_sub(1)?)
    }

    /// Who held the key at a moment.
    #[must_use]
    pub fn holder_at(&self, moment: Instant) -> Option<&str> {
        self.at(moment)?.holder.as_deref()
    }

    /// The first time after a moment that the key was deleted.
    #[must_use]
    pub fn deleted_after(&self, at: Instant) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.at > at && event.holder.is_none())
    }

    /// The first time after a moment that a member took the key.
    #[must_use]
    pub fn taken_after(&self, at: Instant) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.at > at && event.holder.is_some())
    }
}

/// A running watch. It ends when dropped.
#[derive(Debug)]
pub struct KeyWatch {
    history: watch::Receiver<Arc<Vec<KeyEvent>>>,
    _background: Background,
}

impl KeyWatch {
    /// Starts to watch the key, at the etcd servers themselves, and returns once its state is known.
    ///
    /// # Errors
    /// When no etcd server answers within 10 seconds.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let (sender, history) = watch::channel(Arc::default());
        let background = Background::start("lab-key-watch")?;
        let watcher = Watcher {
            servers: cluster.etcd_direct().to_vec(),
            key: cluster.leader_key(),
            known: 0,
            history: sender,
        };
        background.handle()?.spawn(watcher.run());
        let mut watch = Self { history, _background: background };
        watch.wait_for("the state of the leader key", FIRST_READ, |events| !events.is_empty()).await?;
        Ok(watch)
    }

    /// The changes so far.
    #[must_use]
    pub fn history(&self) -> KeyHistory {
        KeyHistory { events: self.history.borrow().to_vec() }
    }

    /// Waits until a member takes the key at a later `create_revision` than this, and returns that change.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn wait_taken_after(&mut self, create_revision: i64, within: Duration) -> Result<KeyEvent> {
        let wanted = |event: &&KeyEvent| event.holder.is_some() && event.create_revision > create_revision;
        let events = self
            .wait_for("a new holder of the leader key", within, |events| {
                events.iter().any(|event| wanted(&event))
            })
            .await?;
        events.iter().find(wanted).cloned().context("the event is in the history")
    }

    async fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        done: impl Fn(&[KeyEvent]) -> bool,
    ) -> Result<Arc<Vec<KeyEvent>>> {
        match tokio::time::timeout(within, self.history.wait_for(|events| done(events))).await {
            Ok(events) => Ok(events.context("the watch has ended")?.clone()),
            Err(_) => bail!("waited {within:?} for {what}"),
        }
    }
}

struct Watcher {
    servers: Vec<SocketAddr>,
    key: String,
    /// The latest revision that was recorded.
    known: i64,
    history: watch::Sender<Arc<Vec<KeyEvent>>>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            for server in self.servers.clone() {
                // On an error the next server goes on: tests stop servers on purpose.
                let _ = self.watch_at(server).await;
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn watch_at(&mut self, server: SocketAddr) -> Result<()> {
        let mut client = etcd::connect_for_watch(server).await?;
        if self.known == 0 {
            let response = client.get(self.key.as_str(), None).await?;
            self.known = response.header().context("a response without header")?.revision();
            let pair = response.kvs().first();
            self.record(KeyEvent {
                at: Instant::now(),
                holder: pair.map(|pair| String::from_utf8_lossy(pair.value()).into_owned()),
                create_revision: pair.map_or(0, etcd_client::KeyValue::create_revision),
                revision: pair.map_or(self.known, etcd_client::KeyValue::mod_revision),
            });
        }
        let options = WatchOptions::new().with_start_revision(self.known + 1);
        let mut stream = client.watch(self.key.as_str(), Some(options)).await?;
        while let Some(response) = stream.message().await? {
            let at = Instant::now();
            for pair in response.events() {
                let Some(value) = pair.kv() else { continue };
                let put = pair.event_type() == EventType::Put;
                self.known = self.known.max(value.mod_revision());
                self.record(KeyEvent {
                    at,
                    holder: put.then(|| String::from_utf8_lossy(value.value()).into_owned()),
                    create_revision: if put { value.create_revision() } else { 0 },
                    revision: value.mod_revision(),
                });
            }
            if response.canceled() {
                bail!("etcd cancelled the watch");
            }
        }
        Ok(())
    }

    fn record(&self, event: KeyEvent) {
        self.history.send_modify(|events| Arc::make_mut(events).push(event));
    }
}
