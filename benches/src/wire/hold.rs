//! Hold: clients that wait for a leader, and how soon all are served once there is one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Session, http};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Config;

use super::contenders::{Contender, Demand, Kind, Running};
use super::crowd;
use super::protocol::{DATABASE, USER};
use super::sever::command_pgbouncer;
use super::stage::{Leader, Stage};
use super::standin::{StandIn, State};
use super::workshop::run_on;
use crate::polling::left_recovery;

/// What a login takes on the stand-in: about what a real server needs for a process and SCRAM.
pub const LOGIN: Duration = Duration::from_millis(5);
/// All clients to be waiting; the proxy's hold is longer.
const ARRIVE: Duration = Duration::from_secs(20);
/// For a contender that does not say how many wait.
const SETTLE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
const PROMOTE: Duration = Duration::from_secs(30);
/// From the release to the last client's first answer.
const SERVE: Duration = Duration::from_secs(120);

/// What the clients wait for, by the kind of contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// The server leaves recovery, and the contender finds out.
    Promotion,
    /// PgBouncer follows nobody: it was told to `PAUSE`, and is told to `RESUME`.
    Resume,
    /// Nobody lets direct clients wait: they begin when the server has left recovery, all at once.
    Start,
}

/// Milliseconds from the release to the first and to the last client's first answer, and on the stand-in the most
/// connections that were there at once without having logged in. Every client stays until all are served.
///
/// # Errors
/// When a client is not served.
pub fn measure(
    stage: &mut Stage,
    contender: &Contender,
    (clients, leader): (usize, Leader),
) -> Result<Vec<(&'static str, f64)>> {
    let release = match contender.kind {
        Kind::PgLeaderProxy => Release::Promotion,
        Kind::Pgbouncer | Kind::PgbouncerNew => Release::Resume,
        Kind::Direct | Kind::Floor | Kind::Haproxy | Kind::HaproxyNew | Kind::HaproxySplice => Release::Start,
    };
    let in_recovery = release != Release::Resume;
    let standin = StandIn::start(&stage.workshop, in_recovery, LOGIN)?;
    if leader == Leader::Real && in_recovery {
        stage.postgres.restart_in_recovery(&stage.workshop)?;
    }
    let demand = Demand { wait: !in_recovery, ..stage.demand(leader, clients) };
    let mut running = contender.start(&stage.workshop, &demand)?;
    let state = standin.state();
    let scene = Scene { clients, leader, release, state: &state, server: demand.direct };
    let measured = run_on(&stage.workshop.hosts.client, || scene.play(&running));
    // Whatever became of it, the next case finds a server that leads.
    stage.postgres.lead()?;
    running.check_running()?;
    let (began, served) = measured?;
    let ms = |at: &Instant| at.saturating_duration_since(began).as_secs_f64() * 1000.0;
    let mut figures = vec![];
    figures.extend(served.iter().min().map(|first| ("first_ms", ms(first))));
    figures.extend(served.iter().max().map(|last| ("last_ms", ms(last))));
    if leader == Leader::StandIn {
        figures.push(("most_making", state.most_making() as f64));
    }
    Ok(figures)
}

struct Scene<'a> {
    clients: usize,
    leader: Leader,
    release: Release,
    state: &'a State,
    /// The server without a contender.
    server: SocketAddr,
}

impl Scene<'_> {
    /// Returns when the release was and when each client was served.
    async fn play(&self, running: &Running) -> Result<(Instant, Vec<Instant>)> {
        let mut crowd = JoinSet::new();
        match self.release {
            Release::Promotion => {
                self.arrive(&mut crowd, running.address);
                self.all_held(running.admin).await?;
            }
            Release::Resume => {
                command_pgbouncer(running.address, "PAUSE").await?;
                self.arrive(&mut crowd, running.address);
                sleep(SETTLE).await;
            }
            Release::Start => {}
        }
        let mut began = self.release(running.address).await?;
        if self.release == Release::Start {
            self.arrive(&mut crowd, running.address);
        }
        let served = timeout(SERVE, all(crowd))
            .await
            .with_context(|| format!("not all clients are served {SERVE:?} after the release"))??;
        if self.release == Release::Promotion && self.leader == Leader::StandIn {
            began = self.state.told(false).context("nobody asked the stand-in")?;
        }
        Ok((began, served))
    }

    fn arrive(&self, crowd: &mut JoinSet<Result<(Instant, TcpStream)>>, address: SocketAddr) {
        for _ in 0..self.clients {
            crowd.spawn_local(async move {
                let mut client = crowd::connect(address).await?;
                crowd::serve(&mut client).await?;
                Ok((Instant::now(), client))
            });
        }
    }

    /// Waits until the proxy says that all of them wait.
    async fn all_held(&self, admin: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + ARRIVE;
        loop {
            // The page comes up a moment after the route.
            let answer = http::get(admin, "/routing", ARRIVE).await;
            let held = answer.ok().and_then(|answer| held(&answer.body));
            if held == Some(self.clients as u64) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{held:?} of {} clients wait after {ARRIVE:?}", self.clients);
            sleep(LOOK).await;
        }
    }

    async fn release(&self, address: SocketAddr) -> Result<Instant> {
        match (self.release, self.leader) {
            (Release::Resume, _) => {
                let began = Instant::now();
                command_pgbouncer(address, "RESUME").await?;
                Ok(began)
            }
            (Release::Promotion | Release::Start, Leader::StandIn) => {
                self.state.set_in_recovery(false);
                Ok(Instant::now())
            }
            (Release::Promotion | Release::Start, Leader::Real) => self.promote().await,
        }
    }

    /// Promotes the real server, and returns when it was seen out of recovery.
    async fn promote(&self) -> Result<Instant> {
        let mut config = Config::new();
        config.host(self.server.ip().to_string()).port(self.server.port()).user(USER).dbname(DATABASE);
        let asking = Session::open_within(&config, PROMOTE).await?;
        let telling = Session::open_within(&config, PROMOTE).await?;
        let tell =
            async { telling.batch_execute("select pg_promote(false)").await.context("promoting the server") };
        let (left, ()) = tokio::try_join!(left_recovery(asking, PROMOTE), tell)?;
        Ok(left.seen)
    }
}

/// When each was served. The clients stay until the last one is.
async fn all(mut crowd: JoinSet<Result<(Instant, TcpStream)>>) -> Result<Vec<Instant>> {
    let mut clients = Vec::new();
    while let Some(served) = crowd.join_next().await {
        clients.push(served.context("a client panicked")??);
    }
    Ok(clients.iter().map(|(at, _)| *at).collect())
}

/// Clients that wait on the write route, from the proxy's answer to `/routing`.
fn held(routing: &str) -> Option<u64> {
    let routing: serde_json::Value = serde_json::from_str(routing).ok()?;
    routing["sessions"]["write"]["held"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_the_write_route_are_counted() {
        let routing = r#"{"sessions":{"read":{"held":1},"write":{"held":27}}}"#;
        assert_eq!(held(routing), Some(27));
    }
}
