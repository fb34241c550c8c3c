//! Memory: what an idle session costs a contender, in memory of its own.

use std::time::Duration;

use anyhow::{Context, Result};

use super::contenders::{Contender, Running};
use super::crowd;
use super::meter;
use super::stage::{Leader, Stage};
use super::standin::StandIn;
use super::workshop::run_on;

/// From the last login to the look: what was only needed for the logins is given back by then.
const SETTLE: Duration = Duration::from_secs(1);
/// The memory of a contender that has served before but has no session.
const SERVED: usize = 1;

/// Kilobytes (1,024 bytes) of memory (Pss) for each of so many idle sessions, beyond what the contender needs without any.
///
/// # Errors
/// When not all sessions can be opened.
pub fn measure(
    stage: &Stage,
    contender: &Contender,
    (sessions, leader): (usize, Leader),
) -> Result<Vec<(&'static str, f64)>> {
    let _standin = (leader == Leader::StandIn)
        .then(|| StandIn::start(&stage.workshop, false, Duration::ZERO))
        .transpose()?;
    let mut running = contender.start(&stage.workshop, &stage.demand(leader, sessions))?;
    let measured = run_on(&stage.workshop.hosts.client, || async {
        drop(crowd::open(running.address, SERVED).await?);
        let before = settled(&running).await?;
        let clients = crowd::open(running.address, sessions).await?;
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
        ("kept_kb", (after - before) / 1024.0),
    ])
}

async fn settled(running: &Running) -> Result<f64> {
    tokio::time::sleep(SETTLE).await;
    let id = running.id().context("a way without a process has no memory")?;
    Ok(meter::memory(id)? as f64)
}
