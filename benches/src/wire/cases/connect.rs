//! Connect: clients that connect, log in and leave (`pgbench -C` with a script without a statement).

use std::fs;

use anyhow::{Context, Result};

use crate::wire::environment::Environment;
use crate::wire::pgbench::{self, Load};
use crate::wire::results::Figures;
use crate::wire::setups::Setup;

/// Connections at the same time, including those whose client has left a moment ago.
const SESSIONS: usize = 1000;
/// A script that pgbench runs without the server.
const SCRIPT: &str = "\\set nothing 1\n";

/// Connections per second, and the processor time of each.
pub(super) fn measure(environment: &Environment, setup: &Setup, tls: bool) -> Result<Figures> {
    let script = environment.sandbox.directory().join("connect.sql");
    fs::write(&script, SCRIPT).context("writing pgbench's script")?;
    let script = format!("--file={}", script.display());
    let mut running = environment.start_setup(setup, SESSIONS)?;
    let load = Load {
        options: &["-C", &script],
        clients: environment.sizes.connect_clients,
        sslmode: if tls { "require" } else { "disable" },
        times: false,
    };
    Ok(pgbench::run(environment, &mut running, &load)?.figures())
}
