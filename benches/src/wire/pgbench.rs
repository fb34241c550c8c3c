//! pgbench, PostgreSQL's own load generator, and what a contender spends while it runs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::contenders::Running;
use super::meter::{self, Machine};
use super::protocol::{DATABASE, USER};
use super::stage::Stage;
use super::workshop::{Job, words};

/// Before the measuring, in seconds: all clients are connected and every plan is made.
pub const WARM_UP: u32 = 1;
/// pgbench reports every second; it is looked at more closely when the next report is due.
const REPORT: Duration = Duration::from_secs(1);
const EARLY: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(1);
/// What pgbench may take beyond its time, for connections and for its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Transactions whose time is written down; all of them would cost the generator too much.
const SAMPLING: &str = "--sampling-rate=0.1";
const LOG: &str = "transactions";

/// What was done and spent between two reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Transactions each second.
    pub per_second: f64,
    /// How many there were.
    pub transactions: f64,
    /// What the contender spent on them; nothing where there is none.
    pub cpu: Option<Duration>,
    /// What the whole machine spent.
    pub machine: Duration,
    /// The share of the processors that was busy, 0 to 1.
    pub busy: f64,
    /// The time of a transaction, in microseconds, of those that were written down; in order.
    pub times: Vec<f64>,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// pgbench's own options.
    pub options: &'a [&'a str],
    /// Clients at once.
    pub clients: usize,
    /// libpq's `sslmode`.
    pub sslmode: &'a str,
    /// Whether the time of transactions is wanted.
    pub times: bool,
}

/// Runs it against a contender.
///
/// # Errors
/// When pgbench or the contender fails.
pub fn run(stage: &Stage, running: &mut Running, load: &Load<'_>) -> Result<Window> {
    let workshop = &stage.workshop;
    let seconds = stage.sizes.seconds;
    // One report more than is wanted: the last one may not be made.
    let time = (WARM_UP + seconds + 1).to_string();
    let (clients, threads) = (load.clients.to_string(), load.clients.min(2).to_string());
    let (host, port) = (running.address.ip().to_string(), running.address.port().to_string());
    let prefix = format!("--log-prefix={}", workshop.directory().join(LOG).display());
    let mut arguments: Vec<&OsStr> = words(load.options);
    arguments.extend(words(&["-n", "-P", "1", "-T", &time, "-c", &clients, "-j", &threads]));
    if load.times {
        arguments.extend(words(&["-l", SAMPLING, &prefix]));
    }
    arguments.extend(words(&["-h", &host, "-p", &port, "-U", USER, DATABASE]));
    let environment = [("PGSSLMODE", load.sslmode), ("PGGSSENCMODE", "disable")];
    let job = Job { name: "pgbench", arguments: &arguments, environment: &environment };
    let log = workshop.log(job.name);
    let _ = fs::remove_file(&log);
    drop(take_times(workshop.directory())?);

    let mut process = workshop.start(&workshop.hosts.client, &stage.postgres.program("pgbench"), &job)?;
    let deadline = Instant::now() + REPORT * (WARM_UP + seconds + 1) + PATIENCE;
    let mut wait = |reports: u32| {
        let mut known = Vec::new();
        while known.len() < reports as usize {
            ensure!(Instant::now() < deadline, "pgbench has not made report {reports}: {}", read(&log));
            std::thread::sleep(LOOK);
            known = reports_in(&read(&log));
            if known.is_empty() {
                process.check_running()?;
            }
        }
        Ok(known)
    };
    wait(WARM_UP)?;
    let (before, machine, began) = (spent(running)?, Machine::now()?, Instant::now());
    std::thread::sleep((REPORT * seconds).saturating_sub(EARLY));
    let reports = wait(WARM_UP + seconds)?;
    let (after, elapsed) = (spent(running)?, began.elapsed());
    let (machine, busy) = machine.since()?;
    let status = process.wait(PATIENCE)?;
    running.check_running()?;
    ensure!(status.success(), "pgbench ended ({status}): {}", read(&log));
    let counted = reports.get(WARM_UP as usize..(WARM_UP + seconds) as usize).unwrap_or_default();
    let per_second = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    ensure!(per_second > 0.0, "pgbench did nothing: {}", read(&log));
    Ok(Window {
        per_second,
        transactions: per_second * elapsed.as_secs_f64(),
        cpu: before.zip(after).map(|(before, after)| after.saturating_sub(before)),
        machine,
        busy,
        times: take_times(workshop.directory())?,
    })
}

fn spent(running: &Running) -> Result<Option<Duration>> {
    running.id().map(meter::cpu).transpose()
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// The transactions per second of each report: `progress: 1.0 s, 20895.3 tps, lat 0.047 ms stddev 0.012, 0 failed`.
fn reports_in(log: &str) -> Vec<f64> {
    let reports = log.lines().filter_map(|line| line.strip_prefix("progress: "));
    reports.filter_map(|report| report.split(", ").nth(1)?.strip_suffix(" tps")?.parse().ok()).collect()
}

/// The times of transactions in pgbench's logs, without those of the warm-up; in order. The logs are gone then.
fn take_times(directory: &Path) -> Result<Vec<f64>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).context("reading the workshop's directory")? {
        let entry = entry.context("reading the workshop's directory")?;
        if entry.file_name().to_string_lossy().starts_with(LOG) {
            let text = fs::read_to_string(entry.path()).context("reading pgbench's log")?;
            lines.extend(text.lines().filter_map(transaction));
            fs::remove_file(entry.path()).context("removing pgbench's log")?;
        }
    }
    let first = lines.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let measured = lines.into_iter().filter(|(at, _)| *at >= first + f64::from(WARM_UP));
    let mut times: Vec<f64> = measured.map(|(_, time)| time).collect();
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}

/// When a transaction ended, in seconds, and how long it took, in microseconds. The fields are client, number, time,
/// script, seconds and microseconds.
fn transaction(line: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((fields.get(4)? + fields.get(5)? / 1e6, *fields.get(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_among_other_lines() {
        let log = "pgbench (15.14)\nprogress: 1.0 s, 20895.3 tps, lat 0.047 ms stddev 0.012, 0 failed\n\
                   progress: 2.0 s, 3.5 tps, lat 0.047 ms stddev 0.012, 0 failed\nprogress: 3";
        assert_eq!(reports_in(log), [20895.3, 3.5]);
    }

    #[test]
    fn a_transaction_has_an_end_and_a_length() {
        assert_eq!(transaction("0 199 2241 0 1175850568 500000"), Some((1_175_850_568.5, 2241.0)));
        assert_eq!(transaction("0 199 failed 0 1175850568 995598"), None);
    }
}
