//! Servers that accept a connection and are late with their answer, or never give one.

use std::time::Duration;

use pg_leader_proxy::admission::GateLimits;
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::SessionSettings;
use pg_leader_proxy::wire::{SqlState, fatal};
use tokio::io::AsyncWriteExt;

use crate::WIDE;
use crate::fake::{
    AUTH_OK, BOUND, FakeServer, OTHER_STARTUP, Rig, STARTUP, error, expect, rest, settings, with_hold_timeout,
};

/// A query.
const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";

/// Short, so that a server answers later than that.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_client_does_not_notice_a_server_that_says_late_that_it_is_shutting_down() {
    let server = FakeServer::start().await;
    let limits = GateLimits { max_held: 10, max_concurrent_logins: 1 };
    let mut rig =
        Rig::start(SessionSettings { connect_timeout: CONNECT_TIMEOUT, ..settings() }, 1, limits).await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, STARTUP).await;

    let mut other = rig.client().await;
    other.write_all(OTHER_STARTUP).await.unwrap();
    let mut other_served = server.accept().await;
    expect(&mut other_served, OTHER_STARTUP).await;
    // It was let in, so the first one's server is late.
    let farewell = fatal(SqlState::CannotConnectNow, "the database system is shutting down", "");
    served.write_all(&farewell).await.unwrap();
    drop(served);
    other_served.write_all(AUTH_OK).await.unwrap();

    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
    expect(&mut other, AUTH_OK).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_server_is_late_leaves_the_server() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(
        SessionSettings { connect_timeout: CONNECT_TIMEOUT, ..with_hold_timeout(10 * BOUND) },
        1,
        WIDE,
    )
    .await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, STARTUP).await;
    drop(client);
    assert!(rest(&mut served).await.0.is_empty());
    rig.until("its place is free, although the server says nothing", |counters| {
        counters.open_sessions() == 0
    })
    .await;
    assert_eq!(rig.counters.route(RouteKind::Write).connected.value(), 0);
}

#[tokio::test]
async fn a_client_whose_server_never_answers_hears_so_at_the_end_of_its_hold() {
    let server = FakeServer::start().await;
    let hold = with_hold_timeout(5 * CONNECT_TIMEOUT);
    let mut rig = Rig::start(SessionSettings { connect_timeout: CONNECT_TIMEOUT, ..hold }, 1, WIDE).await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, STARTUP).await;
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "57P03");
    assert!(text.ends_with(": it has not answered the first packet"), "{text}");
    assert!(rest(&mut served).await.0.is_empty());
    let counts = rig.counters.route(RouteKind::Write);
    assert_eq!((counts.rejections(RejectionKind::NoServer).value(), counts.connected.value()), (1, 0));
}

#[tokio::test]
async fn what_a_client_says_before_a_late_answer_is_kept_for_after_it() {
    let server = FakeServer::start().await;
    let settings = SessionSettings { connect_timeout: CONNECT_TIMEOUT, ..with_hold_timeout(10 * BOUND) };
    let limits = GateLimits { max_held: 10, max_concurrent_logins: 1 };
    let mut rig = Rig::start(settings, 1, limits).await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, STARTUP).await;
    client.write_all(QUERY).await.unwrap();
    let mut other = rig.client().await;
    other.write_all(OTHER_STARTUP).await.unwrap();
    // It was let in, so the first one's server is late.
    let mut other_served = server.accept().await;
    expect(&mut other_served, OTHER_STARTUP).await;
    assert_eq!(rig.counters.route(RouteKind::Write).connected.value(), 0, "nobody is relayed yet");
    served.write_all(AUTH_OK).await.unwrap();
    expect(&mut client, AUTH_OK).await;
    expect(&mut served, QUERY).await;
}

#[tokio::test]
async fn nothing_but_the_first_packet_goes_to_a_server_before_it_has_answered() {
    let (going, next) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&going);
    let mut client = rig.client().await;
    client.write_all(&[STARTUP, QUERY].concat()).await.unwrap();
    let mut served = going.accept().await;
    rig.make_leader(&next);
    expect(&mut served, STARTUP).await;
    let farewell = fatal(SqlState::CannotConnectNow, "the database system is shutting down", "");
    served.write_all(&farewell).await.unwrap();
    assert_eq!(
        rest(&mut served).await,
        (Vec::new(), Ok(())),
        "the query is for the server that takes the client"
    );
    let mut served = next.accept_session().await;
    expect(&mut client, AUTH_OK).await;
    expect(&mut served, QUERY).await;
}
