//! The machine: what it is, what it runs, and how busy it was.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Cluster, http};
use tokio::task::JoinHandle;

use crate::results::Machine;

/// Between two looks at the processor.
const SAMPLE: Duration = Duration::from_millis(100);
/// Before and after a moment.
const AROUND: Duration = Duration::from_millis(500);
/// An answer of one of the cluster's programs.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the machine and the cluster's programs what they are.
///
/// # Errors
/// When a program of the cluster does not say its version.
pub async fn describe(cluster: &Cluster) -> Result<Machine> {
    Ok(with_programs(programs(cluster).await?))
}

/// Asks the machine what it is; the programs are known.
#[must_use]
pub fn with_programs(programs: BTreeMap<String, String>) -> Machine {
    let memory = line_of("/proc/meminfo", "MemTotal:").unwrap_or_default();
    let memory_kib: u64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Machine {
        date: said_by("date", &["-u", "+%Y-%m-%d %H:%M"]),
        commit: said_by("git", &["describe", "--always", "--dirty", "--exclude=*"]),
        processor: line_of("/proc/cpuinfo", "model name").unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: memory_kib / 1024,
        system: line_of("/etc/os-release", "PRETTY_NAME=").unwrap_or_default().replace('"', ""),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        programs,
    }
}

async fn programs(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let member = cluster.members().next().context("a cluster without members")?;
    let server = cluster.superuser(&member.name, "postgres").await?;
    let postgres: String =
        server.query_one("show server_version", &[]).await.context("asking PostgreSQL")?.get(0);
    let patroni = http::get(member.rest_direct, "/patroni", ANSWER).await?.body;
    let etcd = cluster.etcd_direct().first().context("a cluster without etcd")?;
    let etcd = http::get(*etcd, "/version", ANSWER).await?.body;
    let haproxy = said_by("haproxy", &["-v"]);
    let text = |json: &str, path: &str| {
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        value.pointer(path).and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned()
    };
    let found = [
        ("PostgreSQL", postgres.split(' ').next().unwrap_or_default().to_owned()),
        ("Patroni", text(&patroni, "/patroni/version")),
        ("etcd", text(&etcd, "/etcdserver")),
        ("HAProxy", haproxy.split_whitespace().nth(2).unwrap_or("unknown").to_owned()),
        ("rustc", rustc()),
    ];
    Ok(found.into_iter().map(|(name, version)| (name.to_owned(), version)).collect())
}

/// The version of the compiler.
#[must_use]
pub fn rustc() -> String {
    said_by("rustc", &["--version"]).split(' ').nth(1).unwrap_or("unknown").to_owned()
}

/// A program's first line; "unknown" when it cannot be asked.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
}

/// What follows `key` in the first line that begins with it.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.trim_start_matches([':', ' ', '\t']).trim().to_owned())
}

/// Watches how busy the cores are. Ends when dropped.
#[derive(Debug)]
pub struct BusyWatch {
    samples: Arc<Mutex<Vec<Sample>>>,
    watcher: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    /// Clock ticks since boot, over all cores.
    busy: u64,
    all: u64,
}

impl BusyWatch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&samples);
        let watcher = tokio::spawn(async move {
            loop {
                if let Some((busy, all)) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(ticks) {
                    let sample = Sample { at: Instant::now(), busy, all };
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                }
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Self { samples, watcher }
    }

    /// The busy share of all cores in the second around a moment, 0 to 1.
    #[must_use]
    pub fn around(&self, moment: Instant) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let first = samples.iter().rfind(|sample| sample.at + AROUND <= moment).or_else(|| samples.first());
        let last = samples.iter().find(|sample| sample.at >= moment + AROUND).or_else(|| samples.last());
        let (Some(first), Some(last)) = (first, last) else { return 0.0 };
        let all = last.all.saturating_sub(first.all).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a second has a few hundred ticks")]
        let share = last.busy.saturating_sub(first.busy) as f64 / all as f64;
        share
    }
}

impl Drop for BusyWatch {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Busy and all ticks. The fields are user, nice, system, idle, iowait, irq, softirq, steal; guests count in user.
pub(crate) fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = ticks.iter().sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_not_busy() {
        assert_eq!(ticks("cpu  10 1 20 60 5 1 2 1 0 0\ncpu0 1 2 3\n"), Some((35, 100)));
        assert_eq!(ticks("intr 1"), None);
    }
}
