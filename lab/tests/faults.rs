//! Every fault does what its documentation says, and the cluster is healthy again after it is undone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, KeyWatch, LinkMode, Patroni};

/// Longer than the key's expiry, a promotion and a rewind on a busy machine.
const SOON: Duration = Duration::from_secs(90);
/// Longer than Patroni's `loop_wait`: what has not happened by then will not happen.
const ROUNDS: Duration = Duration::from_secs(8);

async fn start(options: ClusterOptions) -> (Cluster, KeyWatch) {
    let cluster = Cluster::start(options).await.unwrap();
    let keys = KeyWatch::start(&cluster).await.unwrap();
    (cluster, keys)
}

fn revision(keys: &KeyWatch) -> i64 {
    keys.history().events.iter().map(|event| event.create_revision).max().unwrap()
}

async fn healthy(cluster: &Cluster, leader: &str) {
    assert_eq!(cluster.wait_healthy(SOON).await.unwrap(), leader);
}

async fn has_table(cluster: &Cluster, member: &str, table: &str) -> bool {
    let server = cluster.superuser(member, "postgres").await.unwrap();
    server.query_one("select to_regclass($1) is not null", &[&table]).await.unwrap().get(0)
}

#[tokio::test]
async fn killed_and_frozen_members_come_back() {
    let (cluster, mut keys) = start(ClusterOptions::default()).await;
    let first = revision(&keys);

    cluster.kill_postgres("a").unwrap();
    assert!(cluster.in_recovery("a").await.is_err(), "killed PostgreSQL answered");
    healthy(&cluster, "a").await;
    assert_eq!(revision(&keys), first, "Patroni keeps the key and restarts PostgreSQL");

    cluster.kill_patroni("a").unwrap();
    let taken = keys.wait_taken_after(first, SOON).await.unwrap();
    assert_eq!(taken.holder.as_deref(), Some("b"));
    cluster.wait_for_leader_to_be("b", SOON).await.unwrap();
    assert_eq!(cluster.primaries().await, ["a", "b"], "nobody demotes the old leader");
    cluster.start_member("a").unwrap();
    healthy(&cluster, "b").await;

    cluster.freeze_member("b").unwrap();
    let taken = keys.wait_taken_after(taken.create_revision, SOON).await.unwrap();
    assert_eq!(taken.holder.as_deref(), Some("a"));
    cluster.wait_for_leader_to_be("a", SOON).await.unwrap();
    cluster.thaw_member("b").unwrap();
    healthy(&cluster, "a").await;

    let began = Instant::now();
    cluster.kill_member("a").unwrap();
    let taken = keys.wait_taken_after(taken.create_revision, SOON).await.unwrap();
    assert_eq!(taken.holder.as_deref(), Some("b"));
    assert!(taken.at - began > ROUNDS, "the key of a crashed leader has to expire");
    cluster.start_member("a").unwrap();
    healthy(&cluster, "b").await;
}

#[tokio::test]
async fn network_faults_heal() {
    let (cluster, mut keys) = start(ClusterOptions::default()).await;
    let first = revision(&keys);

    cluster.cut_member_from_etcd("a", LinkMode::Cut).unwrap();
    let taken = keys.wait_taken_after(first, SOON).await.unwrap();
    assert_eq!(taken.holder.as_deref(), Some("b"));
    cluster.heal_member_from_etcd("a").unwrap();
    healthy(&cluster, "b").await;

    cluster.isolate_member("b", LinkMode::Paused).unwrap();
    let through = cluster.app_config(cluster.member("b").unwrap().postgres);
    let connected = lab::Session::open_within(&through, Duration::from_secs(1)).await;
    assert!(connected.unwrap_err().to_string().contains("no session"), "a paused link answers nothing");
    let taken = keys.wait_taken_after(taken.create_revision, SOON).await.unwrap();
    assert_eq!(taken.holder.as_deref(), Some("a"));
    cluster.heal_member("b").unwrap();
    healthy(&cluster, "a").await;

    let leader = cluster.superuser("a", "postgres").await.unwrap();
    cluster.isolate_member("b", LinkMode::Paused).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    leader.batch_execute("create table while_apart ()").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!has_table(&cluster, "b", "while_apart").await, "an isolated replica received WAL");
    cluster.heal_member("b").unwrap();
    healthy(&cluster, "a").await;

    cluster.move_etcd_leader().await.unwrap();
    tokio::time::sleep(ROUNDS).await;
    assert_eq!(revision(&keys), taken.create_revision, "etcd's own election does not change the leader");
    healthy(&cluster, "a").await;

    cluster.lose_etcd_quorum().unwrap();
    assert!(cluster.leader().await.is_err(), "no quorum, no answer");
    cluster.start_etcd().await.unwrap();
    let leader = cluster.wait_healthy(SOON).await.unwrap();

    cluster.set_pause(true).await.unwrap();
    cluster.kill_patroni(&leader).unwrap();
    tokio::time::sleep(ROUNDS).await;
    cluster.start_member(&leader).unwrap();
    cluster.set_pause(false).await.unwrap();
    healthy(&cluster, &leader).await;
}

#[tokio::test]
async fn failsafe_mode_keeps_a_leader_without_etcd() {
    let options = ClusterOptions {
        failsafe_mode: true,
        synchronous_mode: true,
        tls: true,
        ..ClusterOptions::default()
    };
    let (cluster, keys) = start(options).await;
    assert!(cluster.ca_certificate().unwrap().is_file());
    let shown = cluster.superuser("a", "postgres").await.unwrap().query_one("show ssl", &[]).await.unwrap();
    assert_eq!(shown.get::<_, &str>(0), "on");
    // A member learns of failsafe mode in the first round after the other one has joined.
    tokio::time::sleep(ROUNDS).await;

    cluster.lose_etcd_quorum().unwrap();
    let until = Instant::now() + Duration::from_secs(u64::from(cluster.options().ttl)) + ROUNDS;
    while Instant::now() < until {
        assert_eq!(cluster.primaries().await, ["a"], "the leader demoted itself");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cluster.start_etcd().await.unwrap();
    healthy(&cluster, "a").await;
    drop(keys);
}

#[tokio::test]
async fn debians_patroni_runs_a_cluster_too() {
    let (cluster, _keys) =
        start(ClusterOptions { patroni: Patroni::Debian, ..ClusterOptions::default() }).await;
    cluster.switchover("b").await.unwrap();
    healthy(&cluster, "b").await;
    cluster.pause_replay("a").await.unwrap();
    cluster.resume_replay("a").await.unwrap();
}
