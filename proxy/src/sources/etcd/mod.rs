//! The etcd source: Patroni's keys, pushed by a watch and confirmed by regular reads.
//!
//! The source runs one watch session after another. Each session uses one endpoint and begins with a complete read. Any
//! failure ends it, and the next session uses the next endpoint. Observations are sent in the store's order.

use std::convert::Infallible;

use pg_leader_proxy_core::Observation;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::chain;
use super::clock::ClockSteps;
use crate::config;

mod backoff;
mod check;
mod connect;
mod error;
mod observation_sender;
mod read;
mod snapshot;
mod watch_session;

pub use check::{EndpointReport, check_endpoint};
pub use error::{EtcdCause, EtcdError};

use backoff::Backoff;
use observation_sender::ObservationSender;
use snapshot::Values;
use watch_session::WatchSession;

/// The etcd source.
#[derive(Debug)]
pub struct EtcdSource {
    config: config::Etcd,
    sender: ObservationSender,
    steps: ClockSteps,
}

impl EtcdSource {
    /// A source that sends to `observations`.
    pub fn new(config: config::Etcd, observations: mpsc::Sender<Observation>) -> Self {
        Self { config, sender: ObservationSender::new(observations), steps: ClockSteps::none() }
    }

    /// Has everything read again at once whenever the wall clock was stepped.
    #[must_use]
    pub fn rereading_after(self, steps: ClockSteps) -> Self {
        Self { steps, ..self }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// [`EtcdError::ReceiverGone`] if the receiver of observations is gone.
    pub async fn run(self) -> Result<Infallible, EtcdError> {
        let limit = self.config.refresh_interval + self.config.timeout;
        let endpoints = EndpointLoop {
            config: &self.config,
            sender: &self.sender,
            values: Values::new(&self.config),
            current: 0,
            failed: 0,
            backoff: Backoff::default(),
            last_errors: vec![None; self.config.endpoints.len()],
            steps: self.steps,
        };
        tokio::select! {
            biased;
            end = endpoints.run() => end,
            end = self.sender.watch_for_silence(limit) => end,
        }
    }
}

/// Runs one watch session after another, round robin over the endpoints.
struct EndpointLoop<'a> {
    config: &'a config::Etcd,
    sender: &'a ObservationSender,
    values: Values,
    /// The index of the endpoint to use.
    current: usize,
    /// How many endpoints in a row did not answer their first read.
    failed: usize,
    backoff: Backoff,
    /// The last error of each endpoint that was logged as a warning.
    last_errors: Vec<Option<String>>,
    steps: ClockSteps,
}

impl EndpointLoop<'_> {
    async fn run(mut self) -> Result<Infallible, EtcdError> {
        loop {
            let began = Instant::now();
            let (answered, error) = self.one_session().await;
            if matches!(error, EtcdError::ReceiverGone) {
                return Err(error);
            }
            self.log_error(&error);
            self.current = (self.current + 1) % self.config.endpoints.len();
            self.failed = if answered { 0 } else { self.failed + 1 };
            let round_failed = self.failed >= self.config.endpoints.len();
            if round_failed {
                self.failed = 0;
                self.sender.report_silence().await?;
            }
            if answered && began.elapsed() > backoff::LONGEST {
                self.backoff.reset();
            } else if answered || round_failed {
                sleep(self.backoff.pause()).await;
            }
        }
    }

    /// Runs one session. Returns whether its first read was answered, and why it ended.
    async fn one_session(&mut self) -> (bool, EtcdError) {
        let url = &self.config.endpoints[self.current];
        match WatchSession::open(self.config, self.sender, &mut self.values, url).await {
            Ok(session) => {
                info!(endpoint = session.url(), "reading the cluster from etcd");
                self.last_errors[self.current] = None;
                match session.run(&mut self.steps).await {
                    Err(error) => (true, error),
                }
            }
            Err(error) => (false, error),
        }
    }

    /// Logs an error as a warning, and repetitions of it by the same endpoint at debug level.
    fn log_error(&mut self, error: &EtcdError) {
        let text = chain(error);
        let last_error = &mut self.last_errors[self.current];
        if last_error.as_ref() == Some(&text) {
            debug!(error = text, "etcd failed again");
        } else {
            warn!(error = text, "etcd failed; trying the next endpoint");
            *last_error = Some(text);
        }
    }
}
