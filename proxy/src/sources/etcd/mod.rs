//! The leader key, the members and the cluster's configuration, pushed by etcd and confirmed at intervals.
//!
//! The source lives through one life after another, each with one endpoint; whatever goes wrong ends the
//! life, and the next one begins with a complete read at the next endpoint. Observations leave in the store's order.

use std::convert::Infallible;

use pg_leader_proxy_core::Observation;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::chain;
use crate::config;

mod backoff;
mod check;
mod connect;
mod error;
mod life;
mod outlet;
mod read;
mod snapshot;

pub use check::{EndpointReport, check_endpoint};
pub use error::{EtcdCause, EtcdError};

use backoff::Backoff;
use life::Life;
use outlet::Outlet;
use snapshot::Values;

/// The source of everything that the store says.
#[derive(Debug)]
pub struct EtcdSource {
    config: config::Etcd,
    outlet: Outlet,
}

impl EtcdSource {
    /// A source that will send to `observations` what it reads according to `config`.
    pub fn new(config: config::Etcd, observations: mpsc::Sender<Observation>) -> Self {
        Self { config, outlet: Outlet::new(observations) }
    }

    /// Follows the store for ever.
    ///
    /// # Errors
    /// [`EtcdError::Unheard`] when nobody takes the observations any more.
    pub async fn run(self) -> Result<Infallible, EtcdError> {
        let limit = self.config.refresh_interval + self.config.timeout;
        let lives = Lives {
            config: &self.config,
            outlet: &self.outlet,
            values: Values::new(&self.config),
            turn: 0,
            failed: 0,
            backoff: Backoff::default(),
            complaint: None,
        };
        tokio::select! {
            biased;
            end = lives.live() => end,
            end = self.outlet.listen(limit) => end,
        }
    }
}

/// One life after another, round and round over the endpoints.
struct Lives<'a> {
    config: &'a config::Etcd,
    outlet: &'a Outlet,
    values: Values,
    /// Whose turn it is; an endpoint that works keeps it.
    turn: usize,
    /// How many endpoints in a row did not even answer the first read.
    failed: usize,
    backoff: Backoff,
    /// The last failure that was logged as news.
    complaint: Option<String>,
}

impl Lives<'_> {
    async fn live(mut self) -> Result<Infallible, EtcdError> {
        loop {
            let began = Instant::now();
            let (heard, error) = self.one_life().await;
            if matches!(error, EtcdError::Unheard) {
                return Err(error);
            }
            self.complain(&error);
            self.turn = (self.turn + 1) % self.config.endpoints.len();
            self.failed = if heard { 0 } else { self.failed + 1 };
            let round_failed = self.failed >= self.config.endpoints.len();
            if round_failed {
                self.failed = 0;
                self.outlet.silence().await?;
            }
            if heard && began.elapsed() > backoff::LONGEST {
                self.backoff.reset();
            } else if heard || round_failed {
                sleep(self.backoff.pause()).await;
            }
        }
    }

    /// Returns whether the first read was answered, and why the life ended.
    async fn one_life(&mut self) -> (bool, EtcdError) {
        let url = &self.config.endpoints[self.turn];
        match Life::begin(self.config, self.outlet, &mut self.values, url).await {
            Ok(life) => {
                info!(endpoint = life.url(), "reading the cluster from etcd");
                self.complaint = None;
                match life.follow().await {
                    Err(error) => (true, error),
                }
            }
            Err(error) => (false, error),
        }
    }

    /// Says once what goes wrong, and repeats only at the debug level.
    fn complain(&mut self, error: &EtcdError) {
        let text = chain(error);
        if self.complaint.as_ref() == Some(&text) {
            debug!(error = text, "etcd failed again");
        } else {
            warn!(error = text, "etcd failed; trying the next endpoint");
            self.complaint = Some(text);
        }
    }
}
