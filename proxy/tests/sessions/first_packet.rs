//! First packets: complete, truncated, slow, invalid, or the beginning of TLS.

use std::time::Duration;

use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::SessionSettings;
use pg_leader_proxy_core::Reason;
use tokio::io::AsyncWriteExt;

use crate::WIDE;
use crate::fake::{BOUND, FakeServer, Rig, SSL_REQUEST, STARTUP, error, expect, rest, with_hold_timeout};

#[tokio::test]
async fn every_truncated_first_packet_ends_without_touching_a_server() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    for length in 0..STARTUP.len() {
        let mut client = rig.client().await;
        client.write_all(&STARTUP[..length]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())), "{length} bytes");
    }
    assert!(server.has_no_client().await);
}

#[tokio::test]
async fn an_invalid_first_packet_is_answered_with_an_error_that_names_the_fault() {
    let rig = Rig::with_defaults().await;
    for (bytes, state, words) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "08P01", "invalid length of startup packet: 1195725856"),
        (&b"\0\0\0\x07\0\x03\0\0"[..], "08P01", "invalid length of startup packet: 7"),
        (&b"\0\0\x27\x11\0\x03\0\0"[..], "08P01", "invalid length of startup packet: 10001"),
        (&b"\0\0\0\x09\0\x02\0\0\0"[..], "0A000", "unsupported frontend protocol 2.0"),
        (&b"\0\0\0\x0c\0\x03\0\0user"[..], "08P01", "expected terminator"),
    ] {
        let mut client = rig.client().await;
        client.write_all(bytes).await.unwrap();
        let (code, text) = error(&rest(&mut client).await.0);
        assert_eq!(code, state);
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_gets_an_error() {
    let quick = SessionSettings { startup_timeout: Duration::from_millis(300), ..with_hold_timeout(BOUND) };
    let rig = Rig::start(quick, 1, WIDE).await;
    let mut client = rig.client().await;
    for byte in STARTUP.iter().take(4) {
        client.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(error(&rest(&mut client).await.0).0, "08P01");
    rig.until("the session is gone", |counters| counters.open_sessions() == 0).await;
}

#[tokio::test]
async fn the_server_answers_requests_for_encryption() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    let grant = rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(SSL_REQUEST).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, SSL_REQUEST).await;
    served.write_all(b"S").await.unwrap();
    expect(&mut client, b"S").await;
    client.write_all(b"\x16\x03\x01 anything").await.unwrap();
    expect(&mut served, b"\x16\x03\x01 anything").await;
    rig.end_epoch(&grant, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn direct_tls_is_forwarded_wherever_the_client_hello_is_split() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(b"\x16").await.unwrap();
    let mut served = server.accept().await;
    client.write_all(b"\x03\x01 the rest").await.unwrap();
    expect(&mut served, b"\x16\x03\x01 the rest").await;
    rig.until("it is relayed", |counters| counters.route(RouteKind::Write).connected.value() == 1).await;
    let epoch = rig.epoch_counters();
    assert_eq!(epoch.first_byte_at(), None, "the server has not answered yet");
    served.write_all(b"\x16 server hello").await.unwrap();
    expect(&mut client, b"\x16 server hello").await;
    rig.until("the first byte is recorded", |_| epoch.first_byte_at().is_some()).await;
}

#[tokio::test]
async fn a_server_sees_clear_text_behind_a_request_for_encryption_and_can_refuse_it() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    let both = [SSL_REQUEST, b"at once"].concat();
    client.write_all(&both).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, &both).await;
    served.write_all(b"N").await.unwrap();
    expect(&mut client, b"N").await;
}
