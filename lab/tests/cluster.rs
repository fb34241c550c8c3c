//! A real cluster starts, switches over under load, and leaves nothing behind.

use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, KeyWatch, NewClients, TOLERANCE, Writers, left_recovery};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cluster_starts_switches_over_and_leaves_nothing_behind() {
    let began = Instant::now();
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    assert!(began.elapsed() < SOON, "up only after {:?}", began.elapsed());
    let directory = cluster.directory().to_path_buf();
    assert_eq!(cluster.leader().await.unwrap().as_deref(), Some("a"));
    let keys = KeyWatch::start(&cluster).await.unwrap();
    // Directly to the member that will be the leader: it is read-only before the switchover and writable after it.
    let load = cluster.load(cluster.member("b").unwrap().postgres);
    let writers = Writers::start(load.clone()).unwrap();
    let new_clients = NewClients::start(load, Duration::from_millis(50)).unwrap();
    let promoted = tokio::spawn(left_recovery(cluster.superuser("b", "postgres").await.unwrap(), SOON));

    let began = Instant::now();
    cluster.switchover("b").await.unwrap();
    let promoted = promoted.await.unwrap().unwrap();
    assert!(promoted.not_before > began && promoted.not_before < promoted.seen);
    writers.wait_for_more(100, SOON).await.unwrap();
    assert_eq!(cluster.wait_healthy(SOON).await.unwrap(), "b");
    assert_eq!(cluster.primaries().await, ["b"]);

    let history = writers.stop().await;
    assert!(history.read_only_errors() > 0, "{:?}", history.errors_by_kind());
    assert_eq!(history.hung(), 0);
    assert!(history.stale_leader_writes(&keys.history(), TOLERANCE).is_empty());
    assert!(history.lost(&cluster, "b").await.unwrap().is_empty());
    let clients = new_clients.stop().await;
    let met = |failure: &Failure| {
        clients.iter().any(|client| matches!(&client.result, Err((f, _)) if f == failure))
    };
    assert!(met(&Failure::ReadOnly), "the first clients met a server in recovery");
    assert!(clients.iter().any(|client| client.result.as_deref() == Ok("b")), "the last clients were served");
    let deleted = keys.history().deleted_after(began).unwrap().at;
    let taken = keys.history().taken_after(began).unwrap().clone();
    let written = history.first_by("b", began).unwrap().acknowledged;
    assert_eq!(taken.holder.as_deref(), Some("b"));
    assert!(deleted < taken.at && taken.at < promoted.seen, "Patroni promotes after it has taken the key");
    assert!(written > taken.at);

    drop(cluster);
    assert!(!directory.exists() || std::env::var_os("LAB_KEEP").is_some());
}
