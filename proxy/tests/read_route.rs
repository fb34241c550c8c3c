//! The read route on a real cluster: new readers go to the replica, elsewhere when it lags or dies, and back again.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Proxy, ProxyArguments, Session};

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// A cluster and a proxy whose replicas may lag by 256 kB, with the leader as the fallback.
async fn start() -> (Cluster, Proxy) {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut proxy = cluster.proxy_command("proxy").unwrap();
    let read = format!("listen = [\"{}\"]", cluster.proxy_addresses("proxy").unwrap().read);
    let text = cluster.proxy_config("proxy").unwrap();
    proxy.arguments = ProxyArguments::Config(
        text.replace(&read, &format!("{read}\nmax_lag = \"256kB\"\nfallback = \"leader\"")),
    );
    let proxy = Proxy::start(&proxy).await.unwrap();
    (cluster, proxy)
}

async fn reader(cluster: &Cluster) -> Session {
    let read = cluster.proxy_addresses("proxy").unwrap().read;
    Session::open_within(&cluster.app_config(read), SOON).await.unwrap()
}

/// The member that a session is connected to.
async fn member_of(cluster: &Cluster, session: &Session) -> Option<String> {
    let asked =
        tokio::time::timeout(SOON, session.query_one("select inet_server_addr()", &[])).await.unwrap();
    let addr: IpAddr = asked.ok()?.get(0);
    let member = cluster.members().find(|member| member.postgres_direct.ip() == addr);
    member.map(|member| member.name.clone())
}

/// Waits until a new reader is connected to this member.
async fn wait_for_readers_on(cluster: &Cluster, proxy: &Proxy, member: &str) -> Session {
    let began = Instant::now();
    loop {
        let session = reader(cluster).await;
        if member_of(cluster, &session).await.as_deref() == Some(member) {
            return session;
        }
        assert!(began.elapsed() < SOON, "no reader ever reached {member}: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn new_readers_go_to_the_replica_only_while_it_keeps_up() {
    let (cluster, proxy) = start().await;
    let early = wait_for_readers_on(&cluster, &proxy, "b").await;
    let in_recovery: bool = early.query_one("select pg_is_in_recovery()", &[]).await.unwrap().get(0);
    assert!(in_recovery);

    cluster.pause_replay("b").await.unwrap();
    let writer = cluster.superuser("a", "app").await.unwrap();
    writer
        .batch_execute("create table bulk as select repeat('x', 1000) from generate_series(1, 4000)")
        .await
        .unwrap();
    let _on_leader = wait_for_readers_on(&cluster, &proxy, "a").await;
    assert_eq!(member_of(&cluster, &early).await.as_deref(), Some("b"), "an open session stays");

    cluster.resume_replay("b").await.unwrap();
    let back = wait_for_readers_on(&cluster, &proxy, "b").await;

    cluster.kill_member("b").unwrap();
    let began = Instant::now();
    while member_of(&cluster, &back).await.is_some() {
        assert!(began.elapsed() < SOON, "the session on the dead replica did not end");
    }
    let _on_leader = wait_for_readers_on(&cluster, &proxy, "a").await;
    cluster.start_member("b").unwrap();
    let _back = wait_for_readers_on(&cluster, &proxy, "b").await;
}
