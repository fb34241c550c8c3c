//! Hold: clients wait for a leader, and how soon all are served once there is one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Session, http, left_recovery};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Config;

use super::terminate::command_pgbouncer;
use crate::wire::clients;
use crate::wire::environment::{Environment, ServerKind};
use crate::wire::mock_server::{MockServer, State};
use crate::wire::protocol::{DATABASE, USER};
use crate::wire::results::Figures;
use crate::wire::setups::{RunningSetup, Setup, SetupKind, StartOptions};

/// How long a login takes on the mock server: about what a real server needs for a process and SCRAM.
const LOGIN: Duration = Duration::from_millis(5);
/// For all clients to wait. The proxy holds them longer.
const ARRIVE: Duration = Duration::from_secs(20);
/// The same for a setup that does not say how many wait.
const SETTLE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
const PROMOTION: Duration = Duration::from_secs(30);
/// From the release to the last client's first answer.
const SERVE: Duration = Duration::from_secs(120);

/// How the clients are released, by the kind of setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// The server leaves recovery, and the setup finds out.
    Promotion,
    /// PgBouncer does not follow a server. It is told to `PAUSE` and then to `RESUME`.
    Resume,
    /// Nothing holds direct clients. They start when the server has left recovery, all at once.
    Start,
}

/// Milliseconds from the release to the first and to the last client's first answer; and, with the mock server, the most
/// connections at the same time that had not logged in. Every client stays until all are served.
pub(super) fn measure(
    environment: &mut Environment,
    setup: &Setup,
    (clients, server): (usize, ServerKind),
) -> Result<Figures> {
    let release = match setup.kind {
        SetupKind::PgLeaderProxy => Release::Promotion,
        SetupKind::Pgbouncer | SetupKind::PgbouncerNew => Release::Resume,
        SetupKind::Direct
        | SetupKind::LowerBound
        | SetupKind::Haproxy
        | SetupKind::HaproxyNew
        | SetupKind::HaproxySplice => Release::Start,
    };
    let in_recovery = release != Release::Resume;
    let mock = MockServer::start(&environment.sandbox, in_recovery, LOGIN)?;
    if server == ServerKind::Postgres && in_recovery {
        environment.postgres.restart_in_recovery(&environment.sandbox)?;
    }
    let options = StartOptions { has_leader: !in_recovery, ..environment.options(server, clients) };
    let mut running = setup.start(&environment.sandbox, &options)?;
    let state = mock.state();
    let trial = Trial { clients, server, release, state: &state, direct: options.direct };
    let measured = environment.sandbox.hosts.client.block_on(|| trial.run(&running));
    // In any case the next one finds a server that is the leader.
    environment.postgres.promote()?;
    running.check_running()?;
    let (began, served) = measured?;
    let ms = |at: &Instant| at.saturating_duration_since(began).as_secs_f64() * 1000.0;
    let mut figures = vec![];
    figures.extend(served.iter().min().map(|first| ("first_ms", ms(first))));
    figures.extend(served.iter().max().map(|last| ("last_ms", ms(last))));
    if server == ServerKind::Mock {
        figures.push(("most_logins", state.most_logging_in() as f64));
    }
    Ok(figures)
}

struct Trial<'a> {
    clients: usize,
    server: ServerKind,
    release: Release,
    state: &'a State,
    /// The server without a proxy.
    direct: SocketAddr,
}

/// Clients that log in; each stays until it is dropped.
type LoggingIn = JoinSet<Result<(Instant, TcpStream)>>;

impl Trial<'_> {
    /// Returns when the clients were released and when each was served.
    async fn run(&self, running: &RunningSetup) -> Result<(Instant, Vec<Instant>)> {
        let mut clients = LoggingIn::new();
        match self.release {
            Release::Promotion => {
                self.connect(&mut clients, running.address);
                self.wait_until_held(running.admin).await?;
            }
            Release::Resume => {
                command_pgbouncer(running.address, "PAUSE").await?;
                self.connect(&mut clients, running.address);
                sleep(SETTLE).await;
            }
            Release::Start => {}
        }
        let mut began = self.release(running.address).await?;
        if self.release == Release::Start {
            self.connect(&mut clients, running.address);
        }
        let served = timeout(SERVE, all_served(clients))
            .await
            .with_context(|| format!("not all clients are served {SERVE:?} after the release"))??;
        if self.release == Release::Promotion && self.server == ServerKind::Mock {
            began = self.state.first_answer(false).context("the proxy did not probe the mock server")?;
        }
        Ok((began, served))
    }

    fn connect(&self, clients: &mut LoggingIn, address: SocketAddr) {
        for _ in 0..self.clients {
            clients.spawn_local(async move {
                let mut client = clients::connect(address).await?;
                clients::log_in(&mut client).await?;
                Ok((Instant::now(), client))
            });
        }
    }

    /// Waits until the proxy reports that it holds all of them.
    async fn wait_until_held(&self, admin: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + ARRIVE;
        loop {
            // The admin page comes up a moment after the route.
            let response = http::get(admin, "/routing", ARRIVE).await;
            let held = response.ok().and_then(|response| held(&response.body));
            if held == Some(self.clients as u64) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{held:?} of {} clients wait after {ARRIVE:?}", self.clients);
            sleep(POLL).await;
        }
    }

    async fn release(&self, address: SocketAddr) -> Result<Instant> {
        match (self.release, self.server) {
            (Release::Resume, _) => {
                let began = Instant::now();
                command_pgbouncer(address, "RESUME").await?;
                Ok(began)
            }
            (Release::Promotion | Release::Start, ServerKind::Mock) => {
                self.state.set_in_recovery(false);
                Ok(Instant::now())
            }
            (Release::Promotion | Release::Start, ServerKind::Postgres) => self.promote().await,
        }
    }

    /// Promotes PostgreSQL, and returns when it was seen to have left recovery.
    async fn promote(&self) -> Result<Instant> {
        let mut config = Config::new();
        config.host(self.direct.ip().to_string()).port(self.direct.port()).user(USER).dbname(DATABASE);
        let polling = Session::open_within(&config, PROMOTION).await?;
        let promoting = Session::open_within(&config, PROMOTION).await?;
        let promote = async {
            let done = promoting.batch_execute("select pg_promote(false)").await;
            done.context("promoting the server")
        };
        let (left, ()) = tokio::try_join!(left_recovery(polling, PROMOTION), promote)?;
        Ok(left.seen)
    }
}

/// When each client was served.
async fn all_served(mut logging_in: LoggingIn) -> Result<Vec<Instant>> {
    let mut clients = Vec::new();
    while let Some(served) = logging_in.join_next().await {
        clients.push(served.context("a client panicked")??);
    }
    Ok(clients.iter().map(|(at, _)| *at).collect())
}

/// The clients that wait for the write route, from the proxy's answer to `/routing`.
pub(crate) fn held(routing: &str) -> Option<u64> {
    let routing: serde_json::Value = serde_json::from_str(routing).ok()?;
    routing["sessions"]["write"]["held"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_clients_of_the_write_route_are_counted() {
        let routing = r#"{"sessions":{"read":{"held":1},"write":{"held":27}}}"#;
        assert_eq!(held(routing), Some(27));
    }
}
