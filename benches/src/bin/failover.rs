//! The failover benchmark: what clients see of switchovers and leader deaths, by the way they take to the leader.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use benches::contenders::Contender;
use benches::failover::{self, Plan};
use benches::output::Output;
use clap::Parser;

/// What clients see of switchovers and leader deaths, by the way they take to the leader.
///
/// Run it from the workspace's root. Without --out the results go to benches/results and into benches/README.md.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many switchovers.
    #[arg(long, default_value_t = 10)]
    switchovers: usize,
    /// How many times the leader dies.
    #[arg(long, default_value_t = 5)]
    deaths: usize,
    /// Only this contender; can be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<Contender>,
    /// Where the results go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs nothing: makes tables, page and picture anew from the JSON of an earlier run.
    #[arg(long)]
    show_again: bool,
    /// Also copies the proxy's log and its own reports to this directory.
    #[arg(long, value_name = "DIR")]
    diagnose: Option<PathBuf>,
    /// Another setting of the proxy than its default, such as log.filter=debug; can be repeated. For experiments: the
    /// results name it.
    #[arg(long, value_name = "KEY=VALUE")]
    proxy_setting: Vec<String>,
}

// One thread: it watches, and what keeps time (writers, latecomers, the watch of the key) has threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut contenders = arguments.only;
    if contenders.is_empty() {
        contenders = Contender::ALL.to_vec();
    }
    contenders.sort_unstable();
    contenders.dedup();
    let plan = Plan {
        switchovers: arguments.switchovers,
        deaths: arguments.deaths,
        contenders,
        output: Output::new("failover", arguments.out),
        diagnosis: arguments.diagnose,
        proxy_settings: arguments.proxy_setting,
    };
    let mut out = stdout().lock();
    if arguments.show_again {
        failover::show_again(&plan, &mut out)?;
    } else {
        failover::run(&plan, &mut out).await?;
    }
    out.flush()?;
    Ok(())
}
