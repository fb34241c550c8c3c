//! One server of each major version, through the proxy: two whole clients, and the version's own share of the protocol.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use clients::first_packet::{
    GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, cancel_request, connect, packet,
};
use clients::wire::{Opened, Wire};
use clients::{Client, Major, Route, program, tls, wait};

#[test]
fn postgresql_13() {
    serves(Major(13));
}

#[test]
fn postgresql_14() {
    serves(Major(14));
}

#[test]
fn postgresql_15() {
    serves(Major(15));
}

#[test]
fn postgresql_16() {
    serves(Major(16));
}

#[test]
fn postgresql_17() {
    serves(Major(17));
}

#[test]
fn postgresql_18() {
    serves(Major(18));
}

fn serves(major: Major) {
    let route = Route::recorded(major).unwrap();
    is_of_this_version(&route, major);
    for client in [Client::TokioPostgres, Client::Psycopg] {
        program::run(client, &route, LARGE).unwrap();
    }
    every_request_before_the_startup(&route);
    protocol_3_0(&route);
    protocol_3_2(&route, major);
    direct_tls(&route, major);
    assert!(route.same_bytes().unwrap() > 50, "fewer connections than the two programs alone make");
}

fn is_of_this_version(route: &Route, major: Major) {
    let (mut wire, _) = Wire::open(connect(route.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    let version = wire.query("SHOW server_version").unwrap();
    assert!(version[0].starts_with(&format!("{major}.")), "{version:?} instead of {major}");
    wire.send_message(b'X', &[]).unwrap();
}

/// One connection asks for GSSAPI, is refused, asks for TLS, gets it, and opens its session: libpq's whole ladder.
fn every_request_before_the_startup(route: &Route) {
    let mut wire = Wire { stream: connect(route.address()).unwrap() };
    wire.send(&packet(GSSENC_REQUEST, &[])).unwrap();
    assert_eq!(wire.read_byte().unwrap(), b'N', "no server here has GSSAPI");
    wire.send(&packet(SSL_REQUEST, &[])).unwrap();
    assert_eq!(wire.read_byte().unwrap(), b'S');
    let stream = tls::handshake(wire.stream, &route.server.certificates.authority, &[]).unwrap();
    let (mut wire, _) = Wire::open(stream, PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(wire.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["t"]);
    wire.send_message(b'X', &[]).unwrap();
}

fn protocol_3_0(route: &Route) {
    let (wire, opened) = Wire::open(connect(route.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(opened.negotiated, None);
    assert_eq!(opened.secret.len(), 4);
    is_cancelled(route, wire, &opened);
}

fn protocol_3_2(route: &Route, major: Major) {
    let (wire, opened) = Wire::open(connect(route.address()).unwrap(), PROTOCOL_3_2, &[]).unwrap();
    if major >= Major(18) {
        assert_eq!(opened.negotiated, None, "18 speaks 3.2");
        assert_eq!(opened.secret.len(), 32, "18 sends secrets of 32 bytes");
    } else {
        assert_eq!(opened.negotiated, Some(PROTOCOL_3_0), "older servers offer 3.0");
        assert_eq!(opened.secret.len(), 4);
    }
    is_cancelled(route, wire, &opened);
}

/// Direct TLS: the first bytes are a ClientHello. Servers before 17 take it for a start-up packet of absurd length and end.
fn direct_tls(route: &Route, major: Major) {
    let stream = connect(route.address()).unwrap();
    let stream = tls::handshake(stream, &route.server.certificates.authority, &[tls::ALPN]);
    if major < Major(17) {
        assert!(stream.is_err(), "{major} knows no direct TLS");
        return;
    }
    let (mut wire, _) = Wire::open(stream.unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(wire.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["t"]);
    wire.send_message(b'X', &[]).unwrap();
}

/// A wrong secret is harmless, the right one ends the query, and the session goes on.
fn is_cancelled(route: &Route, mut wire: Wire<std::net::TcpStream>, opened: &Opened) {
    wire.send_message(b'Q', b"SELECT pg_sleep(60)\0").unwrap();
    let sql = format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {}", opened.process);
    let sleeping = || route.server.sql(&sql).map(|said| said == "t");
    wait::wait_for("the query to run", PROMPT, || Ok(sleeping()?.then_some(()))).unwrap();
    let mut wrong = opened.secret.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let cancel = |secret: &[u8]| {
        let mut wire = Wire { stream: connect(route.address()).unwrap() };
        wire.send(&cancel_request(opened.process, secret)).unwrap();
        assert_eq!(wire.read_to_end(), b"", "a server answers no CancelRequest");
    };
    cancel(&wrong);
    assert!(sleeping().unwrap(), "a wrong secret cancelled the query");
    let started = Instant::now();
    cancel(&opened.secret);
    let messages = wire.read_until_ready().unwrap();
    let errors: Vec<_> = messages.iter().filter(|m| m.tag == b'E').map(clients::wire::error_text).collect();
    assert_eq!(errors, ["57014: canceling statement due to user request"]);
    assert!(started.elapsed() < PROMPT, "only after {:?}", started.elapsed());
    assert_eq!(wire.query("SELECT pg_backend_pid()").unwrap(), [opened.process.to_string()]);
    wire.send_message(b'X', &[]).unwrap();
}

const LARGE: u64 = 16 << 20;
/// What must happen at once, on a machine busy with other tests.
const PROMPT: Duration = Duration::from_secs(5);
