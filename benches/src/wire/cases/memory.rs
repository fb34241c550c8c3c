//! Memory: what an idle session costs a setup.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::usage;
use crate::wire::clients;
use crate::wire::environment::{Environment, ServerKind};
use crate::wire::mock_server::MockServer;
use crate::wire::results::Figures;
use crate::wire::setups::{RunningSetup, Setup};

/// From the last login to the measurement, for memory that only logins need to be given back.
const SETTLE: Duration = Duration::from_secs(1);
/// Sessions before the first measurement, so that it is of a setup that has served before.
const SERVED_BEFORE: usize = 1;

/// Kilobytes (1,024 bytes, Pss) for each idle session, beyond what the setup needs without any.
pub(super) fn measure(
    environment: &Environment,
    setup: &Setup,
    (sessions, server): (usize, ServerKind),
) -> Result<Figures> {
    let _mock = match server {
        ServerKind::Mock => Some(MockServer::start(&environment.sandbox, false, Duration::ZERO)?),
        ServerKind::Postgres => None,
    };
    let mut running = setup.start(&environment.sandbox, &environment.options(server, sessions))?;
    let measured = environment.sandbox.hosts.client.block_on(|| async {
        drop(clients::open(running.address, SERVED_BEFORE).await?);
        let before = settled(&running).await?;
        let clients = clients::open(running.address, sessions).await?;
        let with = settled(&running).await?;
        drop(clients);
        let after = settled(&running).await?;
        Ok((before, with, after))
    });
    running.check_running()?;
    let (before, with, after) = measured?;
    Ok(vec![
        ("kb_per_session", (with - before) / 1024.0 / sessions as f64),
        ("process_kb", before / 1024.0),
        ("retained_kb", (after - before) / 1024.0),
    ])
}

async fn settled(running: &RunningSetup) -> Result<f64> {
    tokio::time::sleep(SETTLE).await;
    let id = running.id().context("a setup without a process has no memory")?;
    Ok(usage::memory(id)? as f64)
}
