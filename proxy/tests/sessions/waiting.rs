//! Waiting: clients that come while there is no leader, and how many may.

use std::time::Duration;

use pg_leader_proxy::admission::GateLimits;
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::SessionSettings;
use tokio::io::AsyncWriteExt;

use crate::WIDE;
use crate::fake::{AUTH_OK, FakeServer, Rig, STARTUP, error, expect, hold_timeout, rest, settings};

#[tokio::test]
async fn clients_wait_for_a_leader_and_then_enter() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    rig.lead(&server);
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
    rig.until("nobody is held", |counters| counters.route(RouteKind::Write).held.value() == 0).await;
}

#[tokio::test]
async fn a_client_is_told_why_when_it_has_waited_long_enough() {
    let rig = Rig::start(hold_timeout(Duration::from_millis(200)), 1, WIDE).await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "57P03");
    assert!(text.ends_with("no member holds the leader key"), "{text}");
    assert_eq!(rig.counters.route(RouteKind::Write).rejections(RejectionKind::NoServer).value(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_up() {
    let rig = Rig::usual().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    drop(client);
    rig.until("nobody is held", |counters| counters.open_sessions() == 0).await;
}

#[tokio::test]
async fn no_more_clients_wait_than_are_allowed_to() {
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
async fn no_more_sessions_are_open_than_are_allowed_to() {
    let rig = Rig::start(SessionSettings { max_sessions: 1, ..settings() }, 1, WIDE).await;
    let _first = rig.client().await;
    rig.until("one session is open", |counters| counters.open_sessions() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "53300");
}
