//! What the probes leave in a server's log, as `docs/src/how-to/monitoring-user.md` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pg_leader_proxy::config::Probe;
use pg_leader_proxy_core::{ProbeConnection, ProbeUrgency};

use crate::probes::{ProbeOutcome, Probes, config};
use crate::server::Postgres;

/// The pauses of a proxy whose configuration says nothing else.
const INTERVAL: Duration = Duration::from_millis(500);
const CONNECT_INTERVAL: Duration = Duration::from_secs(3);
/// `log_connections` logs the authentication since PostgreSQL 14.
const AUTHENTICATION_LOGGED: u32 = 140_000;

/// The lines of each connection of the monitoring user, by the process that serves it.
fn connections(server: &Postgres) -> BTreeMap<String, Vec<String>> {
    let log = server.log();
    let lines = || log.lines().filter_map(|line| line.strip_prefix("pid=")?.split_once(' '));
    let served = lines().filter(|(_, line)| line.starts_with("user=monitor "));
    let pids: BTreeSet<&str> = served.map(|(pid, _)| pid).collect();
    let mut connections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (pid, line) in lines().filter(|(pid, _)| pids.contains(pid)) {
        connections.entry(pid.to_owned()).or_default().push(line.to_owned());
    }
    connections
}

/// Probes as a proxy with the default intervals does, until there were four connections. Returns how long that took.
async fn probe_for_a_while(server: &Postgres) -> Duration {
    let began = Instant::now();
    let config = Probe { interval: INTERVAL, connect_interval: CONNECT_INTERVAL, ..config() };
    let mut probes = Probes::of_one(config, server.addr(), ProbeUrgency::Normal);
    for _ in 0..3 {
        probes.wait_for("one over a new connection", |probe| probe.connection == ProbeConnection::New).await;
    }
    assert!(probes.received.iter().all(ProbeOutcome::is_primary), "{:?}", probes.received);
    began.elapsed()
}

/// How many lines of these connections have this text.
fn count(connections: &BTreeMap<String, Vec<String>>, text: &str) -> u32 {
    connections.values().flatten().map(|line| u32::from(line.contains(text))).sum()
}

#[tokio::test]
async fn a_server_logs_as_much_of_the_probes_as_the_page_says() {
    let server = Postgres::primary(&[
        "log_connections = on",
        "log_disconnections = on",
        "log_statement = all",
        "log_line_prefix = 'pid=%p user=%u app=%a '",
    ])
    .await;
    let version: u32 = server.value("current_setting('server_version_num')").await.parse().unwrap();
    let took = probe_for_a_while(&server).await;
    let logged = connections(&server);
    // One that stays open, and one every 3 s.
    let made = u32::try_from(logged.len()).unwrap();
    assert!(made >= 4, "{logged:#?}");
    assert!(CONNECT_INTERVAL * (made - 2) <= took, "{made} connections in {took:?}");
    for lines in logged.values() {
        let about_connection = lines.iter().filter(|line| line.contains("LOG:  connection ")).count();
        assert_eq!(about_connection, if version < AUTHENTICATION_LOGGED { 2 } else { 3 }, "{lines:#?}");
    }
    assert!(count(&logged, "LOG:  disconnection: ") <= made, "{logged:#?}");
    let statements = count(&logged, "LOG:  statement: ");
    let intervals = u32::try_from(took.as_millis().div_ceil(INTERVAL.as_millis())).unwrap();
    assert!((made..=intervals + made).contains(&statements), "{statements} statements in {took:?}");
    assert_eq!(count(&logged, "app=pg-leader-proxy probe LOG:  statement: "), statements, "{logged:#?}");

    server.execute("ALTER SYSTEM SET log_min_duration_statement = 0").await;
    server.execute("SELECT pg_reload_conf()").await;
    server.execute("ALTER USER monitor SET log_statement = 'none'").await;
    server.execute("ALTER USER monitor SET log_min_duration_statement = -1").await;
    while server.value("current_setting('log_min_duration_statement')").await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    probe_for_a_while(&server).await;
    let mut silenced = connections(&server);
    silenced.retain(|pid, _| !logged.contains_key(pid));
    assert!(silenced.len() >= 4, "{silenced:#?}");
    assert_eq!(count(&silenced, "statement: ") + count(&silenced, "duration: "), 0, "{silenced:#?}");
    assert!(server.log().contains("LOG:  duration: "), "statements of others are logged");
}
