//! Holding: clients that connect while there is no leader, and the limits on them.

use std::time::Duration;

use pg_leader_proxy::admission::GateLimits;
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{ClientLimits, HOLD_BEYOND_TTL, SessionSettings};
use pg_leader_proxy_core::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::WIDE;
use crate::fake::{
    AUTH_OK, BOUND, FakeServer, OTHER_STARTUP, PASSWORD_REQUEST, Rig, STARTUP, bounded, error, expect, rest,
    settings, with_hold_timeout,
};

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
async fn by_default_a_held_client_waits_as_long_as_the_present_ttl_says() {
    let rig = Rig::start(SessionSettings { write_hold_timeout: None, ..settings() }, 1, WIDE).await;
    let set_ttl = |ttl| rig.hold_terms.send_modify(|terms| terms.ttl = ttl);
    set_ttl(Duration::ZERO);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("it is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    set_ttl(Duration::from_secs(3600));
    // Longer than it could wait when it came.
    let early = tokio::time::timeout(HOLD_BEYOND_TTL + Duration::from_secs(1), client.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    set_ttl(Duration::ZERO);
    assert_eq!(error(&rest(&mut client).await.0).0, "57P03");
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
    let rig = Rig::start(
        SessionSettings { limits: ClientLimits { sessions: 1, ..settings().limits }, ..settings() },
        1,
        WIDE,
    )
    .await;
    let _first = rig.client().await;
    rig.until("one session is open", |counters| counters.open_sessions() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "53300");
}

/// Many more than could be let in one after another if each kept its permit for a moment.
const GIVEN_UP: u64 = 150;

#[tokio::test]
async fn clients_that_gave_up_but_left_their_sockets_open_keep_nobody_waiting() {
    let server = FakeServer::start().await;
    let limits = GateLimits { max_held: 1000, max_concurrent_logins: 1 };
    let mut rig = Rig::start(with_hold_timeout(2 * BOUND), 1, limits).await;
    let mut given_up = Vec::new();
    for held in 1..=GIVEN_UP {
        let mut client = rig.client().await;
        client.write_all(STARTUP).await.unwrap();
        rig.until("it is held", |counters| counters.route(RouteKind::Write).held.value() == held).await;
        given_up.push(client);
    }
    let mut live = rig.client().await;
    live.write_all(OTHER_STARTUP).await.unwrap();
    rig.until("it is held", |counters| counters.route(RouteKind::Write).held.value() == GIVEN_UP + 1).await;
    rig.make_leader(&server);
    let mut served = Vec::new();
    bounded(async {
        for _ in 0..GIVEN_UP {
            let mut waiting = server.accept().await;
            expect(&mut waiting, STARTUP).await;
            waiting.write_all(PASSWORD_REQUEST).await.unwrap();
            served.push(waiting);
        }
        let mut last = server.accept().await;
        expect(&mut last, OTHER_STARTUP).await;
        last.write_all(PASSWORD_REQUEST).await.unwrap();
        expect(&mut live, PASSWORD_REQUEST).await;
    })
    .await;
}

#[tokio::test]
async fn a_login_counts_while_the_server_is_to_answer() {
    let server = FakeServer::start().await;
    let limits = GateLimits { max_held: 10, max_concurrent_logins: 1 };
    let mut rig = Rig::start(settings(), 1, limits).await;
    rig.make_leader(&server);
    let mut first = rig.client().await;
    first.write_all(STARTUP).await.unwrap();
    let mut slow = server.accept().await;
    expect(&mut slow, STARTUP).await;
    let mut second = rig.client().await;
    second.write_all(OTHER_STARTUP).await.unwrap();
    rig.until("it is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    assert!(server.has_no_client().await);
    slow.write_all(PASSWORD_REQUEST).await.unwrap();
    let mut next = server.accept().await;
    expect(&mut next, OTHER_STARTUP).await;
}

#[tokio::test]
async fn a_client_whose_attempt_failed_stays_ahead_of_later_ones() {
    let (going, next) = (FakeServer::start().await, FakeServer::start().await);
    let limits = GateLimits { max_held: 10, max_concurrent_logins: 1 };
    let mut rig = Rig::start(settings(), 1, limits).await;
    let grant = rig.make_leader(&going);
    let mut first = rig.client().await;
    first.write_all(STARTUP).await.unwrap();
    let mut attempt = going.accept().await;
    expect(&mut attempt, STARTUP).await;
    let mut second = rig.client().await;
    second.write_all(OTHER_STARTUP).await.unwrap();
    rig.until("the second waits", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    rig.end_epoch(&grant, Reason::NoLeader);
    rig.until("both wait", |counters| counters.route(RouteKind::Write).held.value() == 2).await;
    rig.make_leader(&next);
    for packet in [STARTUP, OTHER_STARTUP] {
        let mut served = next.accept().await;
        expect(&mut served, packet).await;
        served.write_all(AUTH_OK).await.unwrap();
    }
    expect(&mut first, AUTH_OK).await;
    expect(&mut second, AUTH_OK).await;
}

#[tokio::test]
async fn a_client_is_told_soon_of_a_reason_that_lasts() {
    let rig = Rig::start(with_hold_timeout(10 * BOUND), 1, WIDE).await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("it is held", |counters| counters.route(RouteKind::Write).held.value() == 1).await;
    rig.publish(|targets| targets.write = Err(Reason::StandbyCluster));
    rig.hold_terms.send_modify(|terms| terms.lasting_since = Some(pg_leader_proxy::clock::now()));
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "57P03");
    assert!(text.ends_with("this is a standby cluster and takes no writes"), "{text}");
}

#[tokio::test]
async fn a_client_hears_whose_fault_it_is_that_it_cannot_connect() {
    let mut rig = Rig::start(with_hold_timeout(Duration::from_millis(200)), 1, WIDE).await;
    let mut server = FakeServer::start().await;
    // No machine can connect to the broadcast address, and the operating system says so at once.
    for (addr, words) in [
        ("255.255.255.255:5432", "the proxy cannot connect to a at 255.255.255.255:5432: "),
        ("127.0.0.1:1", "the connection to a at 127.0.0.1:1 failed: Connection refused"),
    ] {
        server.addr = addr.parse().unwrap();
        rig.make_leader(&server);
        let mut client = rig.client().await;
        client.write_all(STARTUP).await.unwrap();
        let (state, text) = error(&rest(&mut client).await.0);
        assert_eq!(state, "57P03");
        assert!(text.contains(words), "{text}");
    }
}
