//! Connect: clients that connect, log in, do nothing and leave (`pgbench -C` with a script without a statement).

use std::fs;

use anyhow::{Context, Result};

use super::contenders::Contender;
use super::pgbench::{self, Load};
use super::stage::Stage;

/// Connections that are there at once: those whose client has left linger for a moment.
const ENDING: usize = 1000;
/// A script that pgbench runs by itself.
const SCRIPT: &str = "\\set nothing 1\n";

/// Connections per second, and what contender and machine spend on one.
///
/// # Errors
/// When the contender or pgbench fails.
pub fn measure(stage: &Stage, contender: &Contender, tls: bool) -> Result<Vec<(&'static str, f64)>> {
    let script = stage.workshop.directory().join("connect.sql");
    fs::write(&script, SCRIPT).context("writing pgbench's script")?;
    let script = format!("--file={}", script.display());
    let mut running = stage.start(contender, ENDING)?;
    let load = Load {
        options: &["-C", &script],
        clients: stage.sizes.connecting,
        sslmode: if tls { "require" } else { "disable" },
        times: false,
    };
    let window = pgbench::run(stage, &mut running, &load)?;
    let each = |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / window.transactions;
    let mut figures = vec![
        ("per_second", window.per_second),
        ("machine_us", each(window.machine)),
        ("busy_share", window.busy),
    ];
    figures.extend(window.cpu.map(|cpu| ("cpu_us", each(cpu))));
    Ok(figures)
}
