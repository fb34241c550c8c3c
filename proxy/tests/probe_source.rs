//! The probes against real PostgreSQL servers: promoted, stopped, frozen, full, and with TLS.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, clippy::unwrap_in_result)]

use std::error::Error;
use std::time::Duration;

use pg_leader_proxy::clock;
use pg_leader_proxy::config::{Secret, SslMode};
use pg_leader_proxy::sources::probe::{ProbeError, check_member};
use pg_leader_proxy_core::{
    MemberName, ProbeConnection, ProbeFailure, ProbeUrgency, Role, ServerAddr, SystemId, Timeline,
};
use rustix::process::Signal;

mod certificates;
mod loopback;

#[path = "probe_source/addresses.rs"]
mod addresses;
#[path = "probe_source/pooler.rs"]
mod pooler;
#[path = "probe_source/probes.rs"]
mod probes;
#[path = "probe_source/reload.rs"]
mod reload;
#[path = "probe_source/server.rs"]
mod server;
#[path = "probe_source/server_log.rs"]
mod server_log;
#[path = "probe_source/tls.rs"]
mod tls;

use probes::{Probes, config, probe_plan};
use server::Postgres;

fn burst() -> ProbeUrgency {
    ProbeUrgency::Burst(MemberName::new("a"))
}

#[tokio::test]
async fn a_user_without_privileges_gets_a_complete_reply_from_a_primary() {
    let server = Postgres::primary(&[]).await;
    let reply = check_member(&config(), &server.addr()).await.unwrap();
    let id = server.value("(pg_control_system()).system_identifier").await;
    assert_eq!(reply.system_id, SystemId(id.parse().unwrap()));
    let Role::Primary { timeline, written } = reply.role else { panic!("{reply:?}") };
    assert_eq!(timeline, Timeline(1));
    let behind = server.value(&format!("pg_current_wal_lsn() - '{written}'")).await;
    assert!(behind.parse::<i64>().unwrap() >= 0 && written.0 > 0x0100_0000, "{written} is {behind} behind");
}

#[tokio::test]
async fn a_user_without_privileges_gets_all_but_the_timeline_of_a_replica_and_sees_its_promotion() {
    let mut primary = Postgres::primary(&[]).await;
    let replica = Postgres::replica(&mut primary).await;
    let mut probes = Probes::of_one(config(), replica.addr(), burst());
    let streaming_reply = probes
        .wait_for("a streaming replica", |probe| {
            probe.outcome.is_ok_and(|reply| matches!(reply.role, Role::Replica { streaming: true, .. }))
        })
        .await;
    let Ok(reply) = streaming_reply.outcome else { panic!("{streaming_reply:?}") };
    let Role::Replica { timeline, received, replayed, .. } = reply.role else { panic!("{reply:?}") };
    assert_eq!(timeline, None, "the timeline of a WAL receiver is hidden from a user without pg_monitor");
    assert!(received.is_some() && replayed.is_some());
    assert_eq!(reply.system_id, check_member(&config(), &primary.addr()).await.unwrap().system_id);

    replica.execute("SELECT pg_promote(wait => false)").await;
    let promoted = probes.wait_for("the promotion", probes::ProbeOutcome::is_primary).await;
    let Role::Primary { timeline, .. } = promoted.outcome.unwrap().role else { unreachable!() };
    assert_eq!(timeline, Timeline(2));
    let last_before = probes.received.iter().rev().find(|probe| probe.is_replica()).unwrap().sent;
    let gap = promoted.sent.since(last_before);
    assert!(gap < Duration::from_millis(500), "probed only every {gap:?} in a burst");
}

#[tokio::test]
async fn a_replica_replies_whatever_the_default_isolation_of_the_user_is() {
    let mut primary = Postgres::primary(&["default_transaction_isolation = serializable"]).await;
    primary.execute("ALTER USER monitor SET default_transaction_deferrable = on").await;
    let replica = Postgres::replica(&mut primary).await;
    for server in [&primary, &replica] {
        let mut probes = Probes::of_one(config(), server.addr(), burst());
        for _ in 0..3 {
            assert!(probes.next().await.outcome.is_ok(), "{:?}", probes.received);
        }
    }
    assert!(!primary.log().contains("WARNING"), "{}", primary.log());
}

#[tokio::test]
async fn a_replica_that_does_not_stream_reports_it() {
    let mut server = Postgres::primary(&[]).await;
    server.signal(Signal::INT);
    server.wait().await;
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.start().await;
    let reply = check_member(&config(), &server.addr()).await.unwrap();
    let Role::Replica { timeline, streaming, .. } = reply.role else { panic!("{reply:?}") };
    assert_eq!((timeline, streaming), (Some(Timeline(1)), false));
}

#[tokio::test]
async fn a_rejected_login_says_what_may_be_wrong() {
    let server = Postgres::primary(&[]).await;
    let addr = server.addr();
    let mut wrong = config();
    wrong.password = Some(Secret::new("sesame".to_owned()));
    denied(&check_member(&wrong, &addr).await.unwrap_err(), "the user or the password is wrong");
    wrong.password = None;
    denied(&check_member(&wrong, &addr).await.unwrap_err(), "the server wants a password");
    let mut stranger = config();
    stranger.user = "stranger".to_owned();
    denied(&check_member(&stranger, &addr).await.unwrap_err(), "pg_hba.conf has no line");
    // There is no TLS to try instead.
    stranger.sslmode = SslMode::Allow;
    denied(&check_member(&stranger, &addr).await.unwrap_err(), "pg_hba.conf has no line");
    let mut elsewhere = config();
    elsewhere.database = "nowhere".to_owned();
    denied(&check_member(&elsewhere, &addr).await.unwrap_err(), "there is no such database");
    server.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await;
    denied(&check_member(&config(), &addr).await.unwrap_err(), "may not connect to this database");

    let mut encrypted = config();
    encrypted.sslmode = SslMode::Require;
    let error = check_member(&encrypted, &addr).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::Failed);
    assert!(error.to_string().contains("TLS failed"), "{error}");
    let nobody = ServerAddr::new("127.0.0.1", 1);
    assert_eq!(check_member(&config(), &nobody).await.unwrap_err().failure(), ProbeFailure::Refused);
    let unknown = ServerAddr::new("no-such-host.invalid", 5432);
    assert_eq!(check_member(&config(), &unknown).await.unwrap_err().failure(), ProbeFailure::Unresolved);
}

fn denied(error: &ProbeError, advice: &str) {
    let shown = format!("{error} {error:?} {}", error.source().unwrap());
    assert_eq!(error.failure(), ProbeFailure::Denied, "{shown}");
    assert!(error.to_string().contains(advice), "{error} does not say {advice:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[tokio::test]
async fn the_end_of_the_persistent_connection_is_noticed_at_once() {
    let mut server = Postgres::primary(&[]).await;
    // At normal urgency the next query would follow in an hour.
    let mut probes = Probes::of_one(config(), server.addr(), ProbeUrgency::Normal);
    probes.wait_for("its word", probes::ProbeOutcome::is_primary).await;
    server.signal(Signal::INT);
    let first = probes.next().await.outcome;
    // A server with no other session may be gone before it is probed again.
    assert!(
        matches!(first, Err(ProbeFailure::ShuttingDown | ProbeFailure::Refused)),
        "the first word after the end: {first:?}"
    );
    server.wait().await;

    // When a postmaster is killed, its backends exit without an error message.
    server.start().await;
    probes.probe_plan.send_replace(probe_plan(&[("a", server.addr())], burst()));
    probes.wait_for("its word", probes::ProbeOutcome::is_primary).await;
    server.signal(Signal::KILL);
    probes.failure(ProbeFailure::Refused).await;
    server.wait().await;
    server.start().await;
    probes.wait_for("its word after the crash", probes::ProbeOutcome::is_primary).await;
}

#[tokio::test]
async fn a_frozen_server_times_out_and_replies_again_when_it_continues() {
    let server = Postgres::primary(&[]).await;
    let mut probes = Probes::of_one(config(), server.addr(), burst());
    probes.wait_for("its word", probes::ProbeOutcome::is_primary).await;
    server.signal_all(Signal::STOP);
    let silent = probes.failure(ProbeFailure::TimedOut).await;
    assert!(
        clock::now().since(silent.sent) >= Duration::from_secs(2),
        "stamped with when the probe was sent"
    );
    server.signal_all(Signal::CONT);
    probes.wait_for("its word", probes::ProbeOutcome::is_primary).await;
}

#[tokio::test]
async fn a_hung_postmaster_shows_only_over_a_new_connection() {
    let server = Postgres::primary(&[]).await;
    let mut both = config();
    both.connect_interval = Duration::from_millis(100);
    let mut probes = Probes::of_one(both, server.addr(), burst());
    probes
        .wait_for("a fresh word", |probe| probe.connection == ProbeConnection::New && probe.is_primary())
        .await;
    server.signal(Signal::STOP);
    probes.wait_for("its silence", |probe| probe.outcome == Err(ProbeFailure::TimedOut)).await;
    let silent = probes.received.last().unwrap().clone();
    assert_eq!(silent.connection, ProbeConnection::New);
    let meanwhile =
        probes.received.iter().filter(|probe| probe.sent > silent.sent && probe.is_primary()).count();
    assert!(meanwhile > 20, "the kept connection was delayed: {meanwhile} words in two seconds");
    server.signal(Signal::CONT);
    probes
        .wait_for("a fresh word", |probe| probe.connection == ProbeConnection::New && probe.is_primary())
        .await;
}

#[tokio::test]
async fn a_full_server_and_a_starting_one_fail_differently() {
    let mut server = Postgres::primary(&["max_connections = 5", "superuser_reserved_connections = 3"]).await;
    let mut keeping = [
        Probes::of_one(config(), server.addr(), ProbeUrgency::Normal),
        Probes::of_one(config(), server.addr(), ProbeUrgency::Normal),
    ];
    for probes in &mut keeping {
        probes.wait_for("its word", probes::ProbeOutcome::is_primary).await;
    }
    let error = check_member(&config(), &server.addr()).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::TooManyConnections, "{error:?}");
    drop(keeping);
    server.signal(Signal::INT);
    server.wait().await;

    // A replica without hot standby answers like a server that is starting.
    server.set("hot_standby = off");
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.launch();
    let mut probes = Probes::of_one(config(), server.addr(), burst());
    probes.failure(ProbeFailure::StartingUp).await;
}

#[tokio::test]
async fn a_wake_up_probes_at_once_and_so_does_a_change_of_urgency() {
    let server = Postgres::primary(&[]).await;
    let mut probes = Probes::of_one(config(), server.addr(), ProbeUrgency::Normal);
    let first = probes.next().await;
    probes.wake.send(MemberName::new("stranger")).await.unwrap();
    probes.wake.send(MemberName::new("a")).await.unwrap();
    let woken = probes.next().await;
    assert!(first.is_primary() && woken.is_primary() && woken.sent > first.sent);
    probes
        .probe_plan
        .send_replace(probe_plan(&[("a", server.addr())], ProbeUrgency::Burst(MemberName::new("b"))));
    assert!(probes.next().await.is_primary());
    probes.probe_plan.send_replace(probe_plan(&[("a", server.addr())], burst()));
    for _ in 0..20 {
        assert!(probes.next().await.is_primary());
    }
}

#[tokio::test]
async fn members_are_added_move_and_are_removed() {
    let server = Postgres::primary(&["listen_addresses = '*'"]).await;
    let elsewhere = ServerAddr::new("127.0.0.1", 1);
    let mut probes = Probes::start(config(), probe_plan(&[], ProbeUrgency::Normal));
    probes.probe_plan.send_replace(probe_plan(&[("a", elsewhere.clone())], ProbeUrgency::Normal));
    assert_eq!(probes.next().await.addr, elsewhere);
    probes.probe_plan.send_replace(probe_plan(&[("a", server.addr())], ProbeUrgency::Normal));
    let moved = probes.next().await;
    assert!(moved.addr == server.addr() && moved.is_primary());
    probes.probe_plan.send_replace(probe_plan(&[], ProbeUrgency::Elevated));
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg-leader-proxy probe'";
    for _ in 0..600 {
        if server.value(connections).await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the connection to a member that left is still open");
}
