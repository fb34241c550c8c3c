//! The wire benchmark: what each way to a server costs while nothing fails.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
use benches::chosen_or_all;
use benches::output::Output;
use benches::wire::{self, Network, Plan, Scenario, SetupKind, Sizes};
use clap::Parser;

/// What each way to a server costs while nothing fails: this project, its peers, no proxy, and a bare epoll loop.
///
/// Run it from the workspace's root, on a machine without other work. The results go to benches/results, unless --out is
/// given.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these cases; can be repeated.
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Only this setup; can be repeated.
    #[arg(long, value_name = "NAME")]
    setup: Vec<SetupKind>,
    /// Another build of the proxy that takes part under this name; can be repeated.
    #[arg(long, value_name = "NAME=PROGRAM")]
    variant: Vec<String>,
    /// How often each case is measured with each setup.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a load is measured.
    #[arg(long)]
    seconds: Option<u32>,
    /// The numbers of clients of the select-only load.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    clients: Vec<usize>,
    /// Everything small and once, to see that it works. The figures mean nothing.
    #[arg(long, requires = "out")]
    quick: bool,
    /// What connects the hosts. The default is veth for root and loopback for other users.
    #[arg(long)]
    network: Option<Network>,
    /// Where the results go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run nothing; write page and chart again from the JSON of an earlier run.
    #[arg(long)]
    show_again: bool,
    /// A setting of the proxy other than its default, such as session.workers=1; can be repeated. For experiments: the
    /// results name it.
    #[arg(long, value_name = "KEY=VALUE")]
    proxy_setting: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let show_again = arguments.show_again;
    let plan = plan(arguments)?;
    let mut out = stdout().lock();
    if show_again {
        wire::show_again(&plan, &mut out)?;
    } else {
        wire::run(&plan, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn plan(arguments: Arguments) -> Result<Plan> {
    let mut sizes = if arguments.quick { Sizes::quick() } else { Sizes::full() };
    sizes.rounds = arguments.rounds.unwrap_or(sizes.rounds);
    sizes.seconds = arguments.seconds.unwrap_or(sizes.seconds);
    if !arguments.clients.is_empty() {
        sizes.clients = arguments.clients;
    }
    let variant = |text: &String| {
        let (name, program) =
            text.split_once('=').with_context(|| format!("{text:?} is not NAME=PROGRAM"))?;
        let program = std::fs::canonicalize(program).with_context(|| format!("looking for {program}"))?;
        anyhow::Ok((name.to_owned(), program))
    };
    Ok(Plan {
        scenarios: chosen_or_all(arguments.only, &Scenario::ALL),
        kinds: chosen_or_all(arguments.setup, &SetupKind::ALL),
        variants: arguments.variant.iter().map(variant).collect::<Result<_>>()?,
        sizes,
        network: arguments.network.unwrap_or_else(Network::best),
        output: Output::new("wire", arguments.out),
        proxy_settings: arguments.proxy_setting,
    })
}
