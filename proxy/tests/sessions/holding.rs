//! Holding: clients that connect while there is no leader, and the limits on them.

use std::time::Duration;

use pg_leader_proxy::admission::GateLimits;
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::SessionSettings;
use tokio::io::AsyncWriteExt;

use crate::WIDE;
use crate::fake::{AUTH_OK, FakeServer, Rig, STARTUP, error, expect, rest, settings, with_hold_timeout};

#[tokio::test]
async fn clients_wait_for_a_leader_and_then_connect() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    rig.make_leader(&server);
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
    rig.until("no client is held", |counters| counters.route(RouteKind::Write).held.value() == 0).await;
}

#[tokio::test]
async fn after_the_hold_timeout_a_client_gets_the_reason() {
    let rig = Rig::start(with_hold_timeout(Duration::from_millis(200)), 1, WIDE).await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "57P03");
    assert!(text.ends_with("no member holds the leader key"), "{text}");
    assert_eq!(rig.counters.route(RouteKind::Write).rejections(RejectionKind::NoServer).value(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_is_no_longer_held() {
    let rig = Rig::with_defaults().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    drop(client);
    rig.until("no client is held", |counters| counters.open_sessions() == 0).await;
}

#[tokio::test]
async fn the_number_of_held_clients_is_limited() {
    let limits = GateLimits { max_held: 1, max_concurrent_logins: 1 };
    let rig = Rig::start(settings(), 1, limits).await;
    let mut first = rig.client().await;
    first.write_all(STARTUP).await.unwrap();
    rig.until("one client is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "57P03");
}

#[tokio::test]
async fn the_number_of_sessions_is_limited() {
    let rig = Rig::start(SessionSettings { max_sessions: 1, ..settings() }, 1, WIDE).await;
    let _first = rig.client().await;
    rig.until("one session is open", |counters| counters.open_sessions() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "53300");
}
