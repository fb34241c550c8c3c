//! The prober of one socket: a persistent connection, and a new one at intervals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment, Observation, ProbeConnection, ProbeFailure, ProbeReply};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::super::{ProbePlan, chain};
use super::error::ProbeError;
use super::member::Shared;
use super::persistent::PersistentProbe;
use super::site::Site;
use crate::clock;

/// How soon a new connection is tried again after a failure that users would have met too, since they wait for it.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Probes the server at one socket.
pub(super) struct Prober {
    pub(super) member: MemberName,
    pub(super) site: Site,
    pub(super) shared: Arc<Shared>,
    broken: mpsc::Sender<SocketAddr>,
}

impl Prober {
    pub(super) const fn new(
        member: MemberName,
        site: Site,
        shared: Arc<Shared>,
        broken: mpsc::Sender<SocketAddr>,
    ) -> Self {
        Self { member, site, shared, broken }
    }

    /// Runs until the receiver of observations is gone.
    pub(super) async fn run(
        self,
        plan: watch::Receiver<Arc<ProbePlan>>,
        mut woken: mpsc::Receiver<()>,
    ) -> ProbeError {
        let (wake_persistent, persistent_woken) = mpsc::channel(1);
        let (wake_new, new_woken) = mpsc::channel(1);
        let waking = async {
            while let Some(()) = woken.recv().await {
                // One pending wake-up is enough.
                let _ = wake_persistent.try_send(());
                let _ = wake_new.try_send(());
            }
            std::future::pending::<ProbeError>().await
        };
        tokio::select! {
            biased;
            end = PersistentProbe::new(&self, plan, persistent_woken).run() => end,
            end = self.try_new_connections(new_woken) => end,
            end = waking => end,
        }
    }

    /// Connects, queries and disconnects at intervals, because only this shows whether the server still takes new connections.
    async fn try_new_connections(&self, mut woken: mpsc::Receiver<()>) -> ProbeError {
        let config = &self.shared.connector.config;
        let mut log = ProbeLog::default();
        let mut due = Instant::now() + config.connect_interval;
        loop {
            let soonest = Instant::now() + RETRY_INTERVAL;
            tokio::select! {
                () = sleep_until(due) => {}
                Some(()) = woken.recv() => sleep_until(soonest.min(due)).await,
            }
            let mut sent = clock::now();
            let outcome = match self.shared.connector.connect(&self.site).await {
                Ok(mut connection) => {
                    sent = clock::now();
                    let outcome = connection.query(config.timeout).await;
                    connection.close(config.timeout).await;
                    outcome
                }
                Err(error) => Err(error),
            };
            let users = outcome.as_ref().is_err_and(|error| error.failure().keeps_users_out());
            due = Instant::now()
                + if users { RETRY_INTERVAL.min(config.connect_interval) } else { config.connect_interval };
            if let Err(receiver_gone) = self.report(&mut log, ProbeConnection::New, (sent, outcome)).await {
                return receiver_gone;
            }
        }
    }

    /// Sends an outcome as an observation, and logs it if it is news.
    pub(super) async fn report(
        &self,
        log: &mut ProbeLog,
        connection: ProbeConnection,
        (sent, outcome): (Moment, Result<ProbeReply, ProbeError>),
    ) -> Result<(), ProbeError> {
        log.log(self, connection, &outcome);
        if let Err(ProbeError::Unreachable { .. } | ProbeError::Timeout { .. }) = &outcome {
            // If the channel is full, the member knows already.
            let _ = self.broken.try_send(self.site.socket);
        }
        let observation = Observation::Probe {
            member: self.member.clone(),
            addr: self.site.addr.clone(),
            socket: Some(self.site.socket),
            sent,
            connection,
            outcome: outcome.map_err(|error| error.failure()),
        };
        self.shared.observe(observation).await
    }
}

/// What was last logged about one of the connections.
#[derive(Debug, Default)]
pub(super) struct ProbeLog {
    last_failure: Option<ProbeFailure>,
}

impl ProbeLog {
    fn log(&mut self, prober: &Prober, path: ProbeConnection, outcome: &Result<ProbeReply, ProbeError>) {
        let (member, addr) = (&prober.member, &prober.site);
        let connection = if path == ProbeConnection::New { "new" } else { "persistent" };
        match outcome {
            Ok(_) => {
                if self.last_failure.take().is_some() {
                    info!(%member, %addr, connection, "the server answers again");
                }
            }
            Err(error) => {
                let failure = error.failure();
                let news = self.last_failure.replace(failure) != Some(failure);
                let code = failure.code();
                let error = chain(error);
                match failure {
                    _ if !news => {
                        debug!(%member, %addr, connection, code, error, "the probe failed again")
                    }
                    ProbeFailure::Denied | ProbeFailure::Failed => {
                        warn!(%member, %addr, connection, code, error, "the probe failed");
                    }
                    ProbeFailure::Refused
                    | ProbeFailure::Reset
                    | ProbeFailure::TimedOut
                    | ProbeFailure::Unresolved
                    | ProbeFailure::StartingUp
                    | ProbeFailure::ShuttingDown
                    | ProbeFailure::TooManyConnections => {
                        info!(%member, %addr, connection, code, error, "the probe failed");
                    }
                }
            }
        }
    }
}
