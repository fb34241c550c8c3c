//! Terminate: the server stops being the leader, and all sessions end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::NoTls;

use crate::wire::clients::{self, Ends};
use crate::wire::environment::{Environment, ServerKind};
use crate::wire::mock_server::{self, MockServer, State};
use crate::wire::protocol::{DATABASE, USER};
use crate::wire::results::Figures;
use crate::wire::setups::{Setup, SetupKind};

/// For all sessions to end. The slowest check asks ten times a second.
const END: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);

/// Milliseconds from the mock server's first answer "in recovery" to the first and the last end of a session. PgBouncer does
/// not ask the server. It is told to `KILL` the database, and the time counts from that command.
pub(super) fn measure(environment: &Environment, setup: &Setup, sessions: usize) -> Result<Figures> {
    let mock = MockServer::start(&environment.sandbox, false, Duration::ZERO)?;
    let state = mock.state();
    let mut options = environment.options(ServerKind::Mock, sessions);
    let hosts = &environment.sandbox.hosts;
    if setup.kind.is_haproxy() {
        options.check = Some(hosts.server_address(mock_server::HEALTH_PORT));
    }
    let mut running = setup.start(&environment.sandbox, &options)?;
    let measured = hosts.client.block_on(|| async {
        let ends = Ends::of(clients::open(running.address, sessions).await?);
        let began = trigger(setup.kind, &state, running.address).await?;
        let ends = ends.all(END).await?;
        // The answer comes with the next probe, so it is known only now.
        let began = began.or_else(|| state.first_answer(true)).context("no setup asked the mock server")?;
        Ok((began, ends))
    });
    running.check_running()?;
    let (began, ends) = measured?;
    let ms = |at: &Instant| at.saturating_duration_since(began).as_secs_f64() * 1000.0;
    let figures = [ends.first().map(|at| ("first_ms", ms(at))), ends.last().map(|at| ("last_ms", ms(at)))];
    Ok(figures.into_iter().flatten().collect())
}

/// Makes all sessions end. Returns the moment from which the time counts, if it is not that of the mock server's answer.
async fn trigger(kind: SetupKind, state: &State, address: SocketAddr) -> Result<Option<Instant>> {
    if !kind.is_pgbouncer() {
        state.set_in_recovery(true);
        return Ok(None);
    }
    let began = Instant::now();
    command_pgbouncer(address, &format!("KILL {DATABASE}")).await?;
    Ok(Some(began))
}

/// Sends PgBouncer a command over its admin console.
pub(super) async fn command_pgbouncer(address: SocketAddr, command: &str) -> Result<()> {
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
        .with_context(|| format!("sending PgBouncer the command {command}"))
}
