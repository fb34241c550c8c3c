//! Running probes and their outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::config::{self, Secret, SslMode};
use pg_leader_proxy::sources::{ProbePlan, probe};
use pg_leader_proxy_core::{
    MemberName, Moment, Observation, ProbeConnection, ProbeFailure, ProbeReply, ProbeUrgency, Role,
    ServerAddr,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration whose normal interval is so long that only an event causes a probe within a test.
pub(crate) fn config() -> config::Probe {
    config::Probe {
        user: "monitor".to_owned(),
        password: Some(Secret::new("monitorpw".to_owned())),
        database: "postgres".to_owned(),
        interval: Duration::from_secs(3600),
        fast_interval: Duration::from_millis(5),
        connect_interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(2),
        sslmode: SslMode::Disable,
        ca_file: None,
    }
}

/// The outcome of one probe.
#[derive(Clone, Debug)]
pub(crate) struct ProbeOutcome {
    pub(crate) addr: ServerAddr,
    pub(crate) sent: Moment,
    pub(crate) connection: ProbeConnection,
    pub(crate) outcome: Result<ProbeReply, ProbeFailure>,
}

impl ProbeOutcome {
    pub(crate) fn is_primary(&self) -> bool {
        matches!(self.outcome, Ok(ProbeReply { role: Role::Primary { .. }, .. }))
    }

    pub(crate) fn is_replica(&self) -> bool {
        matches!(self.outcome, Ok(ProbeReply { role: Role::Replica { .. }, .. }))
    }
}

pub(crate) struct Probes {
    pub(crate) probe_plan: watch::Sender<Arc<ProbePlan>>,
    pub(crate) wake: mpsc::Sender<MemberName>,
    pub(crate) received: Vec<ProbeOutcome>,
    observations: mpsc::Receiver<Observation>,
    _running: JoinSet<()>,
}

pub(crate) fn probe_plan(members: &[(&str, ServerAddr)], urgency: ProbeUrgency) -> Arc<ProbePlan> {
    let members: BTreeMap<MemberName, ServerAddr> =
        members.iter().map(|(name, addr)| (MemberName::new(name), addr.clone())).collect();
    Arc::new(ProbePlan { members, urgency })
}

impl Probes {
    pub(crate) fn start(config: config::Probe, first: Arc<ProbePlan>) -> Self {
        let (probe_plan, inquired) = watch::channel(first);
        let (wake, woken) = mpsc::channel(16);
        let (sender, observations) = mpsc::channel(64);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let error = probe::run(config, inquired, sender, woken).await.unwrap_err();
            panic!("the probes ended: {error}");
        });
        Self { probe_plan, wake, received: Vec::new(), observations, _running: running }
    }

    /// Probes of one member, `a`.
    pub(crate) fn of_one(config: config::Probe, addr: ServerAddr, urgency: ProbeUrgency) -> Self {
        Self::start(config, probe_plan(&[("a", addr)], urgency))
    }

    pub(crate) async fn next(&mut self) -> ProbeOutcome {
        let Ok(observation) = timeout(PATIENCE, self.observations.recv()).await else {
            panic!("no further outcome; before: {:#?}", self.tail());
        };
        let Some(Observation::Probe { addr, sent, connection, outcome, .. }) = observation else {
            panic!("the probes ended, or sent another observation: {observation:?}");
        };
        let probe = ProbeOutcome { addr, sent, connection, outcome };
        self.received.push(probe.clone());
        probe
    }

    /// Waits for a certain outcome.
    pub(crate) async fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&ProbeOutcome) -> bool,
    ) -> ProbeOutcome {
        let search = async {
            loop {
                let probe = self.next().await;
                if wanted(&probe) {
                    return probe;
                }
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(probe) => probe,
            Err(_) => panic!("never received {what}, but: {:#?}", self.tail()),
        }
    }

    pub(crate) async fn failure(&mut self, failure: ProbeFailure) -> ProbeOutcome {
        self.wait_for(failure.code(), |probe| probe.outcome == Err(failure)).await
    }

    fn tail(&self) -> &[ProbeOutcome] {
        &self.received[self.received.len().saturating_sub(20)..]
    }
}
