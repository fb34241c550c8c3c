//! Balance: on which threads few sessions lie.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::contenders::Contender;
use super::crowd;
use super::meter::{self, Thread};
use super::protocol::{ask, query};
use super::stage::{Leader, Stage};
use super::standin::StandIn;
use super::workshop::run_on;

/// Questions over one session, enough for its thread to stand out from those that only probe and check.
const QUESTIONS: usize = 200;
/// How long sessions may take to find their threads: this project's proxy moves them once, when they are as old as a login.
const FINDING: Duration = Duration::from_millis(500);

/// The share of the sessions on the thread that has most of them, the mean over all trials; and the share of the trials
/// in which one thread had them all. Every contender has a thread for each core.
///
/// # Errors
/// When the sessions cannot be opened.
pub fn measure(stage: &Stage, contender: &Contender, sessions: usize) -> Result<Vec<(&'static str, f64)>> {
    let _standin = StandIn::start(&stage.workshop, false, Duration::ZERO)?;
    let mut running = contender.start(&stage.workshop, &stage.demand(Leader::StandIn, sessions))?;
    let id = running.id().context("a way without a process has no threads")?;
    let trials = stage.sizes.trials;
    let fullest = run_on(&stage.workshop.hosts.client, || async {
        let mut fullest = Vec::new();
        for _ in 0..trials {
            let mut clients = crowd::open(running.address, sessions).await?;
            tokio::time::sleep(FINDING).await;
            let mut places: BTreeMap<u32, usize> = BTreeMap::new();
            for client in &mut clients {
                *places.entry(thread_of(id, client).await?).or_default() += 1;
            }
            fullest.push(places.into_values().max().unwrap_or_default());
        }
        Ok(fullest)
    });
    running.check_running()?;
    let fullest = fullest?;
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Ok(vec![
        ("fullest_share", share(fullest.iter().sum(), trials * sessions)),
        ("all_on_one_share", share(fullest.iter().filter(|count| **count == sessions).count(), trials)),
    ])
}

/// The thread that serves a session: the one that works while only this session does.
async fn thread_of(process: u32, client: &mut TcpStream) -> Result<u32> {
    let before = meter::threads(process)?;
    let question = query("select 1");
    for _ in 0..QUESTIONS {
        ask(client, &question).await?;
    }
    let spent = |thread: &Thread| {
        let known = before.iter().find(|known| known.id == thread.id).map(|known| known.cpu);
        thread.cpu.saturating_sub(known.unwrap_or_default())
    };
    let busiest = meter::threads(process)?.into_iter().max_by_key(spent);
    Ok(busiest.context("a process without threads")?.id)
}
