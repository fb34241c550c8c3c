//! Faults as they strike the real cluster and the proxies, and how they are undone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use lab::{Cluster, LinkMode};
use tokio::time::sleep;

use crate::proxies::Proxies;
use crate::schedule::{Fault, Kind, Schedule, Target};
use crate::story::Story;

/// How long a replica that was promoted by hand may refuse to be copied anew.
const REINITIALIZE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

/// What faults strike.
#[derive(Debug)]
pub(crate) struct Victims {
    pub(crate) cluster: Cluster,
    /// This project's proxies, if they take part.
    pub(crate) proxies: Option<Proxies>,
}

impl Victims {
    /// Strikes as the schedule says, and returns the kinds of the faults that began. A fault that cannot begin (the
    /// leader is dead already) is a line of the story.
    pub(crate) async fn strike(&self, schedule: &Schedule, story: &Story) -> Vec<Kind> {
        let faults = schedule.faults.iter().map(|fault| {
            let fault = *fault;
            async move { self.strike_once(fault, story).await.then_some(fault.kind) }
        });
        join_all(faults).await.into_iter().flatten().collect()
    }

    async fn strike_once(&self, fault: Fault, story: &Story) -> bool {
        let until = |at: Duration| (story.origin() + at).saturating_duration_since(Instant::now());
        let Fault { kind, target, .. } = fault;
        sleep(until(fault.begin)).await;
        let name = match self.resolve(target).await {
            Ok(name) => name,
            Err(error) => {
                story.tell("fault", format!("{} cannot begin: {error:#}", kind.name()));
                return false;
            }
        };
        story.tell("fault", format!("{} begins: {target} {name}", kind.name()));
        if let Err(error) = self.begin(kind, &name).await {
            story.tell("fault", format!("{}: {error:#}", kind.name()));
            return false;
        }
        if fault.end > fault.begin {
            sleep(until(fault.end)).await;
            let ended = self.end(kind, &name).await;
            let error = ended.err().map(|error| format!(", but {error:#}")).unwrap_or_default();
            story.tell("fault", format!("{} ends: {name}{error}", kind.name()));
        }
        true
    }

    /// The name of a target: of a member, a proxy or an etcd server.
    async fn resolve(&self, target: Target) -> Result<String> {
        match target {
            Target::Leader => self.cluster.leader().await?.context("nobody leads"),
            Target::Replica => {
                let leader = self.cluster.leader().await?.context("nobody leads")?;
                let others = self.cluster.others(&leader);
                others.into_iter().next().context("the cluster has no replica")
            }
            Target::Proxy(_) => {
                ensure!(self.proxies.is_some(), "no proxy of this project takes part");
                Ok(target.to_string())
            }
            Target::Etcd(_) | Target::Cluster => Ok(target.to_string()),
        }
    }

    fn proxies(&self) -> Result<&Proxies> {
        self.proxies.as_ref().context("no proxy of this project takes part")
    }

    async fn begin(&self, kind: Kind, name: &str) -> Result<()> {
        let cluster = &self.cluster;
        match kind {
            Kind::PostgresKilled => cluster.kill_postgres(name),
            Kind::PostgresFrozen => cluster.stop_postgres(name),
            Kind::PatroniKilled => cluster.kill_patroni(name),
            Kind::PatroniFrozen => cluster.stop_patroni(name),
            Kind::MemberKilled => cluster.kill_member(name),
            Kind::MemberFrozen => cluster.freeze_member(name),
            Kind::MemberWithoutEtcd => cluster.cut_member_from_etcd(name, LinkMode::Paused),
            Kind::MemberIsolated => cluster.isolate_member(name, LinkMode::Paused),
            Kind::ConnectionsRefused => cluster.refuse_new_connections(name),
            Kind::LinkSlow => cluster.slow_member(name),
            Kind::ReplicationStopped => cluster.stop_replication(name),
            Kind::ProxyWithoutEtcd => cluster.set_proxy_etcd_links(name, LinkMode::Paused),
            Kind::ProxyRefusedByEtcd => cluster.set_proxy_etcd_links(name, LinkMode::Cut),
            Kind::ProxyEtcdSlow => cluster.set_proxy_etcd_links(name, LinkMode::Slow),
            Kind::EtcdServerKilled => cluster.kill_etcd(etcd_number(name)?),
            Kind::EtcdQuorumLost => cluster.lose_etcd_quorum(),
            Kind::EtcdLeaderMoved => cluster.move_etcd_leader().await,
            Kind::Switchover => {
                let leader = cluster.leader().await?.context("nobody leads")?;
                let candidate = cluster.others(&leader).into_iter().next();
                cluster.switchover(&candidate.context("the cluster has no replica")?).await
            }
            Kind::PromotedByHand => cluster.promote_by_hand(name).await,
            Kind::ProxyKilled => self.proxies()?.kill(name),
            Kind::ProxyFrozen => self.proxies()?.freeze(name),
            Kind::ProxyReloaded => self.proxies()?.reload(name),
            Kind::ProxyReplaced => self.proxies()?.replace(name).await,
        }
    }

    async fn end(&self, kind: Kind, name: &str) -> Result<()> {
        let cluster = &self.cluster;
        match kind {
            Kind::PostgresFrozen | Kind::PatroniFrozen | Kind::MemberFrozen => cluster.thaw_member(name),
            Kind::PatroniKilled | Kind::MemberKilled => cluster.start_member(name),
            Kind::MemberWithoutEtcd => cluster.heal_member_from_etcd(name),
            Kind::MemberIsolated | Kind::ConnectionsRefused | Kind::LinkSlow | Kind::ReplicationStopped => {
                cluster.heal_member(name)
            }
            Kind::ProxyWithoutEtcd | Kind::ProxyRefusedByEtcd | Kind::ProxyEtcdSlow => {
                cluster.set_proxy_etcd_links(name, LinkMode::Open)
            }
            Kind::EtcdServerKilled | Kind::EtcdQuorumLost => cluster.start_etcd().await,
            Kind::PromotedByHand => self.copy_anew(name).await,
            Kind::ProxyKilled => self.proxies()?.start_again(name),
            Kind::ProxyFrozen => self.proxies()?.thaw(name),
            Kind::PostgresKilled
            | Kind::EtcdLeaderMoved
            | Kind::Switchover
            | Kind::ProxyReloaded
            | Kind::ProxyReplaced => Ok(()),
        }
    }

    /// Copies a member anew, unless it leads by now.
    async fn copy_anew(&self, member: &str) -> Result<()> {
        let deadline = Instant::now() + REINITIALIZE;
        loop {
            if self.cluster.leader().await.ok().flatten().as_deref() == Some(member) {
                return Ok(());
            }
            match self.cluster.reinitialize(member).await {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(AGAIN).await,
                copied => return copied,
            }
        }
    }

    /// Undoes every fault, whichever there were, without waiting for the cluster.
    pub(crate) async fn heal(&self) -> Result<()> {
        let names: Vec<String> = self.cluster.members().map(|member| member.name.clone()).collect();
        for name in &names {
            self.cluster.thaw_member(name)?;
            self.cluster.heal_member(name)?;
        }
        if let Some(proxies) = &self.proxies {
            for name in proxies.names() {
                self.cluster.set_proxy_etcd_links(name, LinkMode::Open)?;
            }
            proxies.heal()?;
        }
        self.cluster.start_etcd().await?;
        names.iter().try_for_each(|name| self.cluster.start_member(name))
    }

    /// Waits until the cluster is healthy. A member that Patroni does not bring back by itself is copied anew, as its
    /// operator would do.
    pub(crate) async fn recover(&self, story: &Story, alone: Duration, within: Duration) -> Result<String> {
        if let Ok(leader) = self.cluster.wait_healthy(alone).await {
            return Ok(leader);
        }
        let leader = self.cluster.wait_for_leader(within).await?;
        for member in self.cluster.others(&leader) {
            story.tell("operator", format!("copies {member} anew, which did not come back by itself"));
            self.copy_anew(&member).await?;
        }
        self.cluster.wait_healthy(within).await
    }
}

fn etcd_number(name: &str) -> Result<usize> {
    let number = name.strip_prefix("etcd").and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| number.checked_sub(1)).with_context(|| format!("{name} is no etcd server"))
}
