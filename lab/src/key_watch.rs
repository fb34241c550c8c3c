//! The lab's own watch of the leader key: who held it when, on the clock of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{EventType, WatchOptions};
use tokio::sync::watch;

use crate::background::Background;
use crate::cluster::Cluster;
use crate::etcd;

/// Pause before the watch is set up anew at the next etcd server.
const RETRY: Duration = Duration::from_millis(50);
/// How long the first reading of the key may take.
const FIRST: Duration = Duration::from_secs(10);

/// One change of the leader key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// When this machine learnt of it: some milliseconds after etcd, later if etcd itself had just failed.
    pub at: Instant,
    /// Who holds the key from then on; `None` when it was deleted or has expired.
    pub holder: Option<String>,
    /// etcd's revision at which the key was created (0 when it is gone): one number for each leadership.
    pub create_revision: i64,
    /// etcd's revision of this change.
    pub revision: i64,
}

/// Every change of the leader key that was seen, oldest first. The first entry is the state when watching began.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// The changes.
    pub events: Vec<KeyEvent>,
}

impl KeyHistory {
    /// Who held the key at a moment.
    #[must_use]
    pub fn holder_at(&self, at: Instant) -> Option<&str> {
        self.events.iter().take_while(|event| event.at <= at).last()?.holder.as_deref()
    }

    /// The first change after a moment by which the key was deleted.
    #[must_use]
    pub fn deleted_after(&self, at: Instant) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.at > at && event.holder.is_none())
    }

    /// The first change after a moment by which somebody took the key.
    #[must_use]
    pub fn taken_after(&self, at: Instant) -> Option<&KeyEvent> {
        self.events.iter().find(|event| event.at > at && event.holder.is_some())
    }
}

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct KeyWatch {
    history: watch::Receiver<Arc<Vec<KeyEvent>>>,
    _background: Background,
}

impl KeyWatch {
    /// Begins to watch, directly at the etcd servers, and returns once the present state is known.
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
        watch.wait_for("the leader key's state", FIRST, |events| !events.is_empty()).await?;
        Ok(watch)
    }

    /// What was seen until now.
    #[must_use]
    pub fn history(&self) -> KeyHistory {
        KeyHistory { events: self.history.borrow().to_vec() }
    }

    /// Waits until somebody takes the key in a leadership that began after the given event's, and gives that change.
    ///
    /// # Errors
    /// When nobody has within the time.
    pub async fn wait_taken_after(&mut self, revision: i64, within: Duration) -> Result<KeyEvent> {
        let what = "a new holder of the leader key";
        let wanted = |event: &&KeyEvent| event.holder.is_some() && event.create_revision > revision;
        let events = self.wait_for(what, within, |events| events.iter().any(|event| wanted(&event))).await?;
        events.iter().find(wanted).cloned().context("the event was just there")
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
    /// The newest revision that was recorded.
    known: i64,
    history: watch::Sender<Arc<Vec<KeyEvent>>>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            for server in self.servers.clone() {
                // An error means that this server failed, which tests do on purpose: the next one goes on.
                let _ = self.watch_at(server).await;
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn watch_at(&mut self, server: SocketAddr) -> Result<()> {
        let mut client = etcd::connect_for_watch(server).await?;
        if self.known == 0 {
            let answer = client.get(self.key.as_str(), None).await?;
            self.known = answer.header().context("an answer without header")?.revision();
            let pair = answer.kvs().first();
            self.record(KeyEvent {
                at: Instant::now(),
                holder: pair.map(|pair| String::from_utf8_lossy(pair.value()).into_owned()),
                create_revision: pair.map_or(0, etcd_client::KeyValue::create_revision),
                revision: pair.map_or(self.known, etcd_client::KeyValue::mod_revision),
            });
        }
        let options = WatchOptions::new().with_start_revision(self.known + 1);
        let mut stream = client.watch(self.key.as_str(), Some(options)).await?;
        while let Some(answer) = stream.message().await? {
            let at = Instant::now();
            for pair in answer.events() {
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
            if answer.canceled() {
                bail!("the watch was cancelled");
            }
        }
        Ok(())
    }

    fn record(&self, event: KeyEvent) {
        self.history.send_modify(|events| Arc::make_mut(events).push(event));
    }
}
