//! The lab's own proof: a real cluster starts, switches over, and leaves nothing behind.

use std::time::{Duration, Instant};

use lab::{Cluster, Setup};

#[tokio::test]
async fn a_cluster_starts_switches_over_and_leaves_nothing() {
    let began = Instant::now();
    let cluster = Cluster::start(Setup::default()).await.unwrap();
    eprintln!("up after {:?}", began.elapsed());
    let directory = cluster.directory().to_path_buf();
    assert_eq!(cluster.leader().await.unwrap().as_deref(), Some("a"));

    let began = Instant::now();
    cluster.switchover("b").await.unwrap();
    eprintln!("switched over after {:?}", began.elapsed());
    cluster.wait_for_leader_to_be("b", Duration::from_secs(10)).await.unwrap();
    assert_eq!(cluster.wait_healthy(Duration::from_secs(60)).await.unwrap(), "b");
    eprintln!("healthy after {:?}", began.elapsed());
    assert_eq!(cluster.primaries().await, ["b"]);

    let began = Instant::now();
    drop(cluster);
    eprintln!("gone after {:?}", began.elapsed());
    assert!(!directory.exists());
}
