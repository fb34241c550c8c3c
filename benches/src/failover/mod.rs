//! The failover benchmark: what clients see of switchovers and leader crashes, by the way they connect to the leader.
//!
//! A run starts one cluster and every setup ([`Setup`]) in front of it, and triggers its events (`event`). What the clients
//! of each setup recorded is evaluated (`evaluate`), stored (`results`) and reported (`report`). Two smaller questions have
//! runs of their own: `needless` and `abandoned`.

mod abandoned;
mod evaluate;
mod event;
mod needless;
mod report;
mod results;
mod setups;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Cluster, ClusterOptions, DATABASE, KeyWatch, http};

use self::event::Experiment;
use self::results::{Kind, Run};
use self::setups::RunningSetups;
use crate::machine::{Machine, first_line};
use crate::output::Output;

pub use self::setups::Setup;

/// All clients that were held log in at the same time, beside the sessions of the other setups.
const MAX_CONNECTIONS: u32 = 500;
/// How many events may fail before the run is given up.
const MAX_SKIPPED: usize = 3;
/// A response of one of the cluster's programs.
const RESPONSE: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number of switchovers.
    pub switchovers: usize,
    /// The number of leader crashes.
    pub crashes: usize,
    /// The setups that take part.
    pub setups: Vec<Setup>,
    /// Where the results go.
    pub output: Output,
    /// A directory for the proxy's log and its own reports.
    pub diagnosis: Option<PathBuf>,
    /// Settings of the proxy, `key=value`, for experiments.
    pub proxy_settings: Vec<String>,
}

/// What to run of the parts `needless` and `abandoned`.
#[derive(Clone, Debug)]
pub struct Trials {
    /// How often everything is done.
    pub rounds: usize,
    /// The setups that take part, where several do.
    pub setups: Vec<Setup>,
    /// Where the results go.
    pub output: Output,
    /// Settings of the proxy, `key=value`, for experiments.
    pub proxy_settings: Vec<String>,
}

/// Counts the sessions that end although the leader keeps its role, and prints them fault by fault.
///
/// # Errors
/// When the cluster or a setup does not start, a fault cannot be caused or undone, or a file cannot be written.
pub async fn run_needless(trials: &Trials, out: &mut impl Write) -> Result<()> {
    needless::run(trials, out).await
}

/// Measures when waiting clients are served if most of those that wait have given up, and prints each crash of a leader.
///
/// # Errors
/// When the cluster or the proxy does not start, a crash cannot be measured, or a file cannot be written.
pub async fn run_abandoned(trials: &Trials, out: &mut impl Write) -> Result<()> {
    abandoned::run(trials, out).await
}

/// Runs it, and prints each event. The results are written after every event, so a run that is broken off leaves what it
/// had.
///
/// # Errors
/// When the cluster or a setup does not start, more than three events fail, or a file cannot be written.
pub async fn run(plan: &Plan, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Starting the cluster and {} setups …", plan.setups.len())?;
    let options =
        ClusterOptions { data_links: false, max_connections: MAX_CONNECTIONS, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await?;
    mark_rows(&cluster).await?;
    let running = RunningSetups::start(&cluster, &plan.setups, &plan.proxy_settings).await?;
    let keys = KeyWatch::start(&cluster).await?;
    let mut run = Run {
        machine: Machine::describe(programs(&cluster).await?),
        settings: setups::settings(&cluster, &plan.proxy_settings),
        setups: plan.setups.iter().map(|setup| setup.name().to_owned()).collect(),
        events: Vec::new(),
        skipped: Vec::new(),
    };
    let experiment = Experiment { cluster: &cluster, running: &running, keys: &keys };
    for (number, kind) in (1..).zip(order(plan.switchovers, plan.crashes)) {
        match experiment.run(number, kind).await {
            Ok(event) => {
                writeln!(out, "{}", report::event(&event))?;
                run.events.push(event);
            }
            Err(error) => {
                writeln!(out, "{number}. not evaluated: {error:#}")?;
                run.skipped.push(format!("event {number}: {}", error.root_cause()));
                ensure!(run.skipped.len() <= MAX_SKIPPED, "{} events have failed", run.skipped.len());
            }
        }
        out.flush()?;
        plan.output.save(&run)?;
        if let Some(directory) = &plan.diagnosis {
            diagnose(&running, directory).await?;
        }
    }
    plan.output.publish(&run, out)
}

/// Writes page and chart again, from the JSON of an earlier run.
///
/// # Errors
/// When there is none, or a file cannot be written.
pub fn show_again(plan: &Plan, out: &mut impl Write) -> Result<()> {
    plan.output.publish(&plan.output.load::<Run>()?, out)
}

/// Makes every row say which setup wrote it.
async fn mark_rows(cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader().await?.context("nobody holds the leader key")?;
    cluster
        .superuser(&leader, DATABASE)
        .await?
        .batch_execute("alter table writes add setup text default current_setting('application_name')")
        .await
        .context("adding the setup's name to the rows")
}

/// The versions of the cluster's programs.
async fn programs(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let member = cluster.members().next().context("the cluster has no members")?;
    let server = cluster.superuser(&member.name, "postgres").await?;
    let postgres: String =
        server.query_one("show server_version", &[]).await.context("asking PostgreSQL")?.get(0);
    let patroni = http::get(member.rest_direct, "/patroni", RESPONSE).await?.body;
    let etcd = cluster.etcd_direct().first().context("the cluster has no etcd server")?;
    let etcd = http::get(*etcd, "/version", RESPONSE).await?.body;
    let field = |json: &str, path: &str| {
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        value.pointer(path).and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned()
    };
    let haproxy = first_line("haproxy", &["-v"]);
    let found = [
        ("PostgreSQL", postgres.split(' ').next().unwrap_or_default().to_owned()),
        ("Patroni", field(&patroni, "/patroni/version")),
        ("etcd", field(&etcd, "/etcdserver")),
        ("HAProxy", haproxy.split_whitespace().nth(2).unwrap_or("unknown").to_owned()),
    ];
    Ok(found.into_iter().map(|(name, version)| (name.to_owned(), version)).collect())
}

/// The crashes, spread evenly between the switchovers.
fn order(switchovers: usize, crashes: usize) -> Vec<Kind> {
    let all = switchovers + crashes;
    let crashes_by = |event: usize| event * crashes / all.max(1);
    let kind = |event| {
        if crashes_by(event + 1) > crashes_by(event) { Kind::LeaderCrash } else { Kind::Switchover }
    };
    (0..all).map(kind).collect()
}

async fn diagnose(running: &RunningSetups, directory: &Path) -> Result<()> {
    let Some(proxy) = &running.proxy else { return Ok(()) };
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    fs::write(directory.join("proxy.log"), proxy.log()?).context("copying the proxy's log")?;
    for page in ["failovers", "routing", "metrics"] {
        let text =
            proxy.get(&format!("/{page}")).await.map_or_else(|error| error.to_string(), |got| got.body);
        fs::write(directory.join(page), text).with_context(|| format!("copying the proxy's /{page}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_are_spread_between_switchovers() {
        use Kind::{LeaderCrash, Switchover};
        assert_eq!(order(2, 1), [Switchover, Switchover, LeaderCrash]);
        assert_eq!(order(10, 5).iter().filter(|kind| **kind == LeaderCrash).count(), 5);
        assert_eq!(order(0, 2), [LeaderCrash, LeaderCrash]);
        assert!(order(0, 0).is_empty());
    }
}
