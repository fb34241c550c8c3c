//! The prober of one socket: a persistent connection, and a new one at intervals.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
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
    log: Mutex<ProbeLog>,
}

impl Prober {
    pub(super) fn new(
        member: MemberName,
        site: Site,
        shared: Arc<Shared>,
        broken: mpsc::Sender<SocketAddr>,
    ) -> Self {
        Self { member, site, shared, broken, log: Mutex::default() }
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
            if let Err(receiver_gone) = self.report(ProbeConnection::New, (sent, outcome)).await {
                return receiver_gone;
            }
        }
    }

    /// Sends an outcome as an observation, and logs it if it is news.
    pub(super) async fn report(
        &self,
        connection: ProbeConnection,
        (sent, outcome): (Moment, Result<ProbeReply, ProbeError>),
    ) -> Result<(), ProbeError> {
        self.log(connection, &outcome);
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

    /// Logs an outcome that is news, and a repeated failure only at debug level.
    fn log(&self, connection: ProbeConnection, outcome: &Result<ProbeReply, ProbeError>) {
        let failure = outcome.as_ref().err().map(ProbeError::failure);
        let news = self.log.lock().unwrap_or_else(PoisonError::into_inner).is_news(connection, failure);
        let (member, addr) = (&self.member, &self.site);
        let connection = if connection == ProbeConnection::New { "new" } else { "persistent" };
        let Err(error) = outcome else {
            if news {
                info!(%member, %addr, connection, "the server answers again");
            }
            return;
        };
        let (failure, error) = (error.failure(), chain(error));
        let code = failure.code();
        match failure {
            _ if !news => debug!(%member, %addr, connection, code, error, "the probe failed again"),
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

/// How the last probe over each of the two connections failed, if it did.
#[derive(Debug, Default)]
struct ProbeLog {
    persistent: Option<ProbeFailure>,
    new: Option<ProbeFailure>,
}

impl ProbeLog {
    /// Records an outcome. It is news unless this connection, or the other one, has failed in the same way before: what is
    /// wrong with the server is told once.
    fn is_news(&mut self, connection: ProbeConnection, failure: Option<ProbeFailure>) -> bool {
        let (this, other) = match connection {
            ProbeConnection::Persistent { .. } => (&mut self.persistent, self.new),
            ProbeConnection::New => (&mut self.new, self.persistent),
        };
        let before = std::mem::replace(this, failure);
        // After a success, what ended is news once the other connection does not fail in that way either.
        before != failure && other != failure.or(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERSISTENT: ProbeConnection =
        ProbeConnection::Persistent { since: Moment::from_boot(Duration::ZERO) };
    const DENIED: Option<ProbeFailure> = Some(ProbeFailure::Denied);

    #[test]
    fn a_state_is_news_once_over_both_connections() {
        let mut log = ProbeLog::default();
        assert!(!log.is_news(PERSISTENT, None), "a first success is what was expected");
        assert!(log.is_news(ProbeConnection::New, DENIED));
        assert!(!log.is_news(ProbeConnection::New, DENIED) && !log.is_news(PERSISTENT, DENIED));
        assert!(!log.is_news(PERSISTENT, DENIED));
        assert!(log.is_news(PERSISTENT, Some(ProbeFailure::Refused)), "another state");
        assert!(!log.is_news(ProbeConnection::New, Some(ProbeFailure::Refused)));
        assert!(!log.is_news(PERSISTENT, None), "the other one still fails");
        assert!(log.is_news(ProbeConnection::New, None));
        assert!(!log.is_news(ProbeConnection::New, None) && !log.is_news(PERSISTENT, None));
    }
}
