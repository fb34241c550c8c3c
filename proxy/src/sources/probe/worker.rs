//! The worker of one member: a kept connection, a fresh one beside it now and then, and what is said of both.

use std::sync::Arc;

use pg_leader_proxy_core::{
    MemberName, Moment, Observation, ProbeConnection, ProbeFailure, ProbeReply, ServerAddr,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::super::{ProbePlan, chain};
use super::connect::Connector;
use super::error::ProbeError;
use super::kept::Kept;
use crate::clock;

/// Asks one member where it is.
pub(super) struct Worker {
    pub(super) member: MemberName,
    pub(super) addr: ServerAddr,
    pub(super) connector: Arc<Connector>,
    pub(super) observations: mpsc::Sender<Observation>,
}

impl Worker {
    /// Asks for ever, or until nobody listens.
    pub(super) async fn run(
        self,
        probe_plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> ProbeError {
        tokio::select! {
            biased;
            end = Kept::new(&self, probe_plan, woken).run() => end,
            end = self.ask_afresh() => end,
        }
    }

    /// Connects, asks and hangs up at intervals: only that shows whether the server still takes connections.
    async fn ask_afresh(&self) -> ProbeError {
        let config = &self.connector.config;
        let mut voice = Voice::new(ProbeConnection::New);
        let mut ticks = interval(config.connect_interval);
        ticks.reset();
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sent = clock::now();
            let outcome = match self.connector.connect(&self.addr).await {
                Ok(mut conversation) => {
                    sent = clock::now();
                    let outcome = conversation.ask(config.timeout).await;
                    conversation.close(config.timeout).await;
                    outcome
                }
                Err(error) => Err(error),
            };
            if let Err(unheard) = self.report(&mut voice, sent, outcome).await {
                return unheard;
            }
        }
    }

    /// Observes an outcome, and logs it where it is news.
    pub(super) async fn report(
        &self,
        voice: &mut Voice,
        sent: Moment,
        outcome: Result<ProbeReply, ProbeError>,
    ) -> Result<(), ProbeError> {
        voice.log(self, &outcome);
        let observation = Observation::Probe {
            member: self.member.clone(),
            addr: self.addr.clone(),
            sent,
            connection: voice.connection,
            outcome: outcome.map_err(|error| error.failure()),
        };
        self.observations.send(observation).await.map_err(|_| ProbeError::Unheard)
    }
}

/// What was last logged of one path to a member.
pub(super) struct Voice {
    connection: ProbeConnection,
    failing: Option<ProbeFailure>,
}

impl Voice {
    pub(super) const fn new(connection: ProbeConnection) -> Self {
        Self { connection, failing: None }
    }

    fn log(&mut self, worker: &Worker, outcome: &Result<ProbeReply, ProbeError>) {
        let (member, addr, connection) = (&worker.member, &worker.addr, self.connection);
        match outcome {
            Ok(_) => {
                if self.failing.take().is_some() {
                    info!(%member, %addr, ?connection, "the server answers again");
                }
            }
            Err(error) => {
                let failure = error.failure();
                let news = self.failing.replace(failure) != Some(failure);
                let code = failure.code();
                let error = chain(error);
                match failure {
                    _ if !news => {
                        debug!(%member, %addr, ?connection, code, error, "the server gave no word again")
                    }
                    ProbeFailure::Denied | ProbeFailure::Failed => {
                        warn!(%member, %addr, ?connection, code, error, "the server gave no word");
                    }
                    ProbeFailure::Refused
                    | ProbeFailure::TimedOut
                    | ProbeFailure::StartingUp
                    | ProbeFailure::ShuttingDown
                    | ProbeFailure::TooManyConnections => {
                        info!(%member, %addr, ?connection, code, error, "the server gave no word");
                    }
                }
            }
        }
    }
}
