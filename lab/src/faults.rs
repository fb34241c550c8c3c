//! The faults, one method each, with the method that undoes it.
//!
//! "Clients see" means clients that write through a proxy that follows the leader.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::etcd;
use crate::http;
use crate::link::LinkMode;

/// A switchover includes a checkpoint and the shutdown of the old leader.
const SWITCHOVER: Duration = Duration::from_secs(90);
/// One response of Patroni's REST interface.
const REST: Duration = Duration::from_secs(15);

impl Cluster {
    /// A switchover from the current leader to `candidate`, through Patroni's REST interface. Returns when Patroni says
    /// that it is done. Clients see sessions end with 57P01, and no leader for a few seconds.
    ///
    /// # Errors
    /// When there is no leader, or Patroni refuses; the error has Patroni's message.
    pub async fn switchover(&self, candidate: &str) -> Result<()> {
        let leader = self.leader().await?.context("a switchover needs a leader")?;
        let body = json!({"leader": leader, "candidate": candidate}).to_string();
        self.rest(&leader, ("POST", "/switchover"), &body, SWITCHOVER).await.map(drop)
    }

    /// Lets a replica's Patroni delete its data and copy the leader's, whatever it is doing. Does not wait for the copy: see
    /// [`Cluster::wait_healthy`].
    ///
    /// # Errors
    /// When Patroni refuses; the error has its message.
    pub async fn reinitialize(&self, replica: &str) -> Result<()> {
        let body = json!({"force": true}).to_string();
        self.rest(replica, ("POST", "/reinitialize"), &body, REST).await.map(drop)
    }

    /// SIGKILL to PostgreSQL with all its backends. Patroni keeps running, keeps the leader key and restarts PostgreSQL.
    /// Clients see broken sessions, and a leader that does not answer or is in recovery until it is up again.
    ///
    /// # Errors
    /// When PostgreSQL is not running.
    pub fn kill_postgres(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_postgres()
    }

    /// SIGKILL to Patroni and PostgreSQL, as when a machine crashes. If the member led, clients see no leader until the
    /// key has expired (`ttl`) and another member is promoted. Undone by [`Cluster::start_member`].
    ///
    /// # Errors
    /// When a process does not end.
    pub fn kill_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_all()
    }

    /// SIGKILL to Patroni alone. PostgreSQL stays as it is, so an old leader stays writable beside the new one, and
    /// clients that write to it lose these writes. Undone by [`Cluster::start_member`].
    ///
    /// # Errors
    /// When the process does not end.
    pub fn kill_patroni(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().kill_patroni()
    }

    /// Starts a member's Patroni if it is not running. Patroni then starts PostgreSQL. Does not wait:
    /// see [`Cluster::wait_healthy`].
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_member(&self, member: &str) -> Result<()> {
        self.start_patroni(self.node(member)?)
    }

    /// SIGSTOP to Patroni and every PostgreSQL process, as when a virtual machine is paused: connections stay, nothing
    /// answers. Undone by [`Cluster::thaw_member`]. If another member leads by then, this one is writable for a moment.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn freeze_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().signal_all(Signal::STOP);
        Ok(())
    }

    /// SIGSTOP to every PostgreSQL process of a member: its connections stay, nothing answers, and Patroni hangs in its
    /// next query. Undone by [`Cluster::thaw_member`].
    ///
    /// # Errors
    /// When PostgreSQL is not running.
    pub fn stop_postgres(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().stop_postgres()
    }

    /// SIGSTOP to a member's Patroni. PostgreSQL goes on, and stays writable if it was, also when another member leads by
    /// then. Undone by [`Cluster::thaw_member`].
    ///
    /// # Errors
    /// When Patroni is not running.
    pub fn stop_patroni(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().stop_patroni()
    }

    /// Stops a replica from receiving WAL: to the leader it looks as if the network between the two were gone. Undone by
    /// [`Cluster::heal_member`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn stop_replication(&self, replica: &str) -> Result<()> {
        self.node(replica)?.processes.lock().signal_walreceiver(Signal::STOP);
        Ok(())
    }

    /// Promotes a replica behind Patroni's back, which then demotes it again. Clients see nothing. Its timeline is then
    /// above the leader's, which a rewind does not always undo: see [`Cluster::reinitialize`].
    ///
    /// # Errors
    /// When the member is not a replica.
    pub async fn promote_by_hand(&self, replica: &str) -> Result<()> {
        self.call(replica, "pg_promote()").await
    }

    /// Makes everything that passes between a member's PostgreSQL and others 200 ms slower, in each direction. Undone by
    /// [`Cluster::heal_member`].
    ///
    /// # Errors
    /// When there is no such member, or the data path has no links (`ClusterOptions::data_links`).
    pub fn slow_member(&self, member: &str) -> Result<()> {
        let link = &self.node(member)?.links.postgres;
        link.as_ref().context("slowing a member needs ClusterOptions::data_links")?.set(LinkMode::Slow);
        Ok(())
    }

    /// Makes a member's PostgreSQL refuse new connections, while those that are open go on. Undone by
    /// [`Cluster::heal_member`].
    ///
    /// # Errors
    /// When there is no such member, or the data path has no links (`ClusterOptions::data_links`).
    pub fn refuse_new_connections(&self, member: &str) -> Result<()> {
        let link = &self.node(member)?.links.postgres;
        link.as_ref()
            .context("refusing connections needs ClusterOptions::data_links")?
            .set(LinkMode::RefusesNew);
        Ok(())
    }

    /// Undoes [`Cluster::freeze_member`] and [`Cluster::stop_postgres`].
    ///
    /// # Errors
    /// When there is no such member.
    pub fn thaw_member(&self, member: &str) -> Result<()> {
        self.node(member)?.processes.lock().signal_all(Signal::CONT);
        Ok(())
    }

    /// Cuts a member's Patroni off from every etcd server. If it led, it demotes itself after `retry_timeout` (not in
    /// failsafe mode), and another member is promoted when the key has expired. Undone by
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

    /// Isolates a member: it does not reach etcd or another member's REST interface, and nobody reaches its PostgreSQL or
    /// its REST interface. Undone by [`Cluster::heal_member`].
    ///
    /// A link does not know who connects through it. So the walreceiver of a replica is stopped by SIGSTOP instead, and
    /// nobody reaches any member's REST interface, which is more than needed with three or more members.
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

    /// SIGKILL to one etcd server, 0 to 2. Clients see nothing. Undone by [`Cluster::start_etcd`].
    ///
    /// # Errors
    /// When there is no such server or it does not end.
    pub fn kill_etcd(&self, server: usize) -> Result<()> {
        let mut servers = self.etcd.lock();
        servers.get_mut(server).with_context(|| format!("there is no etcd server {server}"))?.kill()
    }

    /// SIGKILL to two of three etcd servers: without quorum no lease is renewed. The leader demotes itself (not in failsafe
    /// mode), and no member can be promoted. Undone by [`Cluster::start_etcd`].
    ///
    /// # Errors
    /// When a server does not end.
    pub fn lose_etcd_quorum(&self) -> Result<()> {
        self.kill_etcd(1)?;
        self.kill_etcd(2)
    }

    /// Starts every etcd server that is not running, and waits for quorum.
    ///
    /// # Errors
    /// When there is no quorum within 30 seconds.
    pub async fn start_etcd(&self) -> Result<()> {
        self.start_etcd_servers()?;
        self.wait_for_etcd(Duration::from_secs(30)).await
    }

    /// Moves etcd's own leadership to another of its servers, which renews every lease. Clients see nothing.
    ///
    /// # Errors
    /// When etcd has no leader or refuses.
    pub async fn move_etcd_leader(&self) -> Result<()> {
        etcd::move_leader(&self.etcd_addresses).await
    }

    /// Turns Patroni's maintenance mode on or off, and waits until every running member has seen it. In it no member is
    /// promoted or demoted, and the primary works on even when the leader key is absent.
    ///
    /// # Errors
    /// When Patroni refuses, or a member has not seen it within 30 seconds.
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
    async fn patch_config(&self, change: &Value) -> Result<()> {
        let mut last = None;
        for member in self.members() {
            match self.rest(&member.name, ("PATCH", "/config"), &change.to_string(), REST).await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("the cluster has no members")?)
    }

    /// Stops a replica from replaying WAL: it goes on streaming but answers with old data. Clients of the read route see
    /// lag. Undone by [`Cluster::resume_replay`].
    ///
    /// # Errors
    /// When the member is not a replica.
    pub async fn pause_replay(&self, replica: &str) -> Result<()> {
        self.call(replica, "pg_wal_replay_pause()").await
    }

    /// Undoes [`Cluster::pause_replay`].
    ///
    /// # Errors
    /// When the member is not a replica.
    pub async fn resume_replay(&self, replica: &str) -> Result<()> {
        self.call(replica, "pg_wal_replay_resume()").await
    }

    pub(crate) async fn call(&self, member: &str, function: &str) -> Result<()> {
        let server = self.superuser(member, "postgres").await?;
        let statement = format!("select {function}");
        server.batch_execute(&statement).await.with_context(|| format!("calling {function} at {member}"))
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
