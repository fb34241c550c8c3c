//! The process in front of a real server: draining, stopping at once, reloading, and a successor that takes over.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, Link, NewClients, Proxy, ProxyArguments, Session};
use pg_leader_proxy::admin::answers::{LeaderAnswer, RoutingAnswer};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn lone_member() -> Cluster {
    Cluster::start(ClusterOptions { members: 1, ..ClusterOptions::default() }).await.unwrap()
}

async fn session(cluster: &Cluster) -> Session {
    let write = cluster.proxy_addresses("proxy").unwrap().write;
    Session::open_within(&cluster.app_config(write), SOON).await.unwrap()
}

async fn answers(session: &Session) -> bool {
    let asked = tokio::time::timeout(SOON, session.query_one("select 1", &[])).await.unwrap();
    asked.is_ok()
}

#[tokio::test]
async fn a_successor_takes_over_and_no_connection_fails() {
    let cluster = lone_member().await;
    let mut setup = cluster.proxy_command("proxy").unwrap();
    let text = cluster.proxy_config("proxy").unwrap();
    setup.arguments = ProxyArguments::Config(format!("{text}\n[session]\nso_reuseport = true\n"));
    let first = Proxy::start(&setup).await.unwrap();
    let open = session(&cluster).await;
    let load = cluster.load(cluster.proxy_addresses("proxy").unwrap().write);
    let new_clients = NewClients::start(load, Duration::from_millis(10)).unwrap();

    let second = Proxy::launch(&setup).unwrap();
    wait_for_log(&second, "forwarding to").await;
    first.terminate();
    wait_for_log(&first, "draining").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(answers(&open).await, "the open session continues in the first process");
    drop(open);
    assert!(first.wait_end(SOON).await.unwrap().success());

    let clients = new_clients.stop().await;
    assert!(clients.len() > 50, "only {} clients connected", clients.len());
    let failed: Vec<_> = clients.iter().filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), clients.len());
    drop(second);
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_stops_at_once() {
    let cluster = lone_member().await;
    let proxy = Proxy::start(&cluster.proxy_command("proxy").unwrap()).await.unwrap();
    let open = session(&cluster).await;
    proxy.terminate();
    wait_for_log(&proxy, "draining").await;
    assert!(answers(&open).await, "a draining proxy lets sessions continue");
    let write = cluster.proxy_addresses("proxy").unwrap().write;
    let began = Instant::now();
    while tokio::net::TcpStream::connect(write).await.is_ok() {
        assert!(began.elapsed() < SOON, "a draining proxy keeps listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.terminate();
    assert!(proxy.wait_end(SOON).await.unwrap().success());
    assert!(!answers(&open).await, "the session was terminated");
}

#[tokio::test]
async fn a_reload_moves_the_listener_and_keeps_the_sessions() {
    let cluster = lone_member().await;
    let proxy = Proxy::start(&cluster.proxy_command("proxy").unwrap()).await.unwrap();
    let open = session(&cluster).await;
    let before = cluster.proxy_addresses("proxy").unwrap().write;
    let after = cluster.spare_address(95, before.port());
    let text = cluster.proxy_config("proxy").unwrap();
    proxy.write_config("[write]\nlisten = \"nonsense\"\n").unwrap();
    proxy.reload();
    wait_for_log(&proxy, "the old one stays").await;
    assert!(answers(&open).await);

    proxy.write_config(&text.replace(&before.to_string(), &after.to_string())).unwrap();
    proxy.reload();
    wait_for_log(&proxy, "configuration reloaded").await;
    let moved = Session::open_within(&cluster.app_config(after), SOON).await.unwrap();
    assert!(answers(&moved).await && answers(&open).await);
    let mut load = cluster.load(before);
    load.timeout = Duration::from_secs(2);
    let new_clients = NewClients::start(load, Duration::from_millis(200)).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = new_clients.stop().await;
    assert!(!refused.is_empty());
    for client in refused {
        assert_eq!(client.result.unwrap_err().0, Failure::Refused, "the old address is closed");
    }
}

/// How long a new member has for its first answer.
const GRACE: Duration = Duration::from_secs(30);
/// Longer than an answer of the leader counts, and shorter than that.
const WITHIN_THE_GRACE: Duration = Duration::from_secs(7);

/// The configuration of a proxy that follows these members without etcd.
fn without_etcd(cluster: &Cluster, members: &[&str]) -> String {
    let text = cluster.proxy_config("proxy").unwrap();
    let (_, others) = text.split_once("[probe]").unwrap();
    let grace = GRACE.as_secs();
    format!(
        "[cluster]\nmembers = {members:?}\n[policy]\nmax_member_probe_age = \"{grace}s\"\n[probe]{others}"
    )
}

/// Waits until a page of the admin address has an answer like this.
async fn wait_for_page<T: DeserializeOwned>(proxy: &Proxy, path: &str, is: impl Fn(&T) -> bool) -> T {
    let began = Instant::now();
    loop {
        let body = proxy.get(path).await.unwrap().body;
        if let Some(answer) = serde_json::from_str(&body).ok().filter(&is) {
            return answer;
        }
        assert!(began.elapsed() < SOON, "{body}: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Changes the list of members, and waits until the proxy has read it.
async fn reload_members(proxy: &Proxy, cluster: &Cluster, members: &[&str]) {
    let told = "configuration reloaded";
    let before = proxy.log().unwrap().matches(told).count();
    proxy.write_config(&without_etcd(cluster, members)).unwrap();
    proxy.reload();
    wait_for_more_in_log(proxy, told, before).await;
}

#[tokio::test]
async fn without_etcd_a_new_member_and_a_new_name_of_the_primary_keep_the_sessions() {
    let cluster = lone_member().await;
    let server = cluster.members().next().unwrap().postgres;
    let link = Link::start(&Handle::current(), SocketAddr::from(([127, 0, 0, 1], 0)), server).unwrap();
    let primary = link.address().to_string();
    let mut setup = cluster.proxy_command("proxy").unwrap();
    setup.arguments = ProxyArguments::Config(without_etcd(&cluster, &[&primary]));
    let proxy = Proxy::start(&setup).await.unwrap();
    proxy.wait_for_ok("/leader", SOON).await.unwrap();
    let open = session(&cluster).await;

    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = Instant::now();
    reload_members(&proxy, &cluster, &[&primary, &silent.local_addr().unwrap().to_string()]).await;
    let both = |routing: &RoutingAnswer| routing.evidence.members.len() == 2;
    wait_for_page(&proxy, "/routing", both).await;
    while began.elapsed() < WITHIN_THE_GRACE {
        assert!(answers(&open).await, "{}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let name = format!("localhost:{}", link.address().port());
    reload_members(&proxy, &cluster, &[&name]).await;
    let renamed = |leader: &LeaderAnswer| leader.address == name;
    let leader = wait_for_page(&proxy, "/leader", renamed).await;
    assert_eq!((leader.socket, leader.epoch), (primary, 1));
    assert!(answers(&open).await);
}

async fn wait_for_log(proxy: &Proxy, text: &str) {
    wait_for_more_in_log(proxy, text, 0).await;
}

/// Waits until the log has this text more than `before` times.
async fn wait_for_more_in_log(proxy: &Proxy, text: &str, before: usize) {
    let began = Instant::now();
    while proxy.log().unwrap().matches(text).count() <= before {
        assert!(began.elapsed() < SOON, "never logged {text:?}: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
