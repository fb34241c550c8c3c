//! The outlet: the one way out for observations of the store, which also notices when the store falls silent.

use std::time::Duration;

use pg_leader_proxy_core::Observation;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::error::EtcdError;
use crate::clock;

/// Where observations of the store go, in its order.
#[derive(Debug)]
pub(super) struct ObservationSender {
    observations: mpsc::Sender<Observation>,
    liveness: watch::Sender<Liveness>,
}

#[derive(Clone, Copy, Debug)]
struct Liveness {
    /// When the last linearizable answer came, or when waiting for one began.
    answered: Instant,
    /// Whether the silence since then was observed, and nothing that contradicts it.
    observed: bool,
    /// Whether the silence since then was logged.
    logged: bool,
}

impl ObservationSender {
    pub(super) fn new(observations: mpsc::Sender<Observation>) -> Self {
        let liveness = Liveness { answered: Instant::now(), observed: false, logged: false };
        Self { observations, liveness: watch::Sender::new(liveness) }
    }

    /// Notes a linearizable answer. Returns whether it ended a silence that was logged.
    pub(super) fn record_answer(&self) -> bool {
        let before =
            self.liveness.send_replace(Liveness { answered: Instant::now(), observed: false, logged: false });
        before.logged
    }

    /// Passes an observation on.
    pub(super) async fn send(&self, observation: Observation) -> Result<(), EtcdError> {
        // The router takes a leader key for a sign that the store answers. When only the watch speaks while reads
        // fail, the silence has to be said again after it.
        if matches!(observation, Observation::LeaderKey { .. }) {
            self.liveness.send_if_modified(|liveness| std::mem::take(&mut liveness.observed));
        }
        self.observations.send(observation).await.map_err(|_| EtcdError::ReceiverGone)
    }

    /// Says that the store is silent, unless that was said.
    pub(super) async fn report_silence(&self) -> Result<(), EtcdError> {
        let mut logged = true;
        let news = self.liveness.send_if_modified(|liveness| {
            logged = std::mem::replace(&mut liveness.logged, true);
            !std::mem::replace(&mut liveness.observed, true)
        });
        if !logged {
            warn!("no endpoint of etcd gives a linearizable answer");
        }
        if news {
            let silence = Observation::DcsSilent { since: clock::now() };
            self.observations.send(silence).await.map_err(|_| EtcdError::ReceiverGone)?;
        }
        Ok(())
    }

    /// Says that the store is silent whenever no linearizable answer has come for `limit`. Never finishes.
    pub(super) async fn watch_for_silence(
        &self,
        limit: Duration,
    ) -> Result<std::convert::Infallible, EtcdError> {
        let mut liveness = self.liveness.subscribe();
        loop {
            let Liveness { answered, observed, .. } = *liveness.borrow_and_update();
            tokio::select! {
                _ = liveness.changed() => {}
                () = sleep_until(answered + limit), if !observed => self.report_silence().await?,
            }
        }
    }
}
