//! The PROXY protocol: the address in a balancer's header is the client's, and a bad header is told.

use std::time::Duration;

use pg_leader_proxy::admission::{Access, AddressLimits, RouteAccess};
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{SessionSettings, SessionState};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::WIDE;
use crate::fake::{
    AUTH_OK, BOUND, FakeServer, Rig, SSL_REQUEST, STARTUP, bounded, cancel_request, client_from, error,
    expect, networks, rest, with_access,
};
use crate::snapshots::sessions_in;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// `LOCAL` without addresses.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// What clients of `127.0.0.1` never send.
const BALANCER: &str = "127.0.0.9";

/// Headers of both versions for a client at `192.0.2.host:4000`.
fn headers(host: u8) -> [Vec<u8>; 2] {
    let line = format!("PROXY TCP4 192.0.2.{host} 192.0.2.200 4000 5433\r\n");
    let v2 =
        [SIGNATURE, b"\x21\x11\0\x10", &[192, 0, 2, host, 192, 0, 2, 200], b"\x0f\xa0\x15\x39\x04\0\x01x"];
    [line.into_bytes(), v2.concat()]
}

/// Both routes trust the balancer.
fn trusting(limits: AddressLimits, allowed: Option<&[&str]>) -> SessionSettings {
    let balancers = networks(&["127.0.0.9/32"]);
    let route = RouteAccess { allowed: allowed.map(networks), balancers };
    with_access(Access { write: route.clone(), read: route, limits })
}

async fn rig() -> Rig {
    Rig::start(trusting(AddressLimits::default(), None), 1, WIDE).await
}

/// A connection of the balancer that has sent this.
async fn balanced(rig: &Rig, bytes: &[u8]) -> TcpStream {
    let mut stream = client_from(BALANCER, rig.client_addr).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

fn bad_headers(rig: &Rig) -> u64 {
    rig.counters.route(RouteKind::Write).rejections(RejectionKind::BadProxyHeader).value()
}

#[tokio::test]
async fn the_address_in_the_header_is_the_clients_and_the_server_sees_no_header() {
    let server = FakeServer::start().await;
    let mut rig = rig().await;
    rig.make_leader(&server);
    for header in headers(1) {
        let mut client = balanced(&rig, &[&header[..], STARTUP].concat()).await;
        let served = server.accept_session().await;
        expect(&mut client, AUTH_OK).await;
        let session = sessions_in(&rig, SessionState::Relaying, 1).await.remove(0);
        assert_eq!(session.client, "192.0.2.1:4000".parse().unwrap());
        drop((client, served));
        rig.until("the session is over", |counters| counters.open_sessions() == 0).await;
    }
}

#[tokio::test]
async fn a_header_may_come_in_single_bytes() {
    let server = FakeServer::start().await;
    let mut rig = rig().await;
    rig.make_leader(&server);
    for header in headers(1) {
        let mut client = client_from(BALANCER, rig.client_addr).await;
        client.set_nodelay(true).unwrap();
        for byte in [&header[..], STARTUP].concat() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _served = server.accept_session().await;
        expect(&mut client, AUTH_OK).await;
    }
}

#[tokio::test]
async fn a_bad_header_is_answered_with_an_error_that_names_the_bytes() {
    let server = FakeServer::start().await;
    let mut rig = rig().await;
    rig.make_leader(&server);
    let oversize = [SIGNATURE, b"\x21\x11\xff\xff"].concat();
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let bad_command = [SIGNATURE, b"\x2f\x11\0\x0c"].concat();
    let bad = [
        (
            STARTUP,
            "no PROXY protocol header: the connection begins with \"\\x00\\x00\\x00\\x13\\x00\\x03\\x00\\x00user",
        ),
        (SSL_REQUEST, "no PROXY protocol header: the connection begins with \"\\x00\\x00\\x00\\x08"),
        (b"\x16\x03\x01", "no PROXY protocol header: the connection begins with \"\\x16\\x03\\x01\""),
        (&oversize, "says that 65535 bytes follow; at most 4080 may"),
        (&endless, "does not end within 107 bytes"),
        (&bad_command, "byte 13 of the PROXY header is 0x2f"),
        (b"PROXY TCP4 1.2.3 192.0.2.2 1 2\r\n", "invalid address"),
    ];
    for (expected, (bytes, words)) in (1..).zip(bad) {
        let mut client = balanced(&rig, bytes).await;
        let (state, text) = error(&rest(&mut client).await.0);
        assert_eq!(state, "08P01");
        assert!(text.contains(words), "{text}");
        rig.until("it is counted", |_| bad_headers(&rig) == expected).await;
    }
    assert!(server.has_no_client().await);
}

#[tokio::test]
async fn a_header_that_breaks_off_is_counted_and_a_connection_without_a_byte_is_not() {
    let rig = rig().await;
    for header in headers(1) {
        let before = bad_headers(&rig);
        let mut health_check = balanced(&rig, b"").await;
        health_check.shutdown().await.unwrap();
        assert_eq!(rest(&mut health_check).await, (Vec::new(), Ok(())));
        let mut client = balanced(&rig, &header[..header.len() - 1]).await;
        client.shutdown().await.unwrap();
        let (_, text) = error(&rest(&mut client).await.0);
        assert!(text.contains("the connection ended within the PROXY header: \""), "{text}");
        rig.until("one is counted", |_| bad_headers(&rig) == before + 1).await;
        let mut after_header = balanced(&rig, &header).await;
        after_header.shutdown().await.unwrap();
        assert_eq!(rest(&mut after_header).await, (Vec::new(), Ok(())));
        assert_eq!(bad_headers(&rig), before + 1);
    }
}

#[tokio::test]
async fn header_and_first_packet_have_one_time_limit() {
    let startup_timeout = Duration::from_millis(300);
    let quick = SessionSettings { startup_timeout, ..trusting(AddressLimits::default(), None) };
    let rig = Rig::start(quick, 1, WIDE).await;
    let mut client = balanced(&rig, b"PROXY TC").await;
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "08P01");
    assert!(
        text.contains(
            "no whole PROXY header came within 300 ms (session.startup_timeout), only \"PROXY TC\""
        ),
        "{text}"
    );
    assert_eq!(bad_headers(&rig), 1);
    let mut client = balanced(&rig, &headers(1)[0]).await;
    let (_, text) = error(&rest(&mut client).await.0);
    assert!(text.starts_with("the first packet was not complete in time"), "{text}");
}

#[tokio::test]
async fn a_header_from_elsewhere_is_not_read() {
    let rig = rig().await;
    for (header, length) in headers(1).iter().zip([0x5052_4f58_u32, 0x0d0a_0d0a]) {
        let mut client = rig.client().await;
        client.write_all(header).await.unwrap();
        let (_, text) = error(&rest(&mut client).await.0);
        assert!(text.starts_with(&format!("invalid length of startup packet: {length}")), "{text}");
    }
    assert_eq!(bad_headers(&rig), 0);
}

#[tokio::test]
async fn allowed_networks_are_those_of_the_client_and_of_a_balancer_that_connects_itself() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(trusting(AddressLimits::default(), Some(&["192.0.2.1/32"])), 1, WIDE).await;
    rig.make_leader(&server);
    let refusal = async |header: &[u8], packet: &[u8]| {
        let mut client = balanced(&rig, &[header, packet].concat()).await;
        error(&rest(&mut client).await.0)
    };
    for packet in [STARTUP, SSL_REQUEST, &cancel_request(4)] {
        let (state, text) = refusal(&headers(2)[1], packet).await;
        assert_eq!(state, "28000");
        assert!(text.contains("host \"192.0.2.2\""), "{text}");
    }
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert!(refusal(header, STARTUP).await.1.contains("host \"127.0.0.9\""));
    }
    assert!(server.has_no_client().await);
    let mut client = balanced(&rig, &[&headers(1)[1][..], STARTUP].concat()).await;
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn limits_count_the_clients_of_a_balancer_and_not_the_balancer() {
    let server = FakeServer::start().await;
    let limits = AddressLimits { sessions: Some(1), connections_per_minute: None };
    let mut rig = Rig::start(trusting(limits, None), 1, WIDE).await;
    rig.make_leader(&server);
    let mut open = Vec::new();
    for header in [&headers(1)[0][..], &headers(2)[1], LOCAL, LOCAL] {
        let mut client = balanced(&rig, &[header, STARTUP].concat()).await;
        open.push(server.accept_session().await);
        expect(&mut client, AUTH_OK).await;
        open.push(client);
    }
    let mut again = balanced(&rig, &[&headers(1)[1][..], STARTUP].concat()).await;
    let (state, text) = error(&rest(&mut again).await.0);
    assert_eq!((state.as_str(), text.contains("host \"192.0.2.1\"")), ("53300", true), "{text}");
    let mut cancel = balanced(&rig, &[&headers(1)[1][..], &cancel_request(4)].concat()).await;
    expect(&mut server.accept().await, &cancel_request(4)).await;
    assert_eq!(rest(&mut cancel).await.0, b"");
    drop(open);
    rig.until("all sessions are over", |counters| counters.open_sessions() == 0).await;
    let mut client = balanced(&rig, &[&headers(1)[1][..], STARTUP].concat()).await;
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn encrypted_sessions_of_one_client_stay_on_one_replica_behind_a_balancer() {
    let servers = [FakeServer::start().await, FakeServer::start().await];
    let mut rig = rig().await;
    rig.serve_reads(&[&servers[0], &servers[1]]);
    let mut open = Vec::new();
    // The second client goes to the replica with fewer sessions; the first one goes back to its own.
    for (host, server) in
        [(1, &servers[0]), (2, &servers[1]), (2, &servers[1]), (2, &servers[1]), (1, &servers[0])]
    {
        let mut client = client_from(BALANCER, rig.read_addr).await;
        client.write_all(&[&headers(host)[1][..], SSL_REQUEST].concat()).await.unwrap();
        let mut served = server.accept().await;
        expect(&mut served, SSL_REQUEST).await;
        served.write_all(b"S").await.unwrap();
        expect(&mut client, b"S").await;
        open.push((client, served));
    }
}

#[tokio::test]
async fn balancers_that_wait_take_places_of_sessions_up_to_the_limit() {
    let mut settings = trusting(AddressLimits::default(), None);
    settings.limits.sessions = 1;
    settings.limits.rejected_at_once = 1;
    let rig = Rig::start(SessionSettings { startup_timeout: BOUND, ..settings }, 1, WIDE).await;
    let _first = balanced(&rig, b"").await;
    rig.until("it is open", |counters| counters.open_sessions() == 1).await;
    let mut second = balanced(&rig, b"").await;
    rig.until("it is to be rejected", |counters| counters.rejecting.value() == 1).await;
    let mut third = balanced(&rig, b"").await;
    assert_eq!(rest(&mut third).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
    second.write_all(&[&headers(1)[0][..], STARTUP].concat()).await.unwrap();
    assert_eq!(error(&bounded(rest(&mut second)).await.0).0, "53300");
}
