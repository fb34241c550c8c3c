//! Faults in which the leader goes on leading, so that no session with it needs to end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use crate::cluster::{Cluster, MONITOR};
use crate::etcd;

/// Between two looks at what Patroni may have undone, and between two renewals of a lease.
const AGAIN: Duration = Duration::from_millis(100);
/// For the cluster to be as before: a replica that was promoted is copied anew, a killed Patroni is started.
const RECOVERY: Duration = Duration::from_secs(90);

/// A fault in which the leader keeps its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmlessFault {
    /// PostgreSQL of the leader is stopped, as on a machine that hangs, while its lease is renewed.
    ServerSilent,
    /// The leader refuses new connections; those that are open work.
    NewConnectionsRefused,
    /// The leader rejects the monitoring user.
    MonitorDenied,
    /// The leader has no connection left for the monitoring user.
    MonitorWithoutConnection,
    /// The leader's member record is gone from etcd.
    MemberRecordGone,
    /// Patroni's key `initialize` is gone.
    InitializeGone,
    /// Patroni's key `config` is gone.
    ConfigGone,
    /// Patroni's key `config` is no JSON.
    ConfigUnreadable,
    /// The leader's member record has the address of a replica.
    AddressOfAReplica,
    /// A replica is promoted by hand: a second primary, on a higher timeline.
    ReplicaPromoted,
    /// Maintenance mode, and the leader key expires because the leader's Patroni is dead.
    PausedWithoutKey,
}

impl HarmlessFault {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::ServerSilent,
        Self::NewConnectionsRefused,
        Self::MonitorDenied,
        Self::MonitorWithoutConnection,
        Self::MemberRecordGone,
        Self::InitializeGone,
        Self::ConfigGone,
        Self::ConfigUnreadable,
        Self::AddressOfAReplica,
        Self::ReplicaPromoted,
        Self::PausedWithoutKey,
    ];

    /// What happens, in a few words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerSilent => "server stopped, lease renewed",
            Self::NewConnectionsRefused => "new connections refused",
            Self::MonitorDenied => "monitoring user rejected",
            Self::MonitorWithoutConnection => "no connection for the monitoring user",
            Self::MemberRecordGone => "member record deleted",
            Self::InitializeGone => "`initialize` deleted",
            Self::ConfigGone => "`config` deleted",
            Self::ConfigUnreadable => "`config` is no JSON",
            Self::AddressOfAReplica => "leader published at a replica's address",
            Self::ReplicaPromoted => "replica promoted by hand",
            Self::PausedWithoutKey => "maintenance mode, leader key expired",
        }
    }
}

impl Cluster {
    /// Causes a fault, undoes it after about this long, and returns when the cluster is healthy again, under the same
    /// leader. To last longer than a lease minus a round of Patroni is not harmless: the leader may lose its role.
    ///
    /// # Errors
    /// When a step fails or the cluster does not recover. The fault may still be there then.
    pub async fn harmless_fault(&self, fault: HarmlessFault, lasting: Duration) -> Result<()> {
        let leader = self.leader().await?.context("a fault of the leader needs one")?;
        self.cause(fault, &leader, lasting).await.with_context(|| format!("the fault: {}", fault.name()))?;
        let after = self.wait_healthy(RECOVERY).await?;
        ensure!(after == leader, "{after} leads after the fault: {}", fault.name());
        Ok(())
    }

    async fn cause(&self, fault: HarmlessFault, leader: &str, lasting: Duration) -> Result<()> {
        let record = format!("members/{leader}");
        match fault {
            HarmlessFault::ServerSilent => self.silence_server(leader, lasting).await,
            HarmlessFault::NewConnectionsRefused => {
                self.refuse_new_connections(leader)?;
                sleep(lasting).await;
                self.heal_member(leader)
            }
            HarmlessFault::MonitorDenied => self.limit_monitor(leader, ["nologin", "login"], lasting).await,
            HarmlessFault::MonitorWithoutConnection => {
                self.limit_monitor(leader, ["connection limit 0", "connection limit -1"], lasting).await
            }
            HarmlessFault::MemberRecordGone => self.change_key(&record, |_| None, lasting).await,
            HarmlessFault::InitializeGone => self.change_key("initialize", |_| None, lasting).await,
            HarmlessFault::ConfigGone => self.change_key("config", |_| None, lasting).await,
            HarmlessFault::ConfigUnreadable => {
                self.change_key("config", |_| Some("no JSON".to_owned()), lasting).await
            }
            HarmlessFault::AddressOfAReplica => {
                let from = self.member(leader)?.postgres.to_string();
                let to = self.member(&self.replica_of(leader)?)?.postgres.to_string();
                self.change_key(&record, |record| Some(record.replace(&from, &to)), lasting).await
            }
            HarmlessFault::ReplicaPromoted => self.promote(&self.replica_of(leader)?, lasting).await,
            HarmlessFault::PausedWithoutKey => self.pause_without_key(leader, lasting).await,
        }
    }

    fn replica_of(&self, leader: &str) -> Result<String> {
        self.others(leader).into_iter().next().context("the cluster has no replica")
    }

    async fn silence_server(&self, leader: &str, lasting: Duration) -> Result<()> {
        self.stop_postgres(leader)?;
        let key = self.leader_key();
        let renewed = repeat(lasting, async || etcd::renew_lease(&self.etcd_addresses, &key).await).await;
        self.thaw_member(leader)?;
        renewed
    }

    /// Changes the monitoring user, ends its sessions, and changes it back.
    async fn limit_monitor(&self, leader: &str, [limit, normal]: [&str; 2], lasting: Duration) -> Result<()> {
        let server = self.superuser(leader, "postgres").await?;
        let user = MONITOR.user;
        server
            .batch_execute(&format!(
                "alter user {user} {limit};
                 select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'"
            ))
            .await
            .context("limiting the monitoring user")?;
        sleep(lasting).await;
        let statement = format!("alter user {user} {normal}");
        server.batch_execute(&statement).await.context("allowing the monitoring user again")
    }

    /// Deletes or replaces a key of the cluster, again when Patroni puts it back, and restores it.
    async fn change_key(
        &self,
        name: &str,
        change: impl Fn(&str) -> Option<String>,
        lasting: Duration,
    ) -> Result<()> {
        let key = format!("/service/{}/{name}", self.scope());
        let before = etcd::read(&self.etcd_addresses, &key).await?;
        let before = before.with_context(|| format!("there is no key {key}"))?;
        let wanted = change(&before);
        ensure!(wanted.as_ref() != Some(&before), "nothing to change in {before}");
        repeat(lasting, async || {
            if etcd::read(&self.etcd_addresses, &key).await? == wanted {
                return Ok(());
            }
            match &wanted {
                Some(value) => etcd::put(&self.etcd_addresses, &key, value).await,
                None => etcd::delete(&self.etcd_addresses, &key).await,
            }
        })
        .await?;
        // A member's record hangs on a lease of its Patroni, which writes it in its next round.
        if name.starts_with("members/") {
            return Ok(());
        }
        etcd::put(&self.etcd_addresses, &key, &before).await
    }

    /// Promotes a replica by hand, and copies it anew.
    async fn promote(&self, replica: &str, lasting: Duration) -> Result<()> {
        self.promote_by_hand(replica).await?;
        sleep(lasting).await;
        self.poll(&format!("{replica} to be copied anew"), RECOVERY, async || {
            self.reinitialize(replica).await
        })
        .await
    }

    async fn pause_without_key(&self, leader: &str, lasting: Duration) -> Result<()> {
        self.set_pause(true).await?;
        self.kill_patroni(leader)?;
        self.wait_for_holder(None).await?;
        sleep(lasting).await;
        self.start_member(leader)?;
        self.wait_for_holder(Some(leader)).await?;
        self.set_pause(false).await
    }

    async fn wait_for_holder(&self, wanted: Option<&str>) -> Result<()> {
        self.poll(&format!("{wanted:?} to hold the leader key"), RECOVERY, async || {
            let holder = self.leader().await?;
            ensure!(holder.as_deref() == wanted, "{holder:?} holds it");
            Ok(())
        })
        .await
    }
}

/// Does something at once and again every little while, for this long.
async fn repeat(lasting: Duration, act: impl AsyncFn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        act().await?;
        sleep(AGAIN).await;
    }
    Ok(())
}
