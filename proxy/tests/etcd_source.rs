//! The etcd source against real etcd servers: one or three, killed, frozen, wiped, with passwords and with TLS.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, clippy::unwrap_in_result)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{CompactionOptions, ConnectOptions};
use pg_leader_proxy::clock;
use pg_leader_proxy::sources::clock::ClockWatcher;
use pg_leader_proxy_core::{ClusterConfig, ConfigProblem, MemberName, Observation, ServerAddr, SystemId};

mod certificates;
mod hung_file;
mod loopback;

#[path = "etcd_source/checks.rs"]
mod checks;
#[path = "etcd_source/login.rs"]
mod login;
#[path = "etcd_source/patroni.rs"]
mod patroni;
#[path = "etcd_source/problems.rs"]
mod problems;
#[path = "etcd_source/server.rs"]
mod server;
#[path = "etcd_source/tls.rs"]
mod tls;

use patroni::{Patroni, Source, config};
use server::{Etcd, GrpcProxy};

#[tokio::test]
async fn the_first_read_sends_everything_and_the_leader_key_with_its_lease_last() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(30).await;
    let began = clock::now();
    let mut source = Source::start(config(vec![etcd.url()]));

    let Observation::Members(members) = source.next().await else { panic!("{:?}", source.received) };
    let addrs: Vec<String> = members.values().map(|member| member.addr.to_string()).collect();
    assert_eq!(addrs, ["10.0.0.1:5432", "10.0.0.2:5432"]);
    assert_eq!(source.next().await, Observation::Config(ClusterConfig::default()));
    assert_eq!(source.next().await, Observation::Failsafe(BTreeSet::new()));
    assert_eq!(source.next().await, Observation::Switchover { announced: false });
    assert_eq!(source.next().await, Observation::Initialize(Some(SystemId(7_412_345_678_901_234_567))));
    let Observation::LeaderKey { key: Some(key), lease: Some(lease), seen } = source.next().await else {
        panic!("{:?}", source.received)
    };
    assert_eq!(key.holder, MemberName::new("a"));
    assert!(lease.fact <= Duration::from_secs(30) && lease.fact >= Duration::from_secs(20), "{lease:?}");
    assert!(began <= lease.sent && lease.sent <= seen && seen <= clock::now());
}

#[tokio::test]
async fn puts_and_deletions_are_pushed_and_a_lease_is_confirmed_at_once() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    let first = patroni.bootstrap(30).await;
    // Only the watch is this fast.
    let mut slow = config(vec![etcd.url()]);
    slow.refresh_interval = Duration::from_secs(3600);
    let mut source = Source::start(slow);
    let (before, _) = source.lease("a").await;

    patroni.put("failover", r#"{"leader":"a","member":"b"}"#).await;
    source.wait_for("the switchover", announced(true)).await;
    patroni.delete("leader").await;
    source.wait_for_no_leader().await;
    patroni.delete("failover").await;
    source.wait_for("its end", announced(false)).await;
    let second = patroni.grant(30).await;
    patroni.put_leader("b", second).await;
    let (pushed, lease, _) = source.leader("b").await;
    assert_eq!(lease, None);
    let (confirmed, _) = source.lease("b").await;
    assert_eq!(pushed, confirmed);
    assert!(confirmed.create_revision > before.create_revision);

    patroni.put_leader("b", first).await;
    let (moved, lease, _) = source.leader("b").await;
    assert_eq!((&moved, lease), (&confirmed, None), "another lease does not begin a new leadership");
    source.lease("b").await;

    patroni.put("config", r#"{"pause":true,"standby_cluster":{"host":"x"}}"#).await;
    let paused = ClusterConfig { paused: true, standby_cluster: true, ..ClusterConfig::default() };
    source.wait_for("the pause", |seen| (*seen == Observation::Config(paused)).then_some(())).await;
    patroni.delete("members/a").await;
    let left = |seen: &Observation| matches!(seen, Observation::Members(all) if all.len() == 1).then_some(());
    source.wait_for("that a left", left).await;
    patroni.delete("initialize").await;
    source.wait_for("no identifier", |seen| (*seen == Observation::Initialize(None)).then_some(())).await;
}

#[tokio::test]
async fn a_configuration_that_is_broken_or_gone_is_told_apart_from_one_that_says_nothing() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let mut source = Source::start(config(vec![etcd.url()]));
    source.lease("a").await;
    let lost = |problem: ConfigProblem| {
        move |seen: &Observation| (*seen == Observation::ConfigLost(problem)).then_some(())
    };
    for broken in ["", "{\"ttl\":", "5"] {
        patroni.put("config", broken).await;
        source.wait_for(broken, lost(ConfigProblem::Unreadable)).await;
        patroni.put("config", "{}").await;
        let usual = Observation::Config(ClusterConfig::default());
        source.wait_for("a good one", |seen| (*seen == usual).then_some(())).await;
    }
    patroni.delete("config").await;
    source.wait_for("that it is gone", lost(ConfigProblem::Deleted)).await;
}

#[tokio::test]
async fn the_members_of_failsafe_mode_are_read_and_pushed() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    patroni
        .put("failsafe", r#"{"a":"http://10.0.0.1:8008/patroni","b":"http://10.0.0.2:8008/patroni"}"#)
        .await;
    let mut source = Source::start(config(vec![etcd.url()]));
    let names =
        |names: &[&str]| Observation::Failsafe(names.iter().map(|name| MemberName::new(name)).collect());
    let both = names(&["a", "b"]);
    source.wait_for("both", |seen| (*seen == both).then_some(())).await;
    patroni.put("failsafe", r#"{"a":"http://10.0.0.1:8008/patroni"}"#).await;
    let one = names(&["a"]);
    source.wait_for("one", |seen| (*seen == one).then_some(())).await;
    patroni.delete("failsafe").await;
    let none = names(&[]);
    source.wait_for("none", |seen| (*seen == none).then_some(())).await;
}

#[tokio::test]
async fn a_lease_is_read_the_more_often_the_less_of_it_is_left() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    let lease = patroni.bootstrap(9).await;
    let mut seldom = config(vec![etcd.url()]);
    seldom.refresh_interval = Duration::from_secs(3600);
    let mut source = Source::start(seldom);
    let mut reads = vec![source.lease("a").await.1];
    while reads.last().unwrap().fact > Duration::from_secs(3) {
        reads.push(source.lease("a").await.1);
    }
    // Half of what is left until two seconds before the end, and so on: three reads at least, each sooner than the last.
    assert!(reads.len() >= 3, "{reads:?}");
    let horizon = reads[0].sent + reads[0].fact - Duration::from_secs(2);
    assert!(reads.last().unwrap().sent < horizon, "{reads:?}");
    // A renewal makes no event, and is seen all the same.
    patroni.0.lease_keep_alive(lease).await.unwrap().0.keep_alive().await.unwrap();
    let renewed = loop {
        let (_, read) = source.lease("a").await;
        if read.fact > Duration::from_secs(3) {
            break read;
        }
    };
    assert!(renewed.fact > Duration::from_secs(5), "{renewed:?}");
}

#[tokio::test]
async fn after_a_step_of_the_clock_everything_is_read_again_at_once() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(3600).await;
    let mut seldom = config(vec![etcd.url()]);
    seldom.refresh_interval = Duration::from_secs(3600);
    let mut watching = tokio::task::JoinSet::new();
    let stepped = Arc::new(AtomicBool::new(false));
    let step = Arc::clone(&stepped);
    let clocks = move || {
        let now = clock::now();
        let ahead = if step.load(Ordering::Relaxed) { Duration::from_secs(60) } else { Duration::ZERO };
        (now, now.since_boot() + ahead)
    };
    let mut source = Source::rereading(seldom, |observations| {
        let watcher = ClockWatcher::new(clocks, observations);
        let steps = watcher.steps();
        watching.spawn(watcher.run());
        steps
    });
    source.lease("a").await;
    stepped.store(true, Ordering::Relaxed);
    let at = source
        .wait_for("the step", |seen| match seen {
            Observation::ClockStepped { at } => Some(*at),
            _ => None,
        })
        .await;
    let (_, read) = source.lease("a").await;
    assert!(read.sent >= at, "read at {} after a step at {at}", read.sent);
}

fn announced(wanted: bool) -> impl Fn(&Observation) -> Option<()> {
    move |seen| (*seen == Observation::Switchover { announced: wanted }).then_some(())
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_lasts_at_least_as_long_as_reported() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(5).await;
    let mut source = Source::start(config(vec![etcd.url()]));
    source.lease("a").await;
    source.wait_for_no_leader().await;
    let gone = clock::now();
    for observation in &source.received {
        if let Observation::LeaderKey { lease: Some(lease), .. } = observation {
            assert!(lease.sent + lease.fact <= gone, "{lease:?} was too long: it was gone at {gone}");
        }
    }
}

#[tokio::test]
async fn a_compacted_store_is_read_again() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let mut source = Source::start(config(vec![etcd.url()]));
    source.lease("a").await;
    etcd.kill();
    source.wait_for_silence().await;

    // The same store, at an address that the source does not know.
    let aside = loopback::own_address();
    etcd.start_at(aside);
    let url = format!("http://{aside}:2379");
    let mut patroni = Patroni(etcd.client_at(&url, ConnectOptions::new()).await);
    patroni.delete("leader").await;
    let lease = patroni.grant(60).await;
    patroni.put_leader("b", lease).await;
    let revision = patroni.0.get("x", None).await.unwrap().header().unwrap().revision();
    patroni.0.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    etcd.kill();
    etcd.start();

    let (_, lease, _) = source.leader("b").await;
    assert!(lease.is_some(), "after a silence the key arrives with its lease");
}

#[tokio::test]
async fn a_lost_or_restored_store_counts_whatever_was_known_before() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    for _ in 0..20 {
        patroni.put("status", "{}").await;
    }
    patroni.bootstrap(60).await;
    let mut source = Source::start(config(vec![etcd.url()]));
    let (before, _) = source.lease("a").await;
    etcd.wipe();
    source.wait_for_silence().await;
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    source.wait_for_no_leader().await;
    patroni.bootstrap(60).await;
    let (after, _) = source.lease("a").await;
    assert!(after.create_revision < before.create_revision);
}

#[tokio::test]
async fn a_frozen_endpoint_is_replaced_by_the_next_one() {
    let mut cluster = Etcd::cluster();
    for etcd in &mut cluster {
        etcd.client().await;
    }
    let mut patroni = Patroni(cluster[2].client().await);
    patroni.bootstrap(60).await;
    let mut source = Source::start(config(cluster.iter().map(Etcd::url).collect()));
    source.lease("a").await;
    cluster[0].freeze();
    let frozen = clock::now();
    source
        .wait_for("a read at the next endpoint", |seen| match seen {
            Observation::LeaderKey { lease: Some(lease), .. } if lease.sent > frozen => Some(()),
            _ => None,
        })
        .await;
    let took = clock::now().since(frozen);
    let silent = source.received.iter().any(|seen| matches!(seen, Observation::DcsSilent { .. }));
    assert!(!silent || took > Duration::from_millis(1500), "silent too early: {:?}", source.received);
    patroni.delete("leader").await;
    source.wait_for_no_leader().await;
    cluster[0].thaw();
}

#[tokio::test]
async fn without_a_quorum_the_store_is_silent_and_afterwards_key_and_lease_arrive_together() {
    let mut cluster = Etcd::cluster();
    for etcd in &mut cluster {
        etcd.client().await;
    }
    let mut patroni = Patroni(cluster[0].client().await);
    let lease = patroni.bootstrap(60).await;
    let mut source = Source::start(config(cluster.iter().map(Etcd::url).collect()));
    source.lease("a").await;
    cluster[1].freeze();
    cluster[2].freeze();
    source.wait_for_silence().await;
    let silent_at = source.received.len();
    cluster[1].thaw();
    cluster[2].thaw();
    let (key, lease_seen, _) = source.leader("a").await;
    assert!(lease_seen.is_some(), "{key:?} came back without its lease");
    let silences = source.received[silent_at..]
        .iter()
        .filter(|seen| matches!(seen, Observation::DcsSilent { .. }))
        .count();
    assert_eq!(silences, 0, "a silence is reported once");
    // And the watch works again.
    let mut patroni = Patroni(cluster[0].client().await);
    patroni.0.lease_revoke(lease).await.unwrap();
    source.wait_for_no_leader().await;
}

#[tokio::test]
async fn an_invalid_value_affects_only_itself() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    patroni.put("members/c", "{\"conn_url\":").await;
    patroni.put("members/d", r#"{"conn_url":"postgres://[fd00::4]:5433/postgres"}"#).await;
    patroni.put("history", "[").await;
    let mut map = config(vec![etcd.url()]);
    map.address_map.insert(ServerAddr::new("fd00::4", 5433), ServerAddr::new("nat.example", 15433));
    let mut source = Source::start(map);
    let members = source
        .wait_for("the members", |seen| match seen {
            Observation::Members(members) => Some(members.clone()),
            _ => None,
        })
        .await;
    assert_eq!(members.keys().map(MemberName::as_str).collect::<Vec<_>>(), ["a", "b", "d"]);
    assert_eq!(members[&MemberName::new("d")].addr, ServerAddr::new("nat.example", 15433));
    source.lease("a").await;
    patroni.put("initialize", "soon").await;
    source.wait_for("no identifier", |seen| (*seen == Observation::Initialize(None)).then_some(())).await;
    let lease = patroni.grant(60).await;
    patroni.put_leader("", lease).await;
    source.wait_for_no_leader().await;
    patroni.put_leader("b", lease).await;
    source.lease("b").await;
}

#[tokio::test]
async fn the_grpc_proxy_of_etcd_is_an_endpoint_like_others() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let proxy = GrpcProxy::start(&etcd);
    let mut brief = config(vec![proxy.url()]);
    brief.timeout = Duration::from_millis(500);
    let mut source = Source::start(brief);
    source.lease("a").await;
    // Each session begins with all members.
    let sessions = |source: &Source| {
        source.received.iter().filter(|seen| matches!(seen, Observation::Members(_))).count()
    };
    let before = sessions(&source);
    let until = clock::now() + Duration::from_secs(5);
    while clock::now() < until {
        source.next().await;
    }
    assert_eq!(sessions(&source), before, "the session ended: {:?}", source.received);
    patroni.delete("leader").await;
    source.wait_for_no_leader().await;
}
