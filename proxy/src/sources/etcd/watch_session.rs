//! A watch session with one endpoint: read everything, watch changes, and read again at intervals.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use etcd_client::{WatchResponse, WatchStream};
use pg_leader_proxy_core::{Stamped, lease_read_pause};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

use super::super::clock::ClockSteps;
use super::connect::Endpoint;
use super::error::EtcdError;
use super::observation_sender::ObservationSender;
use super::read::{ReadResult, read};
use super::snapshot::{Change, HeldKey, Snapshot, Values};
use super::tls::TlsFiles;
use crate::{clock, config};

/// How soon a lease is read again whose time to live was not confirmed.
const UNCONFIRMED_PAUSE: Duration = Duration::from_millis(500);

/// A read that runs beside the watch, so that a slow answer never delays an event.
type PendingRead = Pin<Box<dyn Future<Output = Result<ReadResult, EtcdError>> + Send>>;

/// A watch session after its first read.
pub(super) struct WatchSession<'a> {
    config: &'a config::Etcd,
    sender: &'a ObservationSender,
    values: &'a mut Values,
    endpoint: Endpoint,
    cluster: u64,
    snapshot: Snapshot,
    pending_read: Option<PendingRead>,
    /// When the next read is due, unless one is pending.
    next_read: Instant,
    /// Whether the pending read was sent too early to count, so that another one must follow.
    read_again: bool,
    /// Set when a read showed a change before the watch did: the watch must deliver it before the deadline.
    expected_event: Option<ExpectedEvent>,
    progress: Progress,
    /// Whether the first read found none of Patroni's keys.
    found_nothing: bool,
}

/// Progress notifications, by which a hung watch is noticed.
#[derive(Debug, Default)]
struct Progress {
    /// One was requested, and nothing has arrived through the watch since.
    pending: bool,
    /// One has arrived.
    works: bool,
    /// None has arrived although it was requested.
    missing: bool,
}

#[derive(Clone, Copy, Debug)]
struct ExpectedEvent {
    /// The last revision that the watch delivered.
    after: i64,
    deadline: Instant,
}

impl<'a> WatchSession<'a> {
    /// Connects to `url` and reads everything. The first read counts whatever was known before, because a store that
    /// was restored from a backup has lower revisions.
    pub(super) async fn open(
        config: &'a config::Etcd,
        sender: &'a ObservationSender,
        values: &'a mut Values,
        (tls, url): (&mut TlsFiles, &str),
    ) -> Result<Self, EtcdError> {
        let endpoint = Endpoint::connect(config, tls, url).await?;
        let first = read(endpoint.clone(), config.prefix.clone()).await?;
        let returned = sender.record_answer();
        let snapshot = Snapshot::of(values, &first.kvs, first.revision);
        if returned {
            info!(endpoint = endpoint.url(), "etcd answers again");
        }
        let found_nothing = snapshot.is_empty();
        for observation in snapshot.observations(None) {
            sender.send(observation).await?;
        }
        sender.send(snapshot.observe_leader(first.lease, first.seen)).await?;
        let mut session = Self {
            config,
            sender,
            values,
            endpoint,
            cluster: first.cluster,
            snapshot,
            pending_read: None,
            next_read: Instant::now(),
            read_again: false,
            expected_event: None,
            progress: Progress::default(),
            found_nothing,
        };
        session.warn_without_lease();
        session.plan_next_read(first.lease);
        Ok(session)
    }

    /// The endpoint's URL, without credentials.
    pub(super) fn url(&self) -> &str {
        self.endpoint.url()
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the first read found none of Patroni's keys.
    pub(super) const fn found_nothing(&self) -> bool {
        self.found_nothing
    }

    /// Runs until the endpoint fails. Reads everything again at once after each step of the wall clock.
    pub(super) async fn run(mut self, steps: &mut ClockSteps) -> Result<Infallible, EtcdError> {
        let mut watch = self.endpoint.watch(&self.config.prefix, self.snapshot.revision + 1).await?;
        let mut heartbeat = ticks(self.config.timeout);
        if self.snapshot.leader.is_some() {
            debug!(endpoint = self.url(), revision = self.snapshot.revision, "following the cluster's keys");
        }
        loop {
            let due = self.expected_event.map(|expected_event| expected_event.deadline);
            tokio::select! {
                biased;
                message = watch.message() => self.handle_message(message).await?,
                answer = finished(&mut self.pending_read) => self.handle_read(answer?).await?,
                () = steps.next() => {
                    self.read_again = self.pending_read.is_some();
                    self.start_read();
                }
                () = sleep_until(self.next_read), if self.pending_read.is_none() => self.start_read(),
                _ = heartbeat.tick() => self.request_progress(&mut watch).await?,
                () = until(due) => return Err(self.missed_event()),
            }
        }
    }

    /// Handles a message of the watch.
    async fn handle_message(
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
        self.progress.pending = false;
        self.progress.works |= response.events().is_empty() && !response.created();
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
            if self.expected_event.is_some_and(|expected_event| revision > expected_event.after) {
                self.expected_event = None;
            }
            let change = self.snapshot.apply(self.values, event);
            self.send_change(change).await?;
            last = last.max(revision);
        }
        // After all events, because those of one transaction share a revision. The revision of a message without events
        // proves nothing, because older servers send it before events (etcd#15220).
        self.snapshot.advance_revision(last);
        Ok(())
    }

    async fn send_change(&mut self, change: Change) -> Result<(), EtcdError> {
        match change {
            Change::Nothing => Ok(()),
            Change::Observe(observation) => self.sender.send(observation).await,
            Change::LeaderPut(HeldKey { key, lease }) => {
                debug!(holder = %key.holder, create_revision = %key.create_revision, lease, "the leader key was put");
                self.sender.send(self.snapshot.observe_leader(None, clock::now())).await?;
                self.warn_without_lease();
                self.start_read();
                Ok(())
            }
            Change::LeaderDeleted => {
                debug!("the leader key was deleted");
                self.sender.send(self.snapshot.observe_leader(None, clock::now())).await
            }
        }
    }

    /// Handles the answer of a read.
    async fn handle_read(&mut self, answer: ReadResult) -> Result<(), EtcdError> {
        self.pending_read = None;
        self.plan_next_read(answer.lease);
        if std::mem::take(&mut self.read_again) {
            self.start_read();
        }
        if answer.cluster != self.cluster {
            return Err(EtcdError::OtherStore { endpoint: self.endpoint.url().to_owned() });
        }
        self.sender.record_answer();
        let snapshot = Snapshot::of(self.values, &answer.kvs, answer.revision);
        if answer.revision < self.snapshot.revision {
            // The watch is ahead of the read. The lease still counts if it belongs to the present leadership.
            if answer.lease.is_some() && snapshot.leader == self.snapshot.leader {
                self.sender.send(self.snapshot.observe_leader(answer.lease, answer.seen)).await?;
            }
            self.start_read();
            return Ok(());
        }
        if !snapshot.agrees_with(&self.snapshot) {
            let expected_event = ExpectedEvent {
                after: self.snapshot.revision,
                deadline: Instant::now() + self.config.timeout,
            };
            self.expected_event.get_or_insert(expected_event);
        }
        let known = std::mem::replace(&mut self.snapshot, snapshot);
        for observation in self.snapshot.observations(Some(&known)) {
            self.sender.send(observation).await?;
        }
        self.sender.send(self.snapshot.observe_leader(answer.lease, answer.seen)).await
    }

    /// The lease is read again before the router stops trusting it, so that a renewal is seen in time.
    fn plan_next_read(&mut self, lease: Option<Stamped<Duration>>) {
        let config = self.config;
        let pause = match lease {
            // There is a lease, and what it has left was not confirmed.
            None if self.snapshot.leader.as_ref().is_some_and(|held| held.lease != 0) => {
                UNCONFIRMED_PAUSE.min(config.refresh_interval)
            }
            lease => lease_read_pause(lease, config.lease_margin, clock::now(), config.refresh_interval),
        };
        self.next_read = Instant::now() + pause;
    }

    fn start_read(&mut self) {
        if self.pending_read.is_none() {
            self.pending_read = Some(Box::pin(read(self.endpoint.clone(), self.config.prefix.clone())));
        }
    }

    /// Asks the watch for a progress notification, because a stream may hang while TCP and other requests work. Fails if
    /// the last one was not answered, unless none ever was: etcd's gRPC proxy does not pass such requests on. Then a hung
    /// watch is noticed when a read shows what it did not deliver.
    async fn request_progress(&mut self, watch: &mut WatchStream) -> Result<(), EtcdError> {
        let operation = "get a progress notification";
        if self.progress.missing {
            return Ok(());
        }
        if self.progress.pending && self.progress.works {
            let (endpoint, limit) = (self.endpoint.url().to_owned(), self.config.timeout);
            return Err(EtcdError::Timeout { endpoint, operation, limit });
        }
        if self.progress.pending {
            info!(
                endpoint = self.url(),
                "no progress notifications of the watch (etcd's gRPC proxy has none)"
            );
            self.progress.missing = true;
            return Ok(());
        }
        self.progress.pending = true;
        watch.request_progress().await.map_err(|error| self.endpoint.failed(operation, error))
    }

    fn missed_event(&self) -> EtcdError {
        let revision =
            self.expected_event.map_or(self.snapshot.revision, |expected_event| expected_event.after);
        EtcdError::WatchMissed { endpoint: self.endpoint.url().to_owned(), revision }
    }

    /// Warns about a leader key without a lease, which never expires and so proves nothing. Patroni always uses a lease.
    fn warn_without_lease(&self) {
        if let Some(HeldKey { key, lease: 0 }) = &self.snapshot.leader {
            warn!(holder = %key.holder, "the leader key has no lease, so it proves nothing; was it put by hand?");
        }
    }
}

/// Ticks that begin one `period` from now.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn finished(pending_read: &mut Option<PendingRead>) -> Result<ReadResult, EtcdError> {
    match pending_read {
        Some(pending_read) => pending_read.await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
