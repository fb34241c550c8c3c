//! Addresses that lead elsewhere, to several servers, or nowhere: a name server that a test answers for.

use std::future::pending;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pg_leader_proxy::sources::probe::{Lookup, Resolver};
use pg_leader_proxy::sources::{ProbePlan, ProbeTarget};
use pg_leader_proxy_core::{MemberName, ProbeConnection, ProbeFailure, ServerAddr};
use rustix::process::Signal;
use tracing::subscriber::{DefaultGuard, set_default};

use crate::burst;
use crate::probes::{ProbeOutcome, Probes, config};
use crate::server::Postgres;

/// What the name server answers: these sockets, an error when there are none, or nothing at all.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<Option<Vec<SocketAddr>>>>);

impl Names {
    fn leading_to(sockets: &[SocketAddr]) -> Self {
        let names = Self::default();
        names.lead_to(sockets);
        names
    }

    fn lead_to(&self, sockets: &[SocketAddr]) {
        *self.0.lock().unwrap() = Some(sockets.to_vec());
    }

    fn fall_silent(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Resolver for Names {
    fn resolve(&self, _: &ServerAddr) -> Lookup {
        match self.0.lock().unwrap().clone() {
            Some(sockets) if sockets.is_empty() => Box::pin(async { Err(io::ErrorKind::NotFound.into()) }),
            Some(sockets) => Box::pin(async { Ok(sockets) }),
            None => Box::pin(pending()),
        }
    }
}

fn socket(server: &Postgres) -> SocketAddr {
    SocketAddr::new(server.address.into(), 5432)
}

fn plan(published: Option<SocketAddr>, former: Option<SocketAddr>) -> Arc<ProbePlan> {
    let target = ProbeTarget { addr: ServerAddr::new("pg.db.test", 5432), published, former };
    Arc::new(ProbePlan { members: [(MemberName::new("a"), target)].into(), urgency: burst() })
}

fn answers(probe: &ProbeOutcome, server: &Postgres) -> bool {
    probe.socket == Some(socket(server)) && probe.outcome.is_ok()
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_followed_and_the_server_in_use_is_asked_on() {
    let (one, two) = (Postgres::primary(&[]).await, Postgres::primary(&[]).await);
    let names = Names::leading_to(&[socket(&one)]);
    let mut probes = Probes::resolving(config(), Arc::new(names.clone()), plan(None, None));
    probes.wait_for("the first server", |probe| answers(probe, &one)).await;
    assert_eq!(probes.resolved, [socket(&one)]);

    probes.probe_plan.send_replace(plan(Some(socket(&one)), Some(socket(&one))));
    names.lead_to(&[socket(&two)]);
    let moved = probes.wait_for("the second server", |probe| answers(probe, &two)).await;
    assert_eq!((probes.resolved.last(), moved.addr.host()), (Some(&socket(&two)), "pg.db.test"));
    let still =
        probes.wait_for("the first server", |probe| answers(probe, &one) && probe.sent > moved.sent).await;
    assert_ne!(
        still.outcome.unwrap().server(),
        moved.outcome.unwrap().server(),
        "a server is known by when it started"
    );

    // Nobody needs it any more.
    probes.probe_plan.send_replace(plan(Some(socket(&two)), None));
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg-leader-proxy probe'";
    while one.value(connections).await != "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
        probes.wait_for("the second server", |probe| answers(probe, &two)).await;
    }
}

#[tokio::test]
async fn a_silent_name_server_costs_nothing_once_a_name_was_found() {
    let server = Postgres::primary(&[]).await;
    let names = Names::leading_to(&[socket(&server)]);
    let mut probes = Probes::resolving(config(), Arc::new(names.clone()), plan(None, None));
    probes.wait_for("its reply", |probe| answers(probe, &server)).await;
    names.fall_silent();
    // Longer than a name is believed without another look.
    let until = tokio::time::Instant::now() + Duration::from_secs(7);
    while tokio::time::Instant::now() < until {
        let probe = probes.next().await;
        assert!(answers(&probe, &server), "{probe:?}");
    }
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg-leader-proxy probe'";
    server.execute(ended).await;
    let since = probes.next().await.sent;
    let again =
        probes.wait_for("a new connection", |probe| answers(probe, &server) && probe.sent > since).await;
    assert!(matches!(again.connection, ProbeConnection::Persistent { .. }));
}

#[tokio::test]
async fn probes_that_begin_while_the_name_server_is_silent_ask_where_the_router_says() {
    let server = Postgres::primary(&[]).await;
    let silent = Arc::new(Names::default());
    let mut probes = Probes::resolving(config(), silent.clone(), plan(Some(socket(&server)), None));
    probes.wait_for("its reply", |probe| answers(probe, &server)).await;

    let mut lost = Probes::resolving(config(), silent, plan(None, None));
    let probe = lost.next().await;
    assert_eq!((probe.socket, probe.outcome), (None, Err(ProbeFailure::Unresolved)));
}

#[tokio::test]
async fn of_several_servers_one_that_takes_connections_is_asked() {
    let (mut one, two) = (Postgres::primary(&[]).await, Postgres::primary(&[]).await);
    let both = [socket(&one), socket(&two)];
    let names = Arc::new(Names::leading_to(&both));
    let mut probes = Probes::resolving(config(), names, plan(None, None));
    probes.wait_for("the first one", |probe| answers(probe, &one)).await;
    one.signal(Signal::INT);
    one.wait().await;
    let down = probes.failure(ProbeFailure::Refused).await;
    assert_eq!(down.socket, Some(both[0]), "the server in use is found down first");
    probes.wait_for("the other one", |probe| answers(probe, &two)).await;
    assert_eq!(probes.resolved, both);
}

/// What is logged on the thread of a test.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to collect it, until the guard is dropped.
    fn collect() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, set_default(lines))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_name_that_is_not_found_is_told_until_it_is() {
    let (log, _collecting) = Log::collect();
    let server = Postgres::primary(&[]).await;
    let names = Names::leading_to(&[]);
    let mut probes = Probes::resolving(config(), Arc::new(names.clone()), plan(None, None));
    for _ in 0..2 {
        let probe = probes.next().await;
        assert_eq!((probe.socket, probe.outcome), (None, Err(ProbeFailure::Unresolved)));
    }
    names.lead_to(&[socket(&server)]);
    probes.wait_for("its reply", |probe| answers(probe, &server)).await;
    let log = log.text();
    for (level, told) in [
        (" WARN ", "cannot resolve the address of a member member=a addr=pg.db.test:5432"),
        (" INFO ", "the address can be resolved again member=a addr=pg.db.test:5432"),
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(told)).collect();
        assert!(lines.len() == 1 && lines[0].contains(level), "{log}");
    }
}
