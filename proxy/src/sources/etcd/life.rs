//! One life with one endpoint: read everything, watch what changes, and read again at intervals.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;

use etcd_client::{WatchResponse, WatchStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

use super::connect::Endpoint;
use super::error::EtcdError;
use super::outlet::Outlet;
use super::read::{Read, read};
use super::snapshot::{Change, Held, Snapshot, Values};
use crate::{clock, config};

/// A read that is under way beside the watch, so that a slow answer never holds up an event.
type Reading = Pin<Box<dyn Future<Output = Result<Read, EtcdError>> + Send>>;

/// A life after its first read.
pub(super) struct Life<'a> {
    config: &'a config::Etcd,
    outlet: &'a Outlet,
    values: &'a mut Values,
    endpoint: Endpoint,
    cluster: u64,
    snapshot: Snapshot,
    reading: Option<Reading>,
    /// A change that a read showed before the watch did: the watch must deliver it too, by then.
    owed: Option<Owed>,
    /// Whether a sign of life was asked for and nothing has come through the watch since.
    unanswered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    /// The last revision that the watch delivered.
    after: i64,
    by: Instant,
}

impl<'a> Life<'a> {
    /// Connects to `url` and reads everything. What a first read says is true, whatever was known before: a store
    /// that was restored from a backup has lower revisions.
    pub(super) async fn begin(
        config: &'a config::Etcd,
        outlet: &'a Outlet,
        values: &'a mut Values,
        url: &str,
    ) -> Result<Self, EtcdError> {
        let endpoint = Endpoint::connect(config, url).await?;
        let first = read(endpoint.clone(), config.prefix.clone()).await?;
        let returned = outlet.answered();
        let snapshot = Snapshot::of(values, &first.kvs, first.revision);
        if returned {
            info!(endpoint = endpoint.url(), "etcd answers again");
        }
        for observation in snapshot.observations(None) {
            outlet.send(observation).await?;
        }
        outlet.send(snapshot.observe_leader(first.lease, first.seen)).await?;
        let life = Self {
            config,
            outlet,
            values,
            endpoint,
            cluster: first.cluster,
            snapshot,
            reading: None,
            owed: None,
            unanswered: false,
        };
        life.warn_of_eternity();
        Ok(life)
    }

    /// The endpoint, as it may be shown.
    pub(super) fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// Follows the store until the endpoint fails.
    pub(super) async fn follow(mut self) -> Result<Infallible, EtcdError> {
        let mut watch = self.endpoint.watch(&self.config.prefix, self.snapshot.revision + 1).await?;
        let mut refresh = ticks(self.config.refresh_interval);
        let mut pulse = ticks(self.config.timeout);
        if self.snapshot.leader.is_some() {
            debug!(endpoint = self.url(), revision = self.snapshot.revision, "following the cluster's keys");
        }
        loop {
            let due = self.owed.map(|owed| owed.by);
            tokio::select! {
                biased;
                message = watch.message() => self.hear(message).await?,
                answer = finished(&mut self.reading) => self.take(answer?).await?,
                _ = refresh.tick() => self.read_unless_reading(),
                _ = pulse.tick() => self.ask_for_a_sign(&mut watch).await?,
                () = until(due) => return Err(self.missed()),
            }
        }
    }

    /// A message of the watch.
    async fn hear(
        &mut self,
        message: Result<Option<WatchResponse>, etcd_client::Error>,
    ) -> Result<(), EtcdError> {
        let endpoint = || self.endpoint.url().to_owned();
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => {
                let reason = "the stream ended".to_owned();
                return Err(EtcdError::WatchEnded { endpoint: endpoint(), reason });
            }
            Err(error) => return Err(self.endpoint.failed("watch the cluster's keys", error)),
        };
        self.unanswered = false;
        if response.compact_revision() > 0 {
            return Err(EtcdError::Compacted { endpoint: endpoint(), revision: response.compact_revision() });
        }
        if response.canceled() {
            return Err(EtcdError::WatchEnded {
                endpoint: endpoint(),
                reason: response.cancel_reason().to_owned(),
            });
        }
        let mut last = 0;
        for event in response.events() {
            let revision = event.kv().map_or(0, etcd_client::KeyValue::mod_revision);
            if self.owed.is_some_and(|owed| revision > owed.after) {
                self.owed = None;
            }
            let change = self.snapshot.apply(self.values, event);
            self.observe(change).await?;
            last = last.max(revision);
        }
        // Only after all events, because those of one transaction share a revision. The revision of a message without
        // events proves nothing: older servers send it ahead of events (etcd#15220).
        self.snapshot.reach(last);
        Ok(())
    }

    async fn observe(&mut self, change: Change) -> Result<(), EtcdError> {
        match change {
            Change::Nothing => Ok(()),
            Change::Observe(observation) => self.outlet.send(observation).await,
            Change::Led(Held { key, lease }) => {
                debug!(holder = %key.holder, create_revision = %key.create_revision, lease, "the leader key was put");
                self.outlet.send(self.snapshot.observe_leader(None, clock::now())).await?;
                self.warn_of_eternity();
                self.read_unless_reading();
                Ok(())
            }
            Change::Vacant => {
                debug!("the leader key is gone");
                self.outlet.send(self.snapshot.observe_leader(None, clock::now())).await
            }
        }
    }

    /// The answer of a read that went beside the watch.
    async fn take(&mut self, answer: Read) -> Result<(), EtcdError> {
        self.reading = None;
        if answer.cluster != self.cluster {
            return Err(EtcdError::OtherStore { endpoint: self.endpoint.url().to_owned() });
        }
        self.outlet.answered();
        let snapshot = Snapshot::of(self.values, &answer.kvs, answer.revision);
        if answer.revision < self.snapshot.revision {
            // The watch was faster. The lease still counts if it is that of the present leadership.
            if answer.lease.is_some() && snapshot.leader == self.snapshot.leader {
                self.outlet.send(self.snapshot.observe_leader(answer.lease, answer.seen)).await?;
            }
            self.read_unless_reading();
            return Ok(());
        }
        if !snapshot.agrees(&self.snapshot) {
            let owed = Owed { after: self.snapshot.revision, by: Instant::now() + self.config.timeout };
            self.owed.get_or_insert(owed);
        }
        let known = std::mem::replace(&mut self.snapshot, snapshot);
        for observation in self.snapshot.observations(Some(&known)) {
            self.outlet.send(observation).await?;
        }
        self.outlet.send(self.snapshot.observe_leader(answer.lease, answer.seen)).await
    }

    fn read_unless_reading(&mut self) {
        if self.reading.is_none() {
            self.reading = Some(Box::pin(read(self.endpoint.clone(), self.config.prefix.clone())));
        }
    }

    /// Asks the watch itself for a sign of life: a stream may hang while TCP and other requests are fine.
    async fn ask_for_a_sign(&mut self, watch: &mut WatchStream) -> Result<(), EtcdError> {
        let doing = "hear from the watch";
        if self.unanswered {
            let (endpoint, limit) = (self.endpoint.url().to_owned(), self.config.timeout);
            return Err(EtcdError::Slow { endpoint, doing, limit });
        }
        self.unanswered = true;
        watch.request_progress().await.map_err(|error| self.endpoint.failed(doing, error))
    }

    fn missed(&self) -> EtcdError {
        let revision = self.owed.map_or(self.snapshot.revision, |owed| owed.after);
        EtcdError::WatchMissed { endpoint: self.endpoint.url().to_owned(), revision }
    }

    /// Patroni always hangs the key on a lease. A key put by hand never ends, so nothing bounds its leadership.
    fn warn_of_eternity(&self) {
        if let Some(Held { key, lease: 0 }) = &self.snapshot.leader {
            warn!(holder = %key.holder, "the leader key hangs on no lease, so it proves nothing: was it put by hand?");
        }
    }
}

/// Ticks that begin one `period` from now.
fn ticks(period: std::time::Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn finished(reading: &mut Option<Reading>) -> Result<Read, EtcdError> {
    match reading {
        Some(reading) => reading.await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
