//! Running probes and their outcomes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::config::{self, RequireAuth, Secret, SslMode, SystemCa};
use pg_leader_proxy::sources::probe::{self, Resolver, SystemResolver};
use pg_leader_proxy::sources::{ProbePlan, ProbeTarget};
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
        system_ca: SystemCa::default(),
        identity: None,
        require_auth: RequireAuth::default(),
    }
}

/// The outcome of one probe.
#[derive(Clone, Debug)]
pub(crate) struct ProbeOutcome {
    pub(crate) addr: ServerAddr,
    pub(crate) socket: Option<SocketAddr>,
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
    /// What the addresses of members were resolved to.
    pub(crate) resolved: Vec<SocketAddr>,
    observations: mpsc::Receiver<Observation>,
    _running: JoinSet<()>,
}

pub(crate) fn probe_plan(members: &[(&str, ServerAddr)], urgency: ProbeUrgency) -> Arc<ProbePlan> {
    let target = |addr: &ServerAddr| ProbeTarget { addr: addr.clone(), published: None, former: None };
    let members: BTreeMap<MemberName, ProbeTarget> =
        members.iter().map(|(name, addr)| (MemberName::new(name), target(addr))).collect();
    Arc::new(ProbePlan { members, urgency })
}

impl Probes {
    pub(crate) fn start(config: config::Probe, first: Arc<ProbePlan>) -> Self {
        Self::resolving(config, Arc::new(SystemResolver), first)
    }

    /// Probes that use this resolver.
    pub(crate) fn resolving(
        config: config::Probe,
        resolver: Arc<dyn Resolver>,
        first: Arc<ProbePlan>,
    ) -> Self {
        let (probe_plan, inquired) = watch::channel(first);
        let (wake, woken) = mpsc::channel(16);
        let (sender, observations) = mpsc::channel(64);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let error = probe::run(config, resolver, inquired, sender, woken).await.unwrap_err();
            panic!("the probes ended: {error}");
        });
        Self { probe_plan, wake, received: Vec::new(), resolved: Vec::new(), observations, _running: running }
    }

    /// Probes of one member, `a`.
    pub(crate) fn of_one(config: config::Probe, addr: ServerAddr, urgency: ProbeUrgency) -> Self {
        Self::start(config, probe_plan(&[("a", addr)], urgency))
    }

    pub(crate) async fn next(&mut self) -> ProbeOutcome {
        loop {
            let Ok(observation) = timeout(PATIENCE, self.observations.recv()).await else {
                panic!("no further outcome; before: {:#?}", self.tail());
            };
            match observation {
                Some(Observation::Probe { addr, socket, sent, connection, outcome, .. }) => {
                    let probe = ProbeOutcome { addr, socket, sent, connection, outcome };
                    self.received.push(probe.clone());
                    return probe;
                }
                Some(Observation::Address { socket, .. }) => self.resolved.push(socket),
                other => panic!("the probes ended, or sent another observation: {other:?}"),
            }
        }
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
