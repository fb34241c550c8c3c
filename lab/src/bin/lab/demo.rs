//! `lab demo`: a planned switchover and the death of a leader, with live writers behind the proxy.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Cluster, ClusterOptions, History, KeyHistory, KeyWatch, Proxy, TOLERANCE, Writers};

use crate::up::describe_proxy;

const OBSERVER: &str = "proxy";
/// Every single wait of the demo. The longest is the leader key's expiry, 20 seconds and a bit.
const PATIENCE: Duration = Duration::from_secs(90);
/// Writes before and after each event, so that its gap stands between two busy times.
const CALM: usize = 300;

/// Runs it all. The cluster replicates synchronously, so that no acknowledged write may be lost whatever dies.
pub(crate) async fn demo(stay: bool, out: &mut impl Write) -> Result<()> {
    let began = Instant::now();
    writeln!(out, "Starting three etcd servers, two Patroni members with PostgreSQL, and the proxy …")?;
    let cluster =
        Cluster::start(ClusterOptions { synchronous_mode: true, ..ClusterOptions::default() }).await?;
    let proxy = Proxy::start(&cluster.proxy_command(OBSERVER)?).await?;
    writeln!(out, "Up after {} s.\n", began.elapsed().as_secs())?;
    describe_proxy(&cluster, &proxy, out)?;

    let stage = Stage { cluster: &cluster, keys: KeyWatch::start(&cluster).await? };
    let leader = cluster.wait_healthy(PATIENCE).await?;
    let next = cluster.others(&leader).first().cloned().context("the cluster has one member only")?;
    writeln!(out, "\nPlanned switchover from {leader} to {next}, four clients writing:")?;
    stage.show(&next, cluster.switchover(&next), out).await?;
    cluster.wait_healthy(PATIENCE).await?;

    writeln!(out, "\nDeath of the leader: SIGKILL to {next}'s Patroni and PostgreSQL.")?;
    let ttl = cluster.options().ttl;
    writeln!(out, "Nobody may lead before its key has expired, up to {ttl} s later (Patroni's ttl):")?;
    stage.show(&leader, async { cluster.kill_member(&next) }, out).await?;
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

struct Stage<'a> {
    cluster: &'a Cluster,
    keys: KeyWatch,
}

impl Stage<'_> {
    /// Lets an event happen under load and prints what followed, until `heir` has taken writes again.
    async fn show(
        &self,
        heir: &str,
        event: impl Future<Output = Result<()>>,
        out: &mut impl Write,
    ) -> Result<()> {
        let cluster = self.cluster;
        let writers = Writers::start(cluster.load(cluster.proxy_addresses(OBSERVER)?.write))?;
        writers.wait_for_more(CALM, PATIENCE).await?;
        let began = Instant::now();
        let promoted = tokio::spawn(cluster.out_of_recovery(heir, PATIENCE)?);
        event.await?;
        let promoted = promoted.await??;
        writers.wait_for_more(CALM, PATIENCE).await?;
        let history = writers.stop().await;
        let keys = self.keys.history();
        let first = history.first_by(heir, began).context("no write reached the new leader")?;
        let mut steps = vec![
            (began, "it begins".to_owned()),
            (promoted, format!("{heir} left recovery (asked directly)")),
            (first.acknowledged, format!("first write acknowledged by {heir} through the proxy")),
        ];
        if let Some(event) = keys.deleted_after(began) {
            steps.push((event.at, "leader key gone from etcd".to_owned()));
        }
        if let Some(event) = keys.taken_after(began) {
            steps.push((event.at, format!("leader key taken by {heir}")));
        }
        steps.sort_by_key(|(at, _)| *at);
        for (at, step) in steps {
            writeln!(out, "{:>9} ms  {step}", at.saturating_duration_since(began).as_millis())?;
        }
        self.verdict(&history, &keys, heir, out).await
    }

    async fn verdict(
        &self,
        history: &History,
        keys: &KeyHistory,
        leader: &str,
        out: &mut impl Write,
    ) -> Result<()> {
        let gap = history.longest_write_downtime().length().as_millis();
        writeln!(out, "  {gap} ms without an acknowledged write; {} written", history.acknowledged.len())?;
        let kinds = history.errors_by_kind();
        let errors: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        writeln!(out, "  errors the clients saw: {errors}; hung: {}", history.hung())?;
        let strays = history.stale_leader_writes(keys, TOLERANCE).len();
        let lost = history.lost(self.cluster, leader).await?.len();
        writeln!(
            out,
            "  on a read-only server: {}; by the old leader after the new one had the key: {strays}; \
                       acknowledged and lost: {lost}",
            history.read_only_errors()
        )?;
        out.flush()?;
        Ok(())
    }
}
