//! Sends the observations of the store, and reports when the store is silent.

use std::time::Duration;

use pg_leader_proxy_core::Observation;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::error::EtcdError;
use crate::clock;

/// The sender of the store's observations.
#[derive(Debug)]
pub(super) struct ObservationSender {
    observations: mpsc::Sender<Observation>,
    liveness: watch::Sender<Liveness>,
}

#[derive(Clone, Copy, Debug)]
struct Liveness {
    /// When the last linearizable answer arrived, or the source started.
    answered: Instant,
    /// Whether the silence since then was reported, and no leader key was sent after that.
    observed: bool,
    /// Whether the silence since then was logged.
    logged: bool,
}

impl ObservationSender {
    pub(super) fn new(observations: mpsc::Sender<Observation>) -> Self {
        let liveness = Liveness { answered: Instant::now(), observed: false, logged: false };
        Self { observations, liveness: watch::Sender::new(liveness) }
    }

    /// Records a linearizable answer. Returns whether it ended a silence that was logged.
    pub(super) fn record_answer(&self) -> bool {
        let before =
            self.liveness.send_replace(Liveness { answered: Instant::now(), observed: false, logged: false });
        before.logged
    }

    /// Sends an observation.
    pub(super) async fn send(&self, observation: Observation) -> Result<(), EtcdError> {
        // To the router a leader key means that the store answers. If it came from the watch while reads fail, the
        // silence must be reported again afterwards.
        if matches!(observation, Observation::LeaderKey { .. }) {
            self.liveness.send_if_modified(|liveness| std::mem::take(&mut liveness.observed));
        }
        self.observations.send(observation).await.map_err(|_| EtcdError::ReceiverGone)
    }

    /// Reports that the store is silent, unless that was already reported.
    pub(super) async fn report_silence(&self) -> Result<(), EtcdError> {
        let mut logged = true;
        let news = self.liveness.send_if_modified(|liveness| {
            logged = std::mem::replace(&mut liveness.logged, true);
            !std::mem::replace(&mut liveness.observed, true)
        });
        if !logged {
            warn!("no endpoint of etcd answers linearizable reads");
        }
        if news {
            let silence = Observation::DcsSilent { since: clock::now() };
            self.observations.send(silence).await.map_err(|_| EtcdError::ReceiverGone)?;
        }
        Ok(())
    }

    /// Reports silence whenever no linearizable answer has arrived for `limit`. Runs until it is dropped.
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
