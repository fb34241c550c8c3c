//! The lab's own proof: a real cluster starts, switches over under load, and leaves nothing behind.

use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, KeyWatch, NewClients, TOLERANCE, Writers};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cluster_starts_switches_over_and_leaves_nothing() {
    let began = Instant::now();
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    assert!(began.elapsed() < SOON, "up only after {:?}", began.elapsed());
    let directory = cluster.directory().to_path_buf();
    assert_eq!(cluster.leader().await.unwrap().as_deref(), Some("a"));
    let keys = KeyWatch::start(&cluster).await.unwrap();
    // Straight to the new leader: before the switchover it is read-only, after it the writes are its.
    let load = cluster.load(cluster.member("b").unwrap().postgres);
    let writers = Writers::start(load.clone()).unwrap();
    let latecomers = NewClients::start(load, Duration::from_millis(50)).unwrap();
    let promoted = tokio::spawn(cluster.out_of_recovery("b", SOON).unwrap());

    let began = Instant::now();
    cluster.switchover("b").await.unwrap();
    let promoted = promoted.await.unwrap().unwrap();
    writers.wait_for_more(100, SOON).await.unwrap();
    assert_eq!(cluster.wait_healthy(SOON).await.unwrap(), "b");
    assert_eq!(cluster.primaries().await, ["b"]);

    let history = writers.stop().await;
    assert!(history.read_only_errors() > 0, "{:?}", history.errors_by_kind());
    assert_eq!(history.hung(), 0);
    assert!(history.stale_leader_writes(&keys.history(), TOLERANCE).is_empty());
    assert!(history.lost(&cluster, "b").await.unwrap().is_empty());
    let arrivals = latecomers.stop().await;
    let refused =
        |failure: &Failure| arrivals.iter().any(|one| matches!(&one.result, Err((f, _)) if f == failure));
    assert!(refused(&Failure::ReadOnly), "the first ones met a server in recovery");
    assert!(arrivals.iter().any(|one| one.result.as_deref() == Ok("b")), "the last ones were served");
    let deleted = keys.history().deleted_after(began).unwrap().at;
    let taken = keys.history().taken_after(began).unwrap().clone();
    let written = history.first_by("b", began).unwrap().acknowledged;
    assert_eq!(taken.holder.as_deref(), Some("b"));
    assert!(deleted < taken.at && taken.at < promoted, "Patroni promotes after it has the key");
    assert!(written > taken.at);

    drop(cluster);
    assert!(!directory.exists() || std::env::var_os("LAB_KEEP").is_some());
}
