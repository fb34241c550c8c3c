//! Waiting for a state of the cluster, with a bound and an error that says what was missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::etcd;
use crate::process::tail;

/// Between two checks.
const PAUSE: Duration = Duration::from_millis(100);
/// One query. A frozen server accepts connections and never answers.
const ANSWER: Duration = Duration::from_secs(5);

impl Cluster {
    /// Who holds the leader key, from a linearizable read of etcd without a link.
    ///
    /// # Errors
    /// When etcd does not answer, for example without quorum.
    pub async fn leader(&self) -> Result<Option<String>> {
        etcd::read(&self.etcd_addresses, &self.leader_key()).await
    }

    /// Waits until some member holds the leader key and accepts writes, and returns its name.
    ///
    /// # Errors
    /// When that takes longer than `within`. The error says what was missing.
    pub async fn wait_for_leader(&self, within: Duration) -> Result<String> {
        self.poll("a leader that accepts writes", within, async || {
            let leader = self.leader().await?.context("nobody holds the leader key")?;
            ensure!(!self.in_recovery(&leader).await?, "{leader} holds the key but is in recovery");
            Ok(leader)
        })
        .await
    }

    /// Waits until this member holds the leader key and accepts writes.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn wait_for_leader_to_be(&self, member: &str, within: Duration) -> Result<()> {
        self.poll(&format!("{member} as the leader"), within, async || {
            let leader = self.wait_for_leader(within).await?;
            ensure!(leader == member, "{leader} is the leader");
            Ok(())
        })
        .await
    }

    /// Waits until the holder of the leader key is the only primary and every other member streams from it, and returns
    /// the leader's name. With `synchronous_mode` one replica must be synchronous.
    ///
    /// # Errors
    /// When that takes longer than `within`. The error says what was missing and has the ends of the members' logs.
    pub async fn wait_healthy(&self, within: Duration) -> Result<String> {
        self.poll("a healthy cluster", within, async || self.check_healthy().await).await
    }

    async fn check_healthy(&self) -> Result<String> {
        self.etcd.lock().iter_mut().try_for_each(etcd::Etcd::check_running)?;
        let leader = self.leader().await?.context("nobody holds the leader key")?;
        for node in &self.members {
            node.processes.lock().check_running()?;
            let name = &node.member.name;
            let in_recovery = self.in_recovery(name).await?;
            ensure!(
                in_recovery == (*name != leader),
                "{leader} holds the key; {name} in recovery: {in_recovery}"
            );
        }
        let server = self.superuser(&leader, "postgres").await?;
        let row = server
            .query_one("select count(*) from pg_stat_replication where state = 'streaming'", &[])
            .await
            .context("counting the replicas")?;
        let (streaming, replicas): (i64, i64) = (row.get(0), i64::try_from(self.members.len())? - 1);
        ensure!(streaming == replicas, "{streaming} of {replicas} replicas stream from {leader}");
        if self.options().synchronous_mode && replicas > 0 {
            self.check_synchronous(&leader).await?;
        }
        Ok(leader)
    }

    /// Patroni's `sync` key decides, not PostgreSQL: without a standby in it, Patroni lets none take over.
    async fn check_synchronous(&self, leader: &str) -> Result<()> {
        let key = format!("/service/{}/sync", self.scope());
        let text = etcd::read(&self.etcd_addresses, &key).await?.context("there is no sync key yet")?;
        let sync: Value = serde_json::from_str(&text).context("reading the sync key")?;
        let field = |name: &str| sync.get(name).and_then(Value::as_str).unwrap_or_default();
        ensure!(field("leader") == leader, "the sync key still names {:?} as leader", field("leader"));
        ensure!(!field("sync_standby").is_empty(), "no replica of {leader} is synchronous yet");
        Ok(())
    }

    /// Whether a member is in recovery, asked without a link.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn in_recovery(&self, member: &str) -> Result<bool> {
        let server = self.superuser(member, "postgres").await?;
        let query = server.query_one("select pg_is_in_recovery()", &[]);
        let row = tokio::time::timeout(ANSWER, query)
            .await
            .with_context(|| format!("{member} accepts connections but does not answer"))?
            .with_context(|| format!("asking {member} whether it is in recovery"))?;
        Ok(row.get(0))
    }

    /// The members that say they are not in recovery, asked without a link.
    pub async fn primaries(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in self.members() {
            if matches!(self.in_recovery(&member.name).await, Ok(false)) {
                found.push(member.name.clone());
            }
        }
        found
    }

    /// Waits until etcd answers linearizable reads.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub(crate) async fn wait_for_etcd(&self, within: Duration) -> Result<()> {
        self.poll("etcd to have quorum", within, async || {
            for server in self.etcd.lock().iter_mut().filter(|server| server.was_started()) {
                server.check_running()?;
            }
            self.leader().await.map(drop)
        })
        .await
    }

    /// Repeats `attempt` until it succeeds. The last error becomes part of the error at the deadline.
    pub(crate) async fn poll<T>(
        &self,
        what: &str,
        within: Duration,
        attempt: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut missing = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => missing = Some(error),
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let missing = missing.map_or_else(|| "no answer".to_owned(), |error| format!("{error:#}"));
        bail!("waited {within:?} for {what}: {missing}{}", self.log_tails())
    }

    fn log_tails(&self) -> String {
        self.members()
            .map(|member| format!("\n--- end of {}'s log\n{}", member.name, tail(&member.log)))
            .collect()
    }
}
