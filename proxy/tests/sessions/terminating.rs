//! Terminating: how a session ends with its grant, and what its client is told.

use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::admission::Grant;
use pg_leader_proxy::counters::TerminationKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::wire::{SqlState, fatal};
use pg_leader_proxy_core::{Moment, Reason, SessionEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake::{FakeServer, Rig, error, expect, rest};

/// A relayed session and its grant.
struct OpenSession {
    rig: Rig,
    grant: Arc<Grant>,
    client: TcpStream,
    served: TcpStream,
}

impl OpenSession {
    async fn session() -> Self {
        let server = FakeServer::start().await;
        let mut rig = Rig::with_defaults().await;
        let grant = rig.make_leader(&server);
        let (client, served) = rig.open_session(&server).await;
        Self { rig, grant, client, served }
    }
}

#[tokio::test]
async fn a_client_at_a_message_boundary_gets_the_reason() {
    let OpenSession { mut rig, grant, mut client, mut served } = OpenSession::session().await;
    rig.end_epoch(&grant, Reason::NoLeader);
    let (last, ended) = rest(&mut client).await;
    assert_eq!(ended, Ok(()));
    let (state, text) = error(&last);
    assert_eq!(state, "57P01");
    assert!(text.ends_with("no member holds the leader key"), "{text}");
    assert_eq!(rest(&mut served).await.1, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn sessions_that_the_server_ends_with_its_epoch_count_as_terminated() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    let grant = rig.make_leader(&server);
    let epoch = rig.epoch_counters();
    let (mut left, mut served) = rig.open_session(&server).await;
    left.shutdown().await.unwrap();
    assert_eq!(rest(&mut served).await, (Vec::new(), Ok(())));
    drop(served);
    assert_eq!(rest(&mut left).await, (Vec::new(), Ok(())));
    for _ in 0..2 {
        let (mut client, served) = rig.open_session(&server).await;
        drop(served);
        assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
    }
    let (mut open, _served) = rig.open_session(&server).await;
    rig.until("the others have ended", |counters| counters.open_sessions() == 1).await;
    epoch.end(pg_leader_proxy::clock::now());
    assert_eq!(epoch.terminated(), 2, "without the one whose client left");
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(error(&rest(&mut open).await.0).0, "57P01");
    rig.until("it is counted", |_| epoch.terminated() == 3).await;
}

#[tokio::test]
async fn a_client_inside_a_message_is_reset() {
    let OpenSession { mut rig, grant, mut client, mut served } = OpenSession::session().await;
    served.write_all(b"D\0\0\0\x0ehalf").await.unwrap();
    expect(&mut client, b"D\0\0\0\x0ehalf").await;
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

/// ReadyForQuery, after which a client waits for nothing.
const READY: &[u8] = b"Z\0\0\0\x05I";

#[tokio::test]
async fn nothing_is_added_to_the_last_word_of_the_server() {
    let OpenSession { mut rig, grant, mut client, mut served } = OpenSession::session().await;
    let last_word = fatal(SqlState::AdminShutdown, "terminating connection due to administrator command", "");
    for bytes in [READY, &last_word] {
        served.write_all(bytes).await.unwrap();
        expect(&mut client, bytes).await;
    }
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
}

#[tokio::test]
async fn a_client_hears_one_last_word_even_if_the_server_and_the_proxy_speak_at_once() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    let last_word = fatal(SqlState::AdminShutdown, "terminating connection due to administrator command", "");
    for _ in 0..100 {
        let grant = rig.make_leader(&server);
        let (mut client, mut served) = rig.open_session(&server).await;
        served.write_all(READY).await.unwrap();
        expect(&mut client, READY).await;
        served.write_all(&last_word).await.unwrap();
        rig.end_epoch(&grant, Reason::NoLeader);
        let (received, ended) = rest(&mut client).await;
        assert_eq!(ended, Ok(()));
        let length = u32::from_be_bytes(received[1..5].try_into().unwrap()) as usize + 1;
        assert_eq!(received.len(), length, "more than one error: {:?}", String::from_utf8_lossy(&received));
        assert_eq!(error(&received).0, "57P01");
    }
}

#[tokio::test]
async fn a_client_whose_command_is_answered_but_not_finished_is_reset() {
    let OpenSession { mut rig, grant, mut client, mut served } = OpenSession::session().await;
    for bytes in [READY, b"C\0\0\0\x0aBEGIN\0"] {
        served.write_all(bytes).await.unwrap();
        expect(&mut client, bytes).await;
    }
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

/// It may have been executed: an error would say that it was not.
#[tokio::test]
async fn a_client_whose_command_is_not_answered_is_reset() {
    let OpenSession { mut rig, grant, mut client, mut served } = OpenSession::session().await;
    served.write_all(READY).await.unwrap();
    expect(&mut client, READY).await;
    client.write_all(b"Q\0\0\0\x0bCOMMIT\0").await.unwrap();
    expect(&mut served, b"Q\0\0\0\x0bCOMMIT\0").await;
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_session_that_is_blocked_in_a_write_is_terminated_too() {
    let OpenSession { mut rig, grant, client, mut served } = OpenSession::session().await;
    // The client does not read, so the buffers fill up until the server cannot write any more.
    let block = vec![0; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(300), served.write_all(&block)).await.is_ok() {}
    rig.end_epoch(&grant, Reason::NoLeader);
    let (_, ended) = rest(&mut served).await;
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
    rig.until("no session is open", |counters| counters.open_sessions() == 0).await;
    drop(client);
}

#[tokio::test]
async fn an_expired_grant_stops_the_bytes_even_if_it_is_not_revoked() {
    let OpenSession { rig, grant, mut client, mut served } = OpenSession::session().await;
    grant.set_end(Moment::from_boot(Duration::from_nanos(1)));
    served.write_all(b"Z\0\0\0\x05I").await.unwrap();
    let (last, _) = rest(&mut client).await;
    assert_ne!(last.first(), Some(&b'Z'), "the acknowledgement must not arrive");
    rig.until("the session was terminated", |counters| {
        let unconfirmed = TerminationKind::Server(SessionEnd::UnconfirmedLeader);
        counters.route(RouteKind::Write).terminations(unconfirmed).value() == 1
    })
    .await;
}

#[tokio::test]
async fn bytes_wait_until_an_expired_grant_is_extended() {
    let OpenSession { rig: _rig, grant, mut client, mut served } = OpenSession::session().await;
    grant.set_end(Moment::from_boot(Duration::from_nanos(1)));
    served.write_all(b"Z\0\0\0\x05I").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
    assert!(early.is_err(), "nothing may be forwarded yet: {early:?}");
    grant.set_end(Moment::from_boot(Duration::MAX));
    expect(&mut client, b"Z\0\0\0\x05I").await;
}
