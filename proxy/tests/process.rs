//! The process in front of a real server: draining, stopping at once, reloading, and a successor that takes over.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, NewClients, Proxy, ProxyArguments, Session};

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

async fn wait_for_log(proxy: &Proxy, text: &str) {
    let began = Instant::now();
    while !proxy.log().unwrap().contains(text) {
        assert!(began.elapsed() < SOON, "never logged {text:?}: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
