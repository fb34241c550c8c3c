//! Balance: how few sessions are spread over a proxy's threads.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::usage::{self, Thread};
use crate::wire::clients;
use crate::wire::environment::{Environment, ServerKind};
use crate::wire::mock_server::MockServer;
use crate::wire::protocol::{query, query_async};
use crate::wire::results::Figures;
use crate::wire::setups::Setup;

/// Queries over one session, enough for its thread to stand out from those that only probe and check.
const QUERIES: usize = 200;
/// For sessions to reach their threads. This project's proxy moves a session once, soon after its login.
const SETTLE: Duration = Duration::from_millis(500);

/// The share of the sessions on the thread that has most of them, as the mean over all trials, and the share of the trials
/// in which one thread had all of them. Every setup has a thread for each core.
pub(super) fn measure(environment: &Environment, setup: &Setup, sessions: usize) -> Result<Figures> {
    let _mock = MockServer::start(&environment.sandbox, false, Duration::ZERO)?;
    let options = environment.options(ServerKind::Mock, sessions);
    let mut running = setup.start(&environment.sandbox, &options)?;
    let id = running.id().context("a setup without a process has no threads")?;
    let trials = environment.sizes.balance_trials;
    let measured = environment.sandbox.hosts.client.block_on(|| async {
        let mut most = Vec::new();
        for _ in 0..trials {
            let mut clients = clients::open(running.address, sessions).await?;
            tokio::time::sleep(SETTLE).await;
            let mut by_thread: BTreeMap<i32, usize> = BTreeMap::new();
            for client in &mut clients {
                *by_thread.entry(thread_of(id, client).await?).or_default() += 1;
            }
            most.push(by_thread.into_values().max().unwrap_or_default());
        }
        Ok(most)
    });
    running.check_running()?;
    let most = measured?;
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Ok(vec![
        ("busiest_thread_share", share(most.iter().sum(), trials * sessions)),
        ("all_on_one_thread_share", share(most.iter().filter(|count| **count == sessions).count(), trials)),
    ])
}

/// The thread of a session: the one that works while only this session does.
async fn thread_of(process: u32, client: &mut TcpStream) -> Result<i32> {
    let before = usage::threads(process)?;
    let select = query("select 1");
    for _ in 0..QUERIES {
        query_async(client, &select).await?;
    }
    let used = |thread: &Thread| {
        let known = before.iter().find(|known| known.id == thread.id).map(|known| known.cpu);
        thread.cpu.saturating_sub(known.unwrap_or_default())
    };
    let busiest = usage::threads(process)?.into_iter().max_by_key(used);
    Ok(busiest.context("a process without threads")?.id)
}
