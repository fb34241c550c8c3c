//! pgbench, PostgreSQL's own load generator, and what a setup uses while it runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::environment::Environment;
use super::protocol::{DATABASE, USER};
use super::results::Figures;
use super::setups::RunningSetup;
use crate::usage::{self, CpuTime};

/// Seconds before the measurement, in which all clients connect and plan.
const WARM_UP: u32 = 1;
/// pgbench reports once a second.
const REPORT: Duration = Duration::from_secs(1);
/// How long before a report is due its log is polled.
const EARLY: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(1);
/// The time that pgbench may take beyond its own, to connect and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// pgbench logs the time of one transaction in ten; all of them would cost it too much.
const SAMPLING: &str = "--sampling-rate=0.1";
/// The prefix of these logs.
const TRANSACTIONS: &str = "transactions";

/// What was done and used between two reports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) transactions_per_second: f64,
    /// The number of transactions.
    transactions: f64,
    /// The processor time of the setup; none without a proxy.
    setup_cpu: Option<Duration>,
    /// The processor time of the whole machine.
    machine_cpu: Duration,
    /// The busy share of all cores, 0 to 1.
    busy: f64,
    /// The times of the logged transactions, in microseconds and in order.
    pub(crate) times_us: Vec<f64>,
}

impl Window {
    /// Transactions per second, and the processor time of each.
    pub(crate) fn figures(&self) -> Figures {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.transactions;
        let mut figures = vec![
            ("per_second", self.transactions_per_second),
            ("machine_us", each(self.machine_cpu)),
            ("busy_share", self.busy),
        ];
        figures.extend(self.setup_cpu.map(|cpu| ("cpu_us", each(cpu))));
        figures
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    /// pgbench's own options.
    pub(crate) options: &'a [&'a str],
    /// Clients at the same time.
    pub(crate) clients: usize,
    /// libpq's `sslmode`.
    pub(crate) sslmode: &'a str,
    /// Whether to log the times of transactions.
    pub(crate) times: bool,
}

/// Runs it through a setup.
pub(crate) fn run(environment: &Environment, setup: &mut RunningSetup, load: &Load<'_>) -> Result<Window> {
    let sandbox = &environment.sandbox;
    let seconds = environment.sizes.seconds;
    let log = sandbox.directory().join("pgbench.log");
    let _ = fs::remove_file(&log);
    drop(take_times(sandbox.directory())?);

    let mut command = sandbox.command(&sandbox.hosts.client, &environment.postgres.program("pgbench"));
    // One report more than needed, because pgbench may end without the last one.
    let time = (WARM_UP + seconds + 1).to_string();
    let (clients, threads) = (load.clients.to_string(), load.clients.min(2).to_string());
    command.args(load.options).args(["-n", "-P", "1", "-T", &time, "-c", &clients, "-j", &threads]);
    if load.times {
        let prefix = sandbox.directory().join(TRANSACTIONS);
        command.args(["-l", SAMPLING]).arg(format!("--log-prefix={}", prefix.display()));
    }
    command.args(["-h", &setup.address.ip().to_string(), "-p", &setup.address.port().to_string()]);
    command.args(["-U", USER, DATABASE]);
    command.envs([("PGSSLMODE", load.sslmode), ("PGGSSENCMODE", "disable")]);
    let mut process = sandbox.start("pgbench", command)?;

    let deadline = Instant::now() + REPORT * (WARM_UP + seconds + 1) + PATIENCE;
    let mut wait_for_reports = |count: u32| {
        let mut reports = Vec::new();
        while reports.len() < count as usize {
            ensure!(Instant::now() < deadline, "pgbench has not made report {count}: {}", read(&log));
            std::thread::sleep(POLL);
            reports = reports_in(&read(&log));
            if reports.is_empty() {
                process.check_running()?;
            }
        }
        Ok(reports)
    };
    wait_for_reports(WARM_UP)?;
    let (before, machine, began) = (cpu_of(setup)?, CpuTime::now()?, Instant::now());
    std::thread::sleep((REPORT * seconds).saturating_sub(EARLY));
    let reports = wait_for_reports(WARM_UP + seconds)?;
    let (after, elapsed) = (cpu_of(setup)?, began.elapsed());
    let (machine_cpu, busy) = CpuTime::now()?.since(&machine);
    let status = process.wait(PATIENCE)?;
    setup.check_running()?;
    ensure!(status.success(), "pgbench ended ({status}): {}", read(&log));
    let counted = reports.get(WARM_UP as usize..(WARM_UP + seconds) as usize).unwrap_or_default();
    let transactions_per_second = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    ensure!(transactions_per_second > 0.0, "pgbench did nothing: {}", read(&log));
    Ok(Window {
        transactions_per_second,
        transactions: transactions_per_second * elapsed.as_secs_f64(),
        setup_cpu: before.zip(after).map(|(before, after)| after.saturating_sub(before)),
        machine_cpu,
        busy,
        times_us: take_times(sandbox.directory())?,
    })
}

fn cpu_of(setup: &RunningSetup) -> Result<Option<Duration>> {
    setup.id().map(usage::cpu).transpose()
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// The transactions per second of each report: `progress: 1.0 s, 20895.3 tps, lat 0.047 ms stddev 0.012, 0 failed`.
fn reports_in(log: &str) -> Vec<f64> {
    let reports = log.lines().filter_map(|line| line.strip_prefix("progress: "));
    reports.filter_map(|report| report.split(", ").nth(1)?.strip_suffix(" tps")?.parse().ok()).collect()
}

/// The times in pgbench's logs of transactions, without the warm-up, in order. Removes the logs.
fn take_times(directory: &Path) -> Result<Vec<f64>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).context("listing pgbench's logs")? {
        let entry = entry.context("listing pgbench's logs")?;
        if entry.file_name().to_string_lossy().starts_with(TRANSACTIONS) {
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

/// When a transaction ended, in seconds, and how long it took, in microseconds. The fields of a line are client, number,
/// time, script, seconds and microseconds.
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
    fn a_line_of_the_log_has_an_end_and_a_time() {
        assert_eq!(transaction("0 199 2241 0 1175850568 500000"), Some((1_175_850_568.5, 2241.0)));
        assert_eq!(transaction("0 199 failed 0 1175850568 995598"), None);
    }
}
