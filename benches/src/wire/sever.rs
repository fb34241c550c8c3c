//! Sever: all sessions end because the server no longer leads, and how long that takes from the word to the last client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::NoTls;

use super::contenders::{Contender, Kind};
use super::crowd::{self, Ends};
use super::protocol::{DATABASE, USER};
use super::stage::{Leader, Stage};
use super::standin::{self, StandIn, State};
use super::workshop::run_on;

/// From the word to the last end; the slowest check asks ten times a second.
const SEVER: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);

/// Milliseconds from the moment at which the stand-in said that it leads no more to the first and the last end of a
/// session. PgBouncer, which asks nobody, is told to `KILL` the database, and its time counts from that command.
///
/// # Errors
/// When not all sessions can be opened, or they do not end.
pub fn measure(stage: &Stage, contender: &Contender, sessions: usize) -> Result<Vec<(&'static str, f64)>> {
    let standin = StandIn::start(&stage.workshop, false, Duration::ZERO)?;
    let state = standin.state();
    let mut demand = stage.demand(Leader::StandIn, sessions);
    if contender.kind.is_haproxy() {
        demand.check = Some(stage.workshop.hosts.server_address(standin::HEALTH_PORT));
    }
    let mut running = contender.start(&stage.workshop, &demand)?;
    let measured = run_on(&stage.workshop.hosts.client, || async {
        let ends = Ends::of(crowd::open(running.address, sessions).await?);
        let began = strike(contender.kind, &state, running.address).await?;
        let ended = ends.all(SEVER).await?;
        // Only now, since the word comes with the next question.
        let began = began.or_else(|| state.told(true)).context("nobody asked the stand-in")?;
        Ok((began, ended))
    });
    running.check_running()?;
    let (began, ended) = measured?;
    let ms = |at: Option<&Instant>| at.map(|at| at.saturating_duration_since(began).as_secs_f64() * 1000.0);
    let (first, last) = (ms(ended.first()), ms(ended.last()));
    Ok([first.map(|ms| ("first_ms", ms)), last.map(|ms| ("last_ms", ms))].into_iter().flatten().collect())
}

/// Lets it happen. Returns when it began, unless that is for the stand-in to say.
async fn strike(kind: Kind, state: &State, address: std::net::SocketAddr) -> Result<Option<Instant>> {
    if !kind.is_pgbouncer() {
        state.set_in_recovery(true);
        return Ok(None);
    }
    let began = Instant::now();
    command_pgbouncer(address, &format!("KILL {DATABASE}")).await?;
    Ok(Some(began))
}

/// Gives PgBouncer a command over its console.
///
/// # Errors
/// PgBouncer's own.
pub(super) async fn command_pgbouncer(address: std::net::SocketAddr, command: &str) -> Result<()> {
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(USER).dbname("pgbouncer");
    let commanding = async {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let done = client.simple_query(command).await.map(drop);
        driver.abort();
        done
    };
    tokio::time::timeout(ANSWER, commanding)
        .await
        .with_context(|| format!("PgBouncer does not answer {command}"))?
        .with_context(|| format!("telling PgBouncer to {command}"))
}
