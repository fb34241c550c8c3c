//! One server of each major version through the proxy: two client programs, and the protocol features of the version.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use anyhow::ensure;
use clients::first_packet::{
    GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, cancel_request, connect, packet,
};
use clients::raw_client::{StartupReply, error_text};
use clients::{Client, Major, RawClient, Testbed, program, tls};
use lab::retry;

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
    let testbed = Testbed::recorded(major).unwrap();
    is_of_this_version(&testbed, major);
    for client in [Client::TokioPostgres, Client::Psycopg] {
        program::run(client, &testbed, LARGE).unwrap();
    }
    every_request_before_the_startup(&testbed);
    protocol_3_0(&testbed);
    protocol_3_2(&testbed, major);
    direct_tls(&testbed, major);
    assert!(testbed.same_bytes().unwrap() > 50, "fewer connections than the two programs make");
}

fn is_of_this_version(testbed: &Testbed, major: Major) {
    let (mut client, _) = RawClient::open(connect(testbed.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    let version = client.query("SHOW server_version").unwrap();
    assert!(version[0].starts_with(&format!("{major}.")), "{version:?} instead of {major}");
    client.send_message(b'X', &[]).unwrap();
}

/// One connection asks for GSSAPI, is refused, asks for TLS, gets it, and starts its session, as libpq does.
fn every_request_before_the_startup(testbed: &Testbed) {
    let mut client = RawClient { stream: connect(testbed.address()).unwrap() };
    client.send(&packet(GSSENC_REQUEST, &[])).unwrap();
    assert_eq!(client.read_byte().unwrap(), b'N', "no server here has GSSAPI");
    client.send(&packet(SSL_REQUEST, &[])).unwrap();
    assert_eq!(client.read_byte().unwrap(), b'S');
    let stream = tls::handshake(client.stream, &testbed.server.ca, &[]).unwrap();
    let (mut client, _) = RawClient::open(stream, PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(client.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["t"]);
    client.send_message(b'X', &[]).unwrap();
}

fn protocol_3_0(testbed: &Testbed) {
    let (client, reply) = RawClient::open(connect(testbed.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(reply.negotiated, None);
    assert_eq!(reply.secret.len(), 4);
    is_cancelled(testbed, client, &reply);
}

fn protocol_3_2(testbed: &Testbed, major: Major) {
    let (client, reply) = RawClient::open(connect(testbed.address()).unwrap(), PROTOCOL_3_2, &[]).unwrap();
    if major >= Major(18) {
        assert_eq!(reply.negotiated, None, "18 supports 3.2");
        assert_eq!(reply.secret.len(), 32, "18 sends secrets of 32 bytes");
    } else {
        assert_eq!(reply.negotiated, Some(PROTOCOL_3_0), "older servers offer 3.0");
        assert_eq!(reply.secret.len(), 4);
    }
    is_cancelled(testbed, client, &reply);
}

/// Direct TLS: the first bytes are a ClientHello. Older servers than 17 read it as a start-up packet of invalid length.
fn direct_tls(testbed: &Testbed, major: Major) {
    let stream = connect(testbed.address()).unwrap();
    let stream = tls::handshake(stream, &testbed.server.ca, &[tls::ALPN]);
    if major < Major(17) {
        assert!(stream.is_err(), "{major} does not support direct TLS");
        return;
    }
    let (mut client, _) = RawClient::open(stream.unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(client.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["t"]);
    client.send_message(b'X', &[]).unwrap();
}

/// A wrong secret changes nothing, the right one cancels the query, and the session goes on.
fn is_cancelled(testbed: &Testbed, mut client: RawClient<std::net::TcpStream>, reply: &StartupReply) {
    client.send_message(b'Q', b"SELECT pg_sleep(60)\0").unwrap();
    let sql = format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {}", reply.process);
    let sleeping = || testbed.server.sql(&sql).map(|row| row == "t");
    retry("the query to run", PROMPT, || {
        ensure!(sleeping()?);
        Ok(())
    })
    .unwrap();
    let mut wrong = reply.secret.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let cancel = |secret: &[u8]| {
        let mut client = RawClient { stream: connect(testbed.address()).unwrap() };
        client.send(&cancel_request(reply.process, secret)).unwrap();
        assert_eq!(client.read_to_end(), b"", "a server does not answer a CancelRequest");
    };
    cancel(&wrong);
    assert!(sleeping().unwrap(), "a wrong secret cancelled the query");
    let started = Instant::now();
    cancel(&reply.secret);
    let messages = client.read_until_ready().unwrap();
    let errors: Vec<_> = messages.iter().filter(|m| m.tag == b'E').map(error_text).collect();
    assert_eq!(errors, ["57014: canceling statement due to user request"]);
    assert!(started.elapsed() < PROMPT, "only after {:?}", started.elapsed());
    assert_eq!(client.query("SELECT pg_backend_pid()").unwrap(), [reply.process.to_string()]);
    client.send_message(b'X', &[]).unwrap();
}

const LARGE: u64 = 16 << 20;
/// For what happens at once, on a machine busy with other tests.
const PROMPT: Duration = Duration::from_secs(5);
