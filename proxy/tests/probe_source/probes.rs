//! Running probes, and what they said.

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

/// No step of a test takes longer than this unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks so seldom when steady that only an event can make it ask within a test.
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

/// One answer or failure.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) addr: ServerAddr,
    pub(crate) sent: Moment,
    pub(crate) connection: ProbeConnection,
    pub(crate) outcome: Result<ProbeReply, ProbeFailure>,
}

impl Heard {
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
    pub(crate) said: Vec<Heard>,
    observations: mpsc::Receiver<Observation>,
    _running: JoinSet<()>,
}

pub(crate) fn probe_plan(members: &[(&str, ServerAddr)], attention: ProbeUrgency) -> Arc<ProbePlan> {
    let members: BTreeMap<MemberName, ServerAddr> =
        members.iter().map(|(name, addr)| (MemberName::new(name), addr.clone())).collect();
    Arc::new(ProbePlan { members, attention })
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
        Self { probe_plan, wake, said: Vec::new(), observations, _running: running }
    }

    /// Probes of one member, `a`.
    pub(crate) fn of_one(config: config::Probe, addr: ServerAddr, attention: ProbeUrgency) -> Self {
        Self::start(config, probe_plan(&[("a", addr)], attention))
    }

    pub(crate) async fn next(&mut self) -> Heard {
        let Ok(observation) = timeout(PATIENCE, self.observations.recv()).await else {
            panic!("nothing more was said; before: {:#?}", self.tail());
        };
        let Some(Observation::Probe { addr, sent, connection, outcome, .. }) = observation else {
            panic!("the probes ended or said something strange: {observation:?}");
        };
        let heard = Heard { addr, sent, connection, outcome };
        self.said.push(heard.clone());
        heard
    }

    /// Listens until `wanted` is said.
    pub(crate) async fn hear(&mut self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let search = async {
            loop {
                let heard = self.next().await;
                if wanted(&heard) {
                    return heard;
                }
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(heard) => heard,
            Err(_) => panic!("never heard {what}, but: {:#?}", self.tail()),
        }
    }

    pub(crate) async fn failure(&mut self, failure: ProbeFailure) -> Heard {
        self.hear(failure.code(), |heard| heard.outcome == Err(failure)).await
    }

    fn tail(&self) -> &[Heard] {
        &self.said[self.said.len().saturating_sub(20)..]
    }
}
