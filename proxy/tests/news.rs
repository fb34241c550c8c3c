//! News of a real cluster: one sentence for a switchover, whose numbers are those that clients felt.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::{Cluster, ClusterOptions, MONITOR, NewClients, Session};
use pg_leader_proxy::app::{self, News, Order, Reload, Ties};
use pg_leader_proxy::config::{Config, Origins};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Beyond anything that a healthy step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Longer than it takes to tell what there is to tell.
const A_WHILE: Duration = Duration::from_secs(5);
const SESSIONS: usize = 3;

fn config(cluster: &Cluster) -> Config {
    let file: PathBuf = cluster.directory().join("held.toml");
    std::fs::write(&file, cluster.proxy_config("proxy").unwrap()).unwrap();
    let environment = BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned())]);
    Config::load(&Origins { file: Some(file), environment, ..Origins::default() }).unwrap()
}

async fn next(news: &mut mpsc::Receiver<News>) -> News {
    timeout(SOON, news.recv()).await.expect("nothing was told").expect("the proxy ended")
}

fn number(news: &News, fact: &str) -> u64 {
    news.annotations[fact].parse().unwrap()
}

#[tokio::test]
async fn a_switchover_is_one_sentence_with_its_cost() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let (config, write) = (config(&cluster), cluster.proxy_addresses("proxy").unwrap().write);
    let (orders, ordered) = mpsc::channel(1);
    let (told, mut news) = mpsc::channel(1);
    let ties = Ties { orders: Some(ordered), news: Some(told), ..Ties::default() };
    let again = config.clone();
    let proxy = thread::spawn(move || app::run(config, Reload::new(move || Ok(again.clone())), ties));
    assert_eq!(next(&mut news).await.to_string(), "leader is a (timeline 1)");

    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open_within(&cluster.app_config(write), SOON).await.unwrap());
    }
    let new_clients = NewClients::start(cluster.load(write), Duration::from_millis(50)).unwrap();
    cluster.switchover("b").await.unwrap();

    let mut change = next(&mut news).await;
    if change.kind == "fenced" {
        assert!(change.message.starts_with("no leader for 3 s: "), "{change}");
        change = next(&mut news).await;
    }
    assert!(change.message.starts_with("leader is now b (timeline 2): "), "{change}");
    assert_eq!((change.kind.as_str(), change.annotations["member"].as_str()), ("leader_change", "b"));
    assert!(number(&change, "severed") >= SESSIONS as u64, "{change}");
    assert!(number(&change, "held") > 0 && number(&change, "gap_ms") > 0, "{change}");
    assert!(timeout(A_WHILE, news.recv()).await.is_err(), "there is no more to tell");

    let clients = new_clients.stop().await;
    assert!(clients.iter().any(|client| client.result.is_ok()), "{clients:?}");
    orders.send(Order::Drain(Duration::ZERO)).await.unwrap();
    timeout(SOON, orders.closed()).await.unwrap();
    proxy.join().unwrap().unwrap();
}
