//! The program `torture`: one run of a seed, and its verdict.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use torture::{Kind, Plan, Schedule, Setup, run};

/// Registers and lists through two proxies on a real cluster, under the random faults of a seed, judged by porcupine.
///
/// It exits with 1 when there was an anomaly of this project's proxies, or when they did not forward again after the last fault.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the schedule comes from. Without it, a random one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults strike. Start, recovery and judgement take two or three minutes more.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The ways to the leader, side by side; can be repeated.
    #[arg(long, value_name = "NAME", default_values = ["pg-leader-proxy"])]
    setup: Vec<Setup>,
    /// The replication.
    #[arg(long, value_name = "MODE", default_value = "sync")]
    replication: Replication,
    /// PostgreSQL members.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    members: u8,
    /// Where everything goes: schedule, story, histories, logs, summary. By default target/torture/SEED.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only print the schedule.
    #[arg(long)]
    show_schedule: bool,
}

/// The replication of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Replication {
    /// Synchronous, in Patroni's strict mode: everything must be linearizable.
    Sync,
    /// Asynchronous: a failover loses writes, but no former leader answers.
    Async,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let length = Duration::from_secs(60 * arguments.minutes);
    let mut out = stdout().lock();
    if arguments.show_schedule {
        for fault in Schedule::new(seed, length, &Kind::ALL).faults {
            writeln!(out, "{fault}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan {
        seed,
        length,
        setups: arguments.setup,
        kinds: Kind::ALL.to_vec(),
        synchronous: arguments.replication == Replication::Sync,
        members: arguments.members,
        out: arguments.out.unwrap_or_else(|| PathBuf::from(format!("target/torture/{seed}"))),
    };
    writeln!(out, "seed {seed}; everything goes to {}", plan.out.display())?;
    let summary = run(&plan)
        .await
        .with_context(|| format!("seed {seed}: the story is in {}", plan.out.join("story.txt").display()))?;
    write!(out, "{summary}")?;
    Ok(ExitCode::from(u8::from(summary.own_anomalies() > 0)))
}
