//! Faults of a real cluster: what clients of the proxy notice, and what must never happen to them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod scene;

use std::time::{Duration, Instant};

use lab::{ClusterOptions, HarmlessFault, LinkMode, Patroni};
use scene::{Retained, SOON, Scene};

/// Longer than the leader's last answer may be old for new sessions (5 s), and much shorter than its lease (20 s).
const HARMLESS: Duration = Duration::from_secs(7);

#[tokio::test]
async fn planned_switchover() {
    let scene = Scene::start(ClusterOptions::default()).await;
    let before = scene.proxy.log().unwrap().lines().count();
    scene.cluster.switchover("b").await.unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.wait_healthy(SOON).await.unwrap();
    scene.nothing_is_wrong_by_the_log_after(before);
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn planned_switchover_of_patroni_3_whose_role_for_a_primary_is_master() {
    let scene = Scene::start(ClusterOptions { patroni: Patroni::Debian, ..ClusterOptions::default() }).await;
    scene.cluster.switchover("b").await.unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.wait_healthy(SOON).await.unwrap();
    scene.cluster.switchover("a").await.unwrap();
    scene.wait_for_leader(Some("a")).await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn postgres_killed_and_restarted_in_place() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.kill_postgres("a").unwrap();
    scene.wait_for_leader(None).await;
    scene.wait_for_leader(Some("a")).await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn whole_leader_killed_and_back() {
    let scene = Scene::start(ClusterOptions { synchronous_mode: true, ..ClusterOptions::default() }).await;
    scene.cluster.kill_member("a").unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.start_member("a").unwrap();
    assert_eq!(scene.cluster.wait_healthy(SOON).await.unwrap(), "b");
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn patroni_killed_under_a_primary_that_stays_writable() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.kill_patroni("a").unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    assert_eq!(scene.cluster.primaries().await, ["a", "b"], "two members take writes now");
    scene.wait_for_alarm("two_primaries").await;
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn leader_frozen_until_another_member_is_promoted() {
    let scene = Scene::start(ClusterOptions::default()).await;
    let fault = Instant::now();
    scene.cluster.freeze_member("a").unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.thaw_member("a").unwrap();
    scene.writes_flow().await;
    assert_eq!(scene.cluster.wait_healthy(SOON).await.unwrap(), "b");
    scene.end("b", Retained::ButTheLastBefore(fault)).await;
}

#[tokio::test]
async fn leader_cut_off_from_etcd_demotes_itself() {
    let scene = Scene::start(ClusterOptions::default()).await;
    let fault = Instant::now();
    scene.cluster.cut_member_from_etcd("a", LinkMode::Paused).unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.heal_member_from_etcd("a").unwrap();
    assert_eq!(scene.cluster.wait_healthy(SOON).await.unwrap(), "b");
    scene.end("b", Retained::ButTheLastBefore(fault)).await;
}

#[tokio::test]
async fn leader_cut_off_from_everything() {
    let scene = Scene::start(ClusterOptions { synchronous_mode: true, ..ClusterOptions::default() }).await;
    scene.cluster.isolate_member("a", LinkMode::Paused).unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.writes_flow().await;
    scene.cluster.heal_member("a").unwrap();
    assert_eq!(scene.cluster.wait_healthy(SOON).await.unwrap(), "b");
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn proxy_cut_off_from_etcd_follows_the_all_members_rule_if_the_policy_says_so() {
    let scene = Scene::start_with(ClusterOptions::default(), "[policy]\non_dcs_loss = \"all_members\"").await;
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Paused).unwrap();
    scene.wait_until_routed_by("all_members").await;
    scene.writes_flow().await;
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Open).unwrap();
    scene.wait_until_routed_by("lease").await;
    scene.no_session_was_terminated().await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn proxy_cut_off_from_etcd_holds_by_default_because_patroni_demotes_without_failsafe_mode() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Cut).unwrap();
    scene.wait_for_leader(None).await;
    assert_eq!(scene.routing().await["write"]["reason"]["code"], "dcs_silent");
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Open).unwrap();
    scene.wait_for_leader(Some("a")).await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn etcd_without_quorum_and_back() {
    let scene = Scene::start(ClusterOptions { failsafe_mode: true, ..ClusterOptions::default() }).await;
    scene.cluster.lose_etcd_quorum().unwrap();
    scene.wait_until_routed_by("all_members").await;
    scene.writes_flow().await;
    scene.cluster.start_etcd().await.unwrap();
    scene.wait_until_routed_by("lease").await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn an_election_in_etcd_affects_no_session() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.move_etcd_leader().await.unwrap();
    scene.writes_flow().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.no_session_was_terminated().await;
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn proxy_frozen_during_a_failover_does_not_trust_the_old_leader() {
    let mut scene = Scene::start(ClusterOptions::default()).await;
    let revision = scene.keys.history().events.iter().map(|event| event.create_revision).max().unwrap();
    scene.proxy.freeze();
    scene.cluster.kill_patroni("a").unwrap();
    scene.keys.wait_taken_after(revision, SOON).await.unwrap();
    scene.cluster.wait_for_leader_to_be("b", SOON).await.unwrap();
    scene.proxy.thaw();
    scene.wait_for_leader(Some("b")).await;
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn sessions_from_before_a_reload_are_terminated_at_the_next_failover() {
    let scene = Scene::start(ClusterOptions::default()).await;
    let config = std::fs::read_to_string(scene.proxy.directory().join("proxy.toml")).unwrap();
    scene.proxy.write_config(&config.replace("hold_timeout = \"80s\"", "hold_timeout = \"81s\"")).unwrap();
    scene.proxy.reload();
    scene.wait_for_log("configuration reloaded").await;
    scene.no_session_was_terminated().await;
    // The old leader's server keeps running, so only the proxy can end its sessions.
    scene.cluster.kill_patroni("a").unwrap();
    scene.wait_for_leader(Some("b")).await;
    assert!(scene.terminated().await >= 4, "each writer's session was terminated");
    scene.end("b", Retained::All).await;
}

#[tokio::test]
async fn maintenance_mode_without_a_leader_key_follows_the_all_members_rule() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.set_pause(true).await.unwrap();
    scene.wait_until_paused().await;
    scene.cluster.kill_patroni("a").unwrap();
    scene.wait_until_routed_by("all_members").await;
    scene.writes_flow().await;
    scene.cluster.start_member("a").unwrap();
    scene.wait_until_routed_by("lease").await;
    scene.cluster.set_pause(false).await.unwrap();
    scene.end("a", Retained::All).await;
}

#[tokio::test]
async fn faults_that_leave_the_leader_its_role_end_no_session() {
    let scene = Scene::start(ClusterOptions::default()).await;
    for fault in HarmlessFault::ALL {
        let began = Instant::now();
        let causing = async { scene.cluster.harmless_fault(fault, HARMLESS).await.unwrap() };
        // The alarm shows that the proxy has seen the fault.
        tokio::join!(causing, scene.wait_for_alarm(alarm_of(fault)));
        eprintln!("{}: {:?}", fault.name(), began.elapsed());
        scene.writes_flow().await;
        scene.no_session_was_terminated().await;
    }
    scene.end("a", Retained::All).await;
}

fn alarm_of(fault: HarmlessFault) -> &'static str {
    match fault {
        HarmlessFault::ServerSilent => "leader_silent",
        HarmlessFault::NewConnectionsRefused => "not_accepting_connections",
        HarmlessFault::MonitorDenied => "monitor_denied",
        HarmlessFault::MonitorWithoutConnection => "monitor_no_connection",
        HarmlessFault::MemberRecordGone => "member_record_gone",
        HarmlessFault::InitializeGone => "initialize_gone",
        HarmlessFault::ConfigGone => "config_gone",
        HarmlessFault::ConfigUnreadable => "config_unreadable",
        HarmlessFault::AddressOfAReplica => "address_moved",
        HarmlessFault::ReplicaPromoted => "two_primaries",
        HarmlessFault::PausedWithoutKey => "all_members_rule",
    }
}

#[tokio::test]
async fn proxy_cut_off_from_etcd_stops_with_the_lease_of_a_leader_whose_patroni_is_dead() {
    let scene = Scene::start(ClusterOptions::default()).await;
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Paused).unwrap();
    scene.cluster.kill_patroni("a").unwrap();
    scene.wait_for_leader(None).await;
    scene.cluster.wait_for_leader_to_be("b", SOON).await.unwrap();
    assert!(scene.terminated().await >= 4, "each writer's session was terminated");
    assert_eq!(scene.cluster.primaries().await, ["a", "b"], "the old leader would still take writes");
    assert_eq!(scene.leader().await, None, "nobody has told the proxy about the new leader");
    scene.cluster.set_proxy_etcd_links("proxy", LinkMode::Open).unwrap();
    scene.wait_for_leader(Some("b")).await;
    scene.end("b", Retained::All).await;
}
