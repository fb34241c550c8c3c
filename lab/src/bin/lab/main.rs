//! The lab as a program: `lab up` runs a cluster to try things on, `lab demo` shows a switchover and a failover, `lab
//! observability` proves the alert rules.

mod command;
mod demo;
mod observability;
mod up;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::{ClusterOptions, Patroni};
use tokio::signal::unix::{SignalKind, signal};

/// A real Patroni cluster on this machine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start a cluster, print how to reach it, and keep it until Ctrl-C. Faults are typed as commands.
    Up {
        /// Start the proxy too.
        #[arg(long)]
        proxy: bool,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Show a planned switchover and a leader crash through the proxy, with a timeline of each.
    Demo {
        /// Keep everything running afterwards until Ctrl-C.
        #[arg(long)]
        stay: bool,
    },
    /// Prove the alert rules and the dashboard on a real Prometheus, and print when each alert fired.
    Observability,
}

#[derive(Debug, Args)]
struct ClusterArguments {
    /// Number of PostgreSQL members.
    #[arg(long, default_value_t = 2)]
    members: u8,
    /// Which Patroni: 4.1 from the lab's venv, or Debian's 3.0.
    #[arg(long, value_enum, default_value = "venv")]
    patroni: WhichPatroni,
    /// Patroni's `ttl` in seconds, at least 20.
    #[arg(long, default_value_t = 20)]
    ttl: u32,
    /// PostgreSQL's `max_connections`. Tests that release many waiting clients at once need more than the default.
    #[arg(long, default_value_t = 200)]
    max_connections: u32,
    /// Synchronous replication.
    #[arg(long)]
    sync: bool,
    /// Patroni's failsafe mode.
    #[arg(long)]
    failsafe: bool,
    /// TLS on the PostgreSQL servers.
    #[arg(long)]
    tls: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhichPatroni {
    Venv,
    Debian,
}

impl ClusterArguments {
    fn options(&self) -> ClusterOptions {
        ClusterOptions {
            members: self.members,
            patroni: match self.patroni {
                WhichPatroni::Venv => Patroni::Venv,
                WhichPatroni::Debian => Patroni::Debian,
            },
            ttl: self.ttl,
            max_connections: self.max_connections,
            synchronous_mode: self.sync,
            failsafe_mode: self.failsafe,
            tls: self.tls,
            ..ClusterOptions::default()
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this cannot be written, the exit code is all there is.
            let _ = writeln!(stderr(), "lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let work = async {
        match arguments.what {
            What::Up { proxy, cluster } => up::up(cluster.options(), proxy, &mut stdout()).await,
            What::Demo { stay } => demo::demo(stay, &mut stdout()).await,
            What::Observability => observability::observability(&mut stdout()).await,
        }
    };
    // In each case everything that was started is dropped, and so stopped, before this returns.
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => writeln!(stdout(), "\nstopping").map_err(Into::into),
        _ = terminated.recv() => Ok(()),
    }
}
