//! The failover benchmark: what clients see of switchovers and leader crashes, by the way they connect to the leader.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use benches::chosen_or_all;
use benches::failover::{self, Plan, Setup, Trials};
use benches::output::Output;
use clap::{Parser, ValueEnum};

/// What clients see of switchovers and leader crashes, by the way they connect to the leader.
///
/// Run it from the workspace's root. The results go to benches/results, unless --out is given.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this part; can be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// How often the parts `needless` and `abandoned` do everything.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The number of switchovers.
    #[arg(long, default_value_t = 10)]
    switchovers: usize,
    /// The number of leader crashes.
    #[arg(long, default_value_t = 5)]
    crashes: usize,
    /// Only this setup; can be repeated.
    #[arg(long, value_name = "NAME")]
    setup: Vec<Setup>,
    /// Where the results go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run nothing; write page and chart of the switchovers and crashes again from the JSON of an earlier run.
    #[arg(long)]
    show_again: bool,
    /// Copy the proxy's log and its own reports to this directory.
    #[arg(long, value_name = "DIR")]
    diagnose: Option<PathBuf>,
    /// A setting of the proxy other than its default, such as log.filter=debug; can be repeated. For experiments: the
    /// results name it.
    #[arg(long, value_name = "KEY=VALUE")]
    proxy_setting: Vec<String>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Switchovers and leader crashes.
    Events,
    /// Sessions that end although the leader keeps its role.
    Needless,
    /// Waiting clients behind others that have given up.
    Abandoned,
}

// One thread is enough: writers, new clients and the watch of the leader key have threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let setups = chosen_or_all(arguments.setup, &Setup::ALL);
    let plan = Plan {
        switchovers: arguments.switchovers,
        crashes: arguments.crashes,
        setups: setups.clone(),
        output: Output::new("failover", arguments.out.clone()),
        diagnosis: arguments.diagnose,
        proxy_settings: arguments.proxy_setting.clone(),
    };
    let trials = |name| Trials {
        rounds: arguments.rounds,
        setups: setups.clone(),
        output: Output::new(name, arguments.out.clone()),
        proxy_settings: arguments.proxy_setting.clone(),
    };
    let mut out = stdout().lock();
    if arguments.show_again {
        return failover::show_again(&plan, &mut out);
    }
    for part in chosen_or_all(arguments.only, Part::value_variants()) {
        match part {
            Part::Events => failover::run(&plan, &mut out).await?,
            Part::Needless => failover::run_needless(&trials("needless"), &mut out).await?,
            Part::Abandoned => failover::run_abandoned(&trials("abandoned"), &mut out).await?,
        }
    }
    out.flush()?;
    Ok(())
}
