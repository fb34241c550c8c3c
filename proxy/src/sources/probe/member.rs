//! The probe of one member: a persistent connection, and a new one at intervals.

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
use super::persistent::PersistentProbe;
use crate::clock;

/// The probe of one member.
pub(super) struct MemberProbe {
    pub(super) member: MemberName,
    pub(super) addr: ServerAddr,
    pub(super) connector: Arc<Connector>,
    pub(super) observations: mpsc::Sender<Observation>,
}

impl MemberProbe {
    /// Runs until the receiver of observations is gone.
    pub(super) async fn run(
        self,
        probe_plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> ProbeError {
        tokio::select! {
            biased;
            end = PersistentProbe::new(&self, probe_plan, woken).run() => end,
            end = self.probe_new_connections() => end,
        }
    }

    /// Connects, queries and disconnects at intervals, which shows whether the server still accepts connections.
    async fn probe_new_connections(&self) -> ProbeError {
        let config = &self.connector.config;
        let mut log = ProbeLog::new(ProbeConnection::New);
        let mut ticks = interval(config.connect_interval);
        ticks.reset();
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sent = clock::now();
            let outcome = match self.connector.connect(&self.addr).await {
                Ok(mut connection) => {
                    sent = clock::now();
                    let outcome = connection.query(config.timeout).await;
                    connection.close(config.timeout).await;
                    outcome
                }
                Err(error) => Err(error),
            };
            if let Err(receiver_gone) = self.report(&mut log, sent, outcome).await {
                return receiver_gone;
            }
        }
    }

    /// Sends an outcome as an observation, and logs changes.
    pub(super) async fn report(
        &self,
        log: &mut ProbeLog,
        sent: Moment,
        outcome: Result<ProbeReply, ProbeError>,
    ) -> Result<(), ProbeError> {
        log.log(self, &outcome);
        let observation = Observation::Probe {
            member: self.member.clone(),
            addr: self.addr.clone(),
            sent,
            connection: log.connection,
            outcome: outcome.map_err(|error| error.failure()),
        };
        self.observations.send(observation).await.map_err(|_| ProbeError::ReceiverGone)
    }
}

/// What was last logged about one kind of connection to a member.
pub(super) struct ProbeLog {
    connection: ProbeConnection,
    last_failure: Option<ProbeFailure>,
}

impl ProbeLog {
    pub(super) const fn new(connection: ProbeConnection) -> Self {
        Self { connection, last_failure: None }
    }

    fn log(&mut self, probe: &MemberProbe, outcome: &Result<ProbeReply, ProbeError>) {
        let (member, addr, connection) = (&probe.member, &probe.addr, self.connection);
        match outcome {
            Ok(_) => {
                if self.last_failure.take().is_some() {
                    info!(%member, %addr, ?connection, "the server replies again");
                }
            }
            Err(error) => {
                let failure = error.failure();
                let news = self.last_failure.replace(failure) != Some(failure);
                let code = failure.code();
                let error = chain(error);
                match failure {
                    _ if !news => {
                        debug!(%member, %addr, ?connection, code, error, "the probe failed again")
                    }
                    ProbeFailure::Denied | ProbeFailure::Failed => {
                        warn!(%member, %addr, ?connection, code, error, "the probe failed");
                    }
                    ProbeFailure::Refused
                    | ProbeFailure::TimedOut
                    | ProbeFailure::StartingUp
                    | ProbeFailure::ShuttingDown
                    | ProbeFailure::TooManyConnections => {
                        info!(%member, %addr, ?connection, code, error, "the probe failed");
                    }
                }
            }
        }
    }
}
