//! Waiting for a state of the cluster, always with a bound and an error that says what was missing.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::etcd;
use crate::patroni::SUPERUSER;
use crate::process::tail;
use crate::session::{self, Session};

/// Between two looks at the whole cluster.
const LOOK: Duration = Duration::from_millis(100);
/// Between two polls of one member for the moment it leaves recovery.
const POLL: Duration = Duration::from_millis(2);
/// One poll; a frozen server accepts and never answers.
const POLL_BOUND: Duration = Duration::from_millis(500);

impl Cluster {
    /// Who holds the leader key, read from etcd with quorum and through no link.
    ///
    /// # Errors
    /// When etcd does not answer, as without quorum.
    pub async fn leader(&self) -> Result<Option<String>> {
        etcd::read(&self.etcd_addresses, &self.leader_key()).await
    }

    /// Waits until somebody holds the leader key and accepts writes, and says who.
    ///
    /// # Errors
    /// When that has not happened within the time, with what was still missing.
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
    /// When that has not happened within the time.
    pub async fn wait_for_leader_to_be(&self, member: &str, within: Duration) -> Result<()> {
        self.poll(&format!("{member} as leader"), within, async || {
            let leader = self.wait_for_leader(within).await?;
            ensure!(leader == member, "{leader} leads");
            Ok(())
        })
        .await
    }

    /// Waits until the leader key is held, its holder is the only primary, and every other member streams from it
    /// (synchronously to one, if the setup says so). Says who leads.
    ///
    /// # Errors
    /// When that has not happened within the time, with what was still missing and the end of the members' logs.
    pub async fn wait_healthy(&self, within: Duration) -> Result<String> {
        self.poll("a healthy cluster", within, async || self.check_healthy().await).await
    }

    async fn check_healthy(&self) -> Result<String> {
        for server in self.etcd.lock().iter_mut() {
            server.check_running()?;
        }
        let leader = self.leader().await?.context("nobody holds the leader key")?;
        for node in &self.members {
            node.processes.lock().check_running()?;
            let name = &node.member.name;
            ensure!(
                self.in_recovery(name).await? == (*name != leader),
                "{leader} holds the key; {name} is on the wrong side of recovery"
            );
        }
        let server = self.superuser(&leader, "postgres").await?;
        let row = server
            .query_one("select count(*) from pg_stat_replication where state = 'streaming'", &[])
            .await
            .context("asking for the replicas")?;
        let (streaming, replicas): (i64, i64) = (row.get(0), i64::try_from(self.members.len())? - 1);
        ensure!(streaming == replicas, "{streaming} of {replicas} replicas stream from {leader}");
        if self.options().synchronous_mode && replicas > 0 {
            self.check_synchronous(&leader).await?;
        }
        Ok(leader)
    }

    /// Patroni's word counts, not PostgreSQL's: until its `sync` key names a standby, it lets none take over.
    async fn check_synchronous(&self, leader: &str) -> Result<()> {
        let key = format!("/service/{}/sync", self.scope());
        let text = etcd::read(&self.etcd_addresses, &key).await?.context("there is no sync key yet")?;
        let sync: Value = serde_json::from_str(&text).context("reading the sync key")?;
        let named = |field: &str| sync.get(field).and_then(Value::as_str).unwrap_or_default();
        ensure!(named("leader") == leader, "the sync key still names {:?} as leader", named("leader"));
        ensure!(!named("sync_standby").is_empty(), "no replica of {leader} is synchronous yet");
        Ok(())
    }

    /// Whether a member is in recovery, asked directly.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn in_recovery(&self, member: &str) -> Result<bool> {
        let server = self.superuser(member, "postgres").await?;
        let asked = server.query_one("select pg_is_in_recovery()", &[]);
        let row = tokio::time::timeout(Duration::from_secs(5), asked)
            .await
            .with_context(|| format!("{member} accepts but does not answer"))?
            .with_context(|| format!("asking {member} whether it is in recovery"))?;
        Ok(row.get(0))
    }

    /// The members that are out of recovery, asked directly; the ones that do not answer are not among them.
    pub async fn primaries(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in self.members() {
            if matches!(self.in_recovery(&member.name).await, Ok(false)) {
                found.push(member.name.clone());
            }
        }
        found
    }

    /// Polls a member directly, every 2 ms over one connection, and gives the moment of the first answer "not in
    /// recovery". Spawn it before the event of which the moment is wanted.
    ///
    /// The future borrows nothing, so that it can be spawned.
    ///
    /// # Errors
    /// When there is no such member, or that answer has not come within the time.
    pub fn out_of_recovery(
        &self,
        member: &str,
        within: Duration,
    ) -> Result<impl Future<Output = Result<Instant>> + Send + 'static> {
        let address = self.member(member)?.postgres_direct;
        let config = session::config(address, &SUPERUSER, "postgres");
        let member = member.to_owned();
        Ok(async move {
            let deadline = Instant::now() + within;
            let mut session = None;
            while Instant::now() < deadline {
                match poll_once(&mut session, &config).await {
                    Ok(false) => return Ok(Instant::now()),
                    Ok(true) => {}
                    Err(_) => session = None,
                }
                tokio::time::sleep(POLL).await;
            }
            bail!("{member} has not left recovery within {within:?}")
        })
    }

    /// Waits until etcd answers reads with quorum.
    ///
    /// # Errors
    /// When it has not within the time.
    pub async fn wait_for_etcd(&self, within: Duration) -> Result<()> {
        self.poll("etcd to answer with quorum", within, async || {
            for server in self.etcd.lock().iter_mut().filter(|server| server.was_started()) {
                server.check_running()?;
            }
            self.leader().await.map(drop)
        })
        .await
    }

    /// Repeats `look` until it gives a value; the last thing that was missing goes into the error.
    pub(crate) async fn poll<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut missing = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, look()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => missing = Some(error),
                Err(_) => {}
            }
            if Instant::now() + LOOK >= deadline {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let missing = missing.map_or_else(|| "no answer at all".to_owned(), |error| format!("{error:#}"));
        bail!("waited {within:?} for {what}: {missing}{}", self.log_tails())
    }

    fn log_tails(&self) -> String {
        self.members()
            .map(|member| format!("\n--- end of {}'s log\n{}", member.name, tail(&member.log)))
            .collect()
    }
}

async fn poll_once(session: &mut Option<Session>, config: &tokio_postgres::Config) -> Result<bool> {
    let asked = async {
        let open = match session.take() {
            Some(open) => open,
            None => Session::open(config).await?,
        };
        let in_recovery = open.query_one("select pg_is_in_recovery()", &[]).await?.get(0);
        *session = Some(open);
        anyhow::Ok(in_recovery)
    };
    tokio::time::timeout(POLL_BOUND, asked).await.context("no answer")?
}
