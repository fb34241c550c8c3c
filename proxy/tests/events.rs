//! Events of a real cluster: one for a switchover, with the numbers that its clients experienced.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::{Cluster, ClusterOptions, MONITOR, NewClients, Session};
use pg_leader_proxy::app::{self, EventRecord, Reload, SupervisorCommand, SupervisorLink};
use pg_leader_proxy::config::{Config, Origins};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Longer than the notifier delays an event.
const A_WHILE: Duration = Duration::from_secs(5);
const SESSIONS: usize = 3;

fn config(cluster: &Cluster) -> Config {
    let file: PathBuf = cluster.directory().join("held.toml");
    std::fs::write(&file, cluster.proxy_config("proxy").unwrap()).unwrap();
    let environment = BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned())]);
    Config::load(&Origins { file: Some(file), environment, ..Origins::default() }).unwrap()
}

async fn next(events: &mut mpsc::Receiver<EventRecord>) -> EventRecord {
    timeout(SOON, events.recv()).await.expect("no event").expect("the proxy ended")
}

fn number(events: &EventRecord, fact: &str) -> u64 {
    events.annotations[fact].parse().unwrap()
}

#[tokio::test]
async fn a_switchover_is_one_event_with_its_impact() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let (config, write) = (config(&cluster), cluster.proxy_addresses("proxy").unwrap().write);
    let (commands, supervisor_command) = mpsc::channel(1);
    let (told, mut events) = mpsc::channel(1);
    let link = SupervisorLink {
        commands: Some(supervisor_command),
        events: Some(told),
        ..SupervisorLink::default()
    };
    let again = config.clone();
    let proxy = thread::spawn(move || app::run(config, Reload::new(move || Ok(again.clone())), link));
    assert_eq!(next(&mut events).await.to_string(), "leader is a (timeline 1)");

    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open_within(&cluster.app_config(write), SOON).await.unwrap());
    }
    let new_clients = NewClients::start(cluster.load(write), Duration::from_millis(50)).unwrap();
    cluster.switchover("b").await.unwrap();

    let mut change = next(&mut events).await;
    if change.kind == "fenced" {
        assert!(change.message.starts_with("no leader for 3 s: "), "{change}");
        change = next(&mut events).await;
    }
    assert!(change.message.starts_with("leader is now b (timeline 2): "), "{change}");
    assert_eq!((change.kind.as_str(), change.annotations["member"].as_str()), ("leader_change", "b"));
    assert!(number(&change, "terminated") >= SESSIONS as u64, "{change}");
    assert!(number(&change, "held") > 0 && number(&change, "write_downtime_ms") > 0, "{change}");
    assert!(timeout(A_WHILE, events.recv()).await.is_err(), "there is no further event");

    let clients = new_clients.stop().await;
    assert!(clients.iter().any(|client| client.result.is_ok()), "{clients:?}");
    commands.send(SupervisorCommand::Drain(Duration::ZERO)).await.unwrap();
    timeout(SOON, commands.closed()).await.unwrap();
    proxy.join().unwrap().unwrap();
}
