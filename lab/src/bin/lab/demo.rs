//! `lab demo`: a planned switchover and a leader crash, with writers connected through the proxy.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Cluster, ClusterOptions, History, KeyHistory, KeyWatch, Proxy, TOLERANCE, Writers, left_recovery};

use crate::up::{PROXY, describe_proxy};

/// Bound of each single wait. The longest is for the leader key to expire, a bit more than 20 seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Writes before and after each event, so that its downtime lies between two busy times.
const STEADY_WRITES: usize = 300;

/// Runs it all. Replication is synchronous, so a crash must not lose an acknowledged write.
pub(crate) async fn demo(stay: bool, out: &mut impl Write) -> Result<()> {
    let began = Instant::now();
    writeln!(out, "Starting three etcd servers, two Patroni members with PostgreSQL, and the proxy …")?;
    let cluster =
        Cluster::start(ClusterOptions { synchronous_mode: true, ..ClusterOptions::default() }).await?;
    let proxy = Proxy::start(&cluster.proxy_command(PROXY)?).await?;
    writeln!(out, "Up after {} s.\n", began.elapsed().as_secs())?;
    describe_proxy(&cluster, &proxy, out)?;

    let demo = Demo { cluster: &cluster, keys: KeyWatch::start(&cluster).await? };
    let leader = cluster.wait_healthy(PATIENCE).await?;
    let next = cluster.others(&leader).first().cloned().context("the cluster has only one member")?;
    writeln!(out, "\nPlanned switchover from {leader} to {next}, with four clients writing:")?;
    demo.show(&next, cluster.switchover(&next), out).await?;
    cluster.wait_healthy(PATIENCE).await?;

    writeln!(out, "\nLeader crash: SIGKILL to {next}'s Patroni and PostgreSQL.")?;
    let ttl = cluster.options().ttl;
    writeln!(
        out,
        "No other member may lead before the leader key has expired, up to {ttl} s (Patroni's ttl):"
    )?;
    demo.show(&leader, async { cluster.kill_member(&next) }, out).await?;
    cluster.start_member(&next)?;

    if !stay {
        return Ok(());
    }
    cluster.wait_healthy(PATIENCE).await?;
    writeln!(out, "\nEverything keeps running until Ctrl-C; {next} is back as a replica.")?;
    describe_proxy(&cluster, &proxy, out)?;
    out.flush()?;
    std::future::pending().await
}

struct Demo<'a> {
    cluster: &'a Cluster,
    keys: KeyWatch,
}

impl Demo<'_> {
    /// Triggers an event under load and prints what followed, until `new_leader` has acknowledged writes.
    async fn show(
        &self,
        new_leader: &str,
        event: impl Future<Output = Result<()>>,
        out: &mut impl Write,
    ) -> Result<()> {
        let cluster = self.cluster;
        let writers = Writers::start(cluster.load(cluster.proxy_addresses(PROXY)?.write))?;
        writers.wait_for_more(STEADY_WRITES, PATIENCE).await?;
        let session = cluster.superuser(new_leader, "postgres").await?;
        let promoted = tokio::spawn(left_recovery(session, PATIENCE));
        let began = Instant::now();
        event.await?;
        let promoted = promoted.await??;
        writers.wait_for_more(STEADY_WRITES, PATIENCE).await?;
        let history = writers.stop().await;
        let keys = self.keys.history();
        let first = history.first_by(new_leader, began).context("no write reached the new leader")?;
        let mut steps = vec![
            (began, "the event begins".to_owned()),
            (promoted.seen, format!("{new_leader} left recovery (asked directly)")),
            (first.acknowledged, format!("first write acknowledged by {new_leader} through the proxy")),
        ];
        if let Some(event) = keys.deleted_after(began) {
            steps.push((event.at, "leader key gone from etcd".to_owned()));
        }
        if let Some(event) = keys.taken_after(began) {
            steps.push((event.at, format!("leader key taken by {new_leader}")));
        }
        steps.sort_by_key(|(at, _)| *at);
        for (at, step) in steps {
            writeln!(out, "{:>9} ms  {step}", at.saturating_duration_since(began).as_millis())?;
        }
        self.summarize(&history, &keys, new_leader, out).await
    }

    async fn summarize(
        &self,
        history: &History,
        keys: &KeyHistory,
        leader: &str,
        out: &mut impl Write,
    ) -> Result<()> {
        let downtime = history.longest_write_downtime().length().as_millis();
        writeln!(out, "  write downtime: {downtime} ms; {} writes acknowledged", history.acknowledged.len())?;
        let kinds = history.errors_by_kind();
        let errors: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        writeln!(out, "  errors that clients saw: {errors}; hung: {}", history.hung())?;
        writeln!(
            out,
            "  writes sent to a read-only server: {}; acknowledged by the former leader after the key changed hands: {}; \
             acknowledged but lost: {}",
            history.read_only_errors(),
            history.stale_leader_writes(keys, TOLERANCE).len(),
            history.lost(self.cluster, leader).await?.len(),
        )?;
        out.flush()?;
        Ok(())
    }
}
