//! Whether etcd has the keys that the proxy needs, and what they say about the cluster.

use std::collections::BTreeMap;

use pg_leader_proxy_core::display::HumanDuration;
use pg_leader_proxy_core::{ClusterConfig, Member, MemberName, Observation, OnDcsLoss, SystemId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::findings::Findings;
use crate::config::Etcd;
use crate::sources::etcd::{EndpointReport, EtcdSource, check_endpoint};

/// How many observations may wait; a first read gives a handful.
const OBSERVATIONS: usize = 64;

/// Members by name, and the system identifier of the cluster.
pub(super) type Known = (BTreeMap<MemberName, Member>, Option<SystemId>);

/// Checks every endpoint, then reads the cluster as the proxy does.
pub(super) async fn check(
    etcd: &Etcd,
    on_dcs_loss: OnDcsLoss,
    findings: &mut Findings<'_>,
) -> anyhow::Result<Known> {
    let mut works = false;
    for endpoint in &etcd.endpoints {
        let subject = format!("etcd {endpoint}");
        // Several requests, each bounded by the same timeout.
        match timeout(etcd.timeout * 6, check_endpoint(etcd, endpoint)).await {
            Ok(Ok(report)) => {
                works |= report.hint.is_none();
                describe(&subject, &report, etcd, findings)?;
            }
            Ok(Err(error)) => findings.error(&subject, &format!("{:#}", anyhow::Error::from(error)))?,
            Err(_) => findings.error(&subject, "does not answer in time")?,
        }
    }
    if !works {
        return Ok(Known::default());
    }
    let cluster = read(etcd).await;
    circumstances(&cluster, on_dcs_loss, findings)?;
    Ok((cluster.members, cluster.system_id))
}

fn describe(
    subject: &str,
    report: &EndpointReport,
    etcd: &Etcd,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    let version = report.version.as_deref().unwrap_or("of unknown version");
    match (&report.leader, &report.hint) {
        (_, Some(hint)) => {
            let prefix = &etcd.prefix;
            findings
                .error(subject, &format!("answers, but has none of Patroni's keys under {prefix}: {hint}"))?;
        }
        (None, None) => {
            findings.warning(subject, &format!("etcd {version}; no member holds the leader key"))?
        }
        (Some(leader), None) => {
            let lease = report
                .lease
                .map_or_else(String::new, |lease| format!(", lease valid for {}", HumanDuration(lease)));
            findings.ok(subject, &format!("etcd {version}; {leader} holds the leader key{lease}"))?;
        }
    }
    if report.login_ignored {
        findings.warning(subject, "etcd.user is ignored, because authentication is not enabled in etcd")?;
    }
    if report.outdated {
        let advice =
            "may report a wrong lease time after an election (etcd#17506); update to 3.4.32, 3.5.13 or later";
        findings.warning(subject, &format!("etcd {version} {advice}"))?;
    }
    Ok(())
}

/// The cluster as etcd describes it.
#[derive(Debug, Default)]
struct Cluster {
    members: BTreeMap<MemberName, Member>,
    config: Option<ClusterConfig>,
    system_id: Option<SystemId>,
}

/// Reads everything once, with the source that the proxy uses.
async fn read(etcd: &Etcd) -> Cluster {
    let (sender, mut observations) = mpsc::channel(OBSERVATIONS);
    let source = EtcdSource::new(etcd.clone(), sender);
    let mut cluster = Cluster::default();
    let reading = async {
        while let Some(observation) = observations.recv().await {
            cluster.take(observation);
            if cluster.is_known() {
                break;
            }
        }
    };
    let either = async {
        tokio::select! {
            () = reading => {}
            _ = source.run() => {}
        }
    };
    // What was not read by then shows as missing below.
    let _ = timeout(etcd.timeout * 3, either).await;
    cluster
}

impl Cluster {
    fn take(&mut self, observation: Observation) {
        match observation {
            Observation::Members(members) => self.members = members,
            Observation::Config(config) => self.config = Some(config),
            // Unreadable or missing: the rest is known all the same.
            Observation::ConfigLost(_) => self.config = Some(ClusterConfig::default()),
            Observation::Initialize(system_id) => self.system_id = system_id,
            Observation::LeaderKey { .. }
            | Observation::Switchover { .. }
            | Observation::Failsafe(_)
            | Observation::DcsSilent { .. }
            | Observation::DcsProblem(_)
            | Observation::ClockStepped { .. }
            | Observation::Address { .. }
            | Observation::Probe { .. } => {}
        }
    }

    fn is_known(&self) -> bool {
        !self.members.is_empty() && self.config.is_some() && self.system_id.is_some()
    }
}

fn circumstances(
    cluster: &Cluster,
    on_dcs_loss: OnDcsLoss,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    if cluster.members.is_empty() {
        findings.error("cluster", "no member in etcd has an address")?;
    }
    if cluster.system_id.is_none() {
        findings.warning("cluster", "has no system identifier yet: it is being bootstrapped")?;
    }
    let config = cluster.config.unwrap_or_default();
    match on_dcs_loss {
        OnDcsLoss::Fence if config.failsafe_mode => findings.warning(
            "policy.on_dcs_loss",
            "is \"fence\" while Patroni's failsafe_mode is on: without etcd, Patroni keeps its primary but this proxy \
             forwards nothing; \"auto\" does what Patroni does",
        )?,
        OnDcsLoss::AllMembers if !config.failsafe_mode => findings.warning(
            "policy.on_dcs_loss",
            "is \"all_members\" while Patroni's failsafe_mode is off: without etcd, Patroni demotes its primary; \
             \"auto\" does what Patroni does",
        )?,
        OnDcsLoss::Fence | OnDcsLoss::AllMembers | OnDcsLoss::Auto => {}
    }
    if config.standby_cluster {
        findings.warning("cluster", "is a standby cluster: the write route holds every client")?;
    }
    if config.paused {
        findings.warning("cluster", "is in maintenance mode (pause): Patroni does not fail over")?;
    }
    Ok(())
}
