//! What goes wrong, one method each; what can be undone has its opposite beside it.
//!
//! "What a user sees" is said for a client that writes through a proxy which follows the leader.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::etcd;
use crate::http;
use crate::link::LinkMode;

/// A switchover with its checkpoint and the shutdown of the old leader.
const SWITCHOVER: Duration = Duration::from_secs(90);
/// An answer of Patroni's REST interface.
const REST: Duration = Duration::from_secs(15);

impl Cluster {
    /// Planned switchover from the present leader to `candidate`, through Patroni's REST interface. Returns when Patroni
    /// says it is done. A user sees sessions end with 57P01 and, for a second or a few, no leader.
    ///
    /// # Errors
    /// When there is no leader or Patroni refuses, with its words.
    pub async fn switchover(&self, candidate: &str) -> Result<()> {
        let leader = self.leader().await?.context("a switchover needs a leader")?;
        let body = json!({"leader": leader, "candidate": candidate}).to_string();
        self.rest(&leader, ("POST", "/switchover"), &body, SWITCHOVER).await.map(drop)
    }

    /// SIGKILL to PostgreSQL with all its backends; Patroni lives, keeps the leader key and restarts it in place. A user
    /// sees broken sessions and, until it is up again, a leader that is silent or in recovery.
    ///
    /// # Errors
    /// When PostgreSQL is not running.
    pub fn kill_postgres(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_postgres()
    }

    /// SIGKILL to Patroni and PostgreSQL: the machine is gone. If it led, a user sees no leader until the key has
    /// expired (`ttl`) and another member was promoted. Undone by [`Cluster::start_member`].
    ///
    /// # Errors
    /// When a process does not end.
    pub fn kill_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_all()
    }

    /// SIGKILL to Patroni alone. PostgreSQL stays as it is, so an old leader stays writable beside the new one: a user
    /// who is sent to it loses writes. Undone by [`Cluster::start_member`].
    ///
    /// # Errors
    /// When the process does not end.
    pub fn kill_patroni(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_patroni()
    }

    /// Starts a member's Patroni, if it does not run, which starts PostgreSQL. A user sees nothing.
    ///
    /// # Errors
    /// When the program cannot be started; whether it comes up, [`Cluster::wait_healthy`] says.
    pub fn start_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().start_patroni(&self.user, &self.binaries.patroni)
    }

    /// SIGSTOP to Patroni and every PostgreSQL process: a paused virtual machine. Connections stay, nothing answers.
    /// Undone by [`Cluster::thaw_member`]; by then another member may lead, and the woken one is writable for a moment.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn freeze_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().signal_all(Signal::STOP);
        Ok(())
    }

    /// Undoes [`Cluster::freeze_member`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn thaw_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().signal_all(Signal::CONT);
        Ok(())
    }

    /// Cuts a member's Patroni off from every etcd server. If it led, it demotes itself after `retry_timeout` (unless
    /// failsafe mode holds), and another is promoted when its key has expired. Undone by
    /// [`Cluster::heal_member_from_etcd`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn cut_member_from_etcd(&self, member: &str, mode: LinkMode) -> Result<()> {
        self.node(member)?.links.set_etcd(mode);
        Ok(())
    }

    /// Undoes [`Cluster::cut_member_from_etcd`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn heal_member_from_etcd(&self, member: &str) -> Result<()> {
        self.cut_member_from_etcd(member, LinkMode::Open)
    }

    /// Isolates a member: no etcd, nobody reaches its PostgreSQL or its REST interface, and it reaches no other member's
    /// REST interface. `LinkMode::Paused` is a network that swallows packets. Undone by [`Cluster::heal_member`].
    ///
    /// Links do not know who connects through them, so two things are done otherwise: a replica's walreceiver is stopped
    /// (SIGSTOP), and no member's REST interface can be reached, which with three or more members is more than needed.
    ///
    /// # Errors
    /// When there is no such member, or the data path has no links (`ClusterOptions::data_links`).
    pub fn isolate_member(&self, member: &str, mode: LinkMode) -> Result<()> {
        let node = self.node(member)?;
        ensure!(node.links.postgres.is_some(), "isolating {member} needs ClusterOptions::data_links");
        node.links.set_all(mode);
        node.processes.lock().signal_walreceiver(Signal::STOP);
        for other in self.members.iter().filter(|other| other.member.name != member) {
            other.links.rest.set(mode);
        }
        Ok(())
    }

    /// Undoes [`Cluster::isolate_member`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn heal_member(&self, member: &str) -> Result<()> {
        let node = self.node(member)?;
        node.links.set_all(LinkMode::Open);
        node.processes.lock().signal_walreceiver(Signal::CONT);
        self.members.iter().for_each(|node| node.links.rest.set(LinkMode::Open));
        Ok(())
    }

    /// Sets only the link to a member's PostgreSQL: clients, proxies and replicas lose it, Patroni does not.
    ///
    /// # Errors
    /// When there is no such member or no such link.
    pub fn set_postgres_link(&self, member: &str, mode: LinkMode) -> Result<()> {
        let link = self.node(member)?.links.postgres.as_ref();
        link.with_context(|| format!("{member} has no link: ClusterOptions::data_links is off"))?.set(mode);
        Ok(())
    }

    /// SIGKILL to one etcd server, 0 to 2. A user sees nothing. Undone by [`Cluster::start_etcd`].
    ///
    /// # Errors
    /// When there is no such server or it does not end.
    pub fn kill_etcd(&self, server: usize) -> Result<()> {
        let mut servers = self.etcd.lock();
        servers.get_mut(server).with_context(|| format!("there is no etcd server {server}"))?.kill()
    }

    /// SIGKILL to two of three etcd servers: no quorum, no lease is renewed. The leader demotes itself (or holds, in
    /// failsafe mode); nobody can be promoted. Undone by [`Cluster::start_etcd`].
    ///
    /// # Errors
    /// When a server does not end.
    pub fn lose_etcd_quorum(&self) -> Result<()> {
        self.kill_etcd(1)?;
        self.kill_etcd(2)
    }

    /// Starts every etcd server that does not run, and waits for quorum.
    ///
    /// # Errors
    /// When there is no quorum within 30 seconds.
    pub async fn start_etcd(&self) -> Result<()> {
        for server in self.etcd.lock().iter_mut() {
            server.start(&self.user, &self.binaries.etcd)?;
        }
        self.wait_for_etcd(Duration::from_secs(30)).await
    }

    /// Moves etcd's own leadership to another of its servers; every lease starts anew. A user sees nothing.
    ///
    /// # Errors
    /// When etcd has no leader or refuses.
    pub async fn move_etcd_leader(&self) -> Result<()> {
        etcd::move_leader(&self.etcd_addresses).await.map(drop)
    }

    /// Patroni's maintenance mode (`true`) or back (`false`), and waits until every running member knows. In it nobody
    /// is promoted or demoted, and the leader key may be absent while the primary works on.
    ///
    /// # Errors
    /// When Patroni refuses, or a member does not say so within 30 seconds.
    pub async fn set_pause(&self, pause: bool) -> Result<()> {
        self.patch_config(&json!({ "pause": if pause { Value::Bool(true) } else { Value::Null } })).await?;
        self.poll(&format!("pause: {pause} at every member"), Duration::from_secs(30), async || {
            for member in self.members() {
                let Ok(answer) = http::get(member.rest_direct, "/patroni", REST).await else { continue };
                let known: Value = serde_json::from_str(&answer.body).context("reading /patroni")?;
                let paused = known.get("pause").and_then(Value::as_bool).unwrap_or(false);
                ensure!(paused == pause, "{} says pause: {paused}", member.name);
            }
            Ok(())
        })
        .await
    }

    /// Changes Patroni's dynamic configuration (`PATCH /config`); `null` removes a key.
    ///
    /// # Errors
    /// When no member answers, or it refuses.
    pub async fn patch_config(&self, change: &Value) -> Result<()> {
        let mut last = None;
        for member in self.members() {
            match self.rest(&member.name, ("PATCH", "/config"), &change.to_string(), REST).await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("the cluster has no members")?)
    }

    /// Stops a replica from replaying WAL: it streams on but answers with old data. Undone by
    /// [`Cluster::resume_replay`]. A user of the read route sees lag.
    ///
    /// # Errors
    /// When the member is no replica.
    pub async fn pause_replay(&self, replica: &str) -> Result<()> {
        let server = self.superuser(replica, "postgres").await?;
        server
            .batch_execute("select pg_wal_replay_pause()")
            .await
            .with_context(|| format!("pausing {replica}"))
    }

    /// Undoes [`Cluster::pause_replay`].
    ///
    /// # Errors
    /// When the member is no replica.
    pub async fn resume_replay(&self, replica: &str) -> Result<()> {
        let server = self.superuser(replica, "postgres").await?;
        server
            .batch_execute("select pg_wal_replay_resume()")
            .await
            .with_context(|| format!("resuming {replica}"))
    }

    async fn rest(
        &self,
        member: &str,
        request: (&str, &str),
        body: &str,
        within: Duration,
    ) -> Result<String> {
        let address = self.member(member)?.rest_direct;
        let answer = http::send(address, request, body, within).await?;
        let (method, path) = request;
        ensure!(
            (200..300).contains(&answer.status),
            "{method} {path} at {member}: {} {}",
            answer.status,
            answer.body
        );
        Ok(answer.body)
    }
}
