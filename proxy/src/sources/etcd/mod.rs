//! The etcd source: Patroni's keys, pushed by a watch and confirmed by regular reads.
//!
//! The source runs one watch session after another. Each session uses one endpoint and begins with a complete read. Any
//! failure ends it, and the next session uses the next endpoint. Observations are sent in the store's order.

use std::convert::Infallible;

use pg_leader_proxy_core::{DcsProblem, DcsProblemKind, Observation};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::chain;
use super::clock::ClockSteps;
use crate::config;

mod backoff;
mod check;
mod connect;
mod endpoint_log;
pub(crate) mod entry;
mod error;
mod nearby;
mod observation_sender;
mod read;
pub(crate) mod snapshot;
mod tls;
mod watch_session;

pub use check::{EndpointReport, check_endpoint};
pub use error::{EtcdCause, EtcdError};

use backoff::Backoff;
use connect::Endpoint;
use endpoint_log::EndpointLog;
use observation_sender::ObservationSender;
use snapshot::Values;
use tls::TlsFiles;
use watch_session::WatchSession;

/// The longest text about a problem, in characters.
const PROBLEM_MAX: usize = 500;

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
            tls: TlsFiles::new(&self.config.tls),
            current: 0,
            failed: 0,
            backoff: Backoff::default(),
            logs: vec![EndpointLog::default(); self.config.endpoints.len()],
            reading: None,
            told: Told::default(),
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
    tls: TlsFiles,
    /// The index of the endpoint to use.
    current: usize,
    /// How many endpoints in a row did not answer their first read.
    failed: usize,
    backoff: Backoff,
    /// What was logged of each endpoint.
    logs: Vec<EndpointLog>,
    /// The endpoint of the last session that read everything.
    reading: Option<usize>,
    told: Told,
    steps: ClockSteps,
}

/// What was told about the store, so that it is told once until it changes.
#[derive(Debug, Default)]
struct Told {
    login_ignored: bool,
    /// That there are no keys of the cluster, and where they might be.
    no_keys: Option<DcsProblem>,
    /// What the router was told last.
    problem: Option<DcsProblem>,
}

impl EndpointLoop<'_> {
    async fn run(mut self) -> Result<Infallible, EtcdError> {
        loop {
            let began = Instant::now();
            let (answered, error) = self.one_session().await;
            if matches!(error, EtcdError::ReceiverGone) {
                return Err(error);
            }
            let text = chain(&error);
            self.log_error(&text, answered.then_some(began));
            let problem = DcsProblem { kind: error.kind(), text };
            self.told.tell_router(self.sender, Some(problem)).await?;
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
        match WatchSession::open(self.config, self.sender, &mut self.values, (&mut self.tls, url)).await {
            Ok(session) => {
                if self.reading.replace(self.current) != Some(self.current) {
                    info!(endpoint = session.url(), "reading the cluster from etcd");
                }
                self.told.about(session.endpoint(), &self.config.prefix, session.found_nothing()).await;
                if let Err(error) = self.told.tell_router(self.sender, self.told.no_keys.clone()).await {
                    return (true, error);
                }
                match session.run(&mut self.steps).await {
                    Err(error) => (true, error),
                }
            }
            Err(error) => (false, error),
        }
    }

    /// Logs an error: as a warning when the endpoint begins to fail, else at debug level.
    fn log_error(&mut self, text: &str, began: Option<Instant>) {
        if self.logs[self.current].fails(began, Instant::now()) {
            warn!(error = text, "etcd failed; trying the next endpoint");
        } else {
            debug!(error = text, "etcd failed again");
        }
    }
}

impl Told {
    /// Warns about what a new session found that an operator should mend.
    async fn about(&mut self, endpoint: &Endpoint, prefix: &str, no_keys: bool) {
        let login_ignored = endpoint.login_ignored();
        if login_ignored && !self.login_ignored {
            warn!("etcd.user is ignored, because authentication is not enabled in etcd");
        }
        self.login_ignored = login_ignored;
        if !no_keys {
            self.no_keys = None;
        } else if self.no_keys.is_none() {
            let hint = nearby::hint(endpoint, prefix).await;
            warn!(prefix, "etcd has none of Patroni's keys for this cluster: {hint}");
            let text = format!("etcd has none of Patroni's keys under {prefix}: {hint}");
            self.no_keys = Some(DcsProblem { kind: DcsProblemKind::NoKeys, text });
        }
    }

    /// Tells the router what keeps the store from telling about the cluster.
    async fn tell_router(
        &mut self,
        sender: &ObservationSender,
        problem: Option<DcsProblem>,
    ) -> Result<(), EtcdError> {
        let problem = problem.map(|DcsProblem { kind, text }| {
            let text = text.chars().take(PROBLEM_MAX).collect();
            DcsProblem { kind, text }
        });
        if self.problem == problem {
            return Ok(());
        }
        self.problem.clone_from(&problem);
        sender.send(Observation::DcsProblem(problem)).await
    }
}
