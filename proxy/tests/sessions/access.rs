//! Client addresses: allowed networks, and limits for each address.

use std::sync::Arc;

use pg_leader_proxy::admission::{Access, AddressLimits, RouteAccess};
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{ClientLimits, SessionSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::WIDE;
use crate::fake::{
    AUTH_OK, FakeServer, Rig, SSL_REQUEST, STARTUP, cancel_request, client_from, error, expect, networks,
    rest, settings, with_access,
};

/// Only `127.0.0.1` may write; everybody may read.
fn one_writer() -> Access {
    let allowed = Some(networks(&["127.0.0.1/32"]));
    Access { write: RouteAccess { allowed, ..RouteAccess::default() }, ..Access::default() }
}

fn limited(sessions: Option<u32>, connections_per_minute: Option<u32>) -> Access {
    Access { limits: AddressLimits { sessions, connections_per_minute }, ..Access::default() }
}

fn rejected(rig: &Rig, kind: RejectionKind) -> u64 {
    RouteKind::ALL.map(|route| rig.counters.route(route).rejections(kind).value()).iter().sum()
}

/// The error that a client gets for its first packet.
async fn refusal(mut client: TcpStream, packet: &[u8]) -> (String, String) {
    client.write_all(packet).await.unwrap();
    error(&rest(&mut client).await.0)
}

#[tokio::test]
async fn a_client_outside_the_allowed_networks_gets_an_error_and_reaches_no_server() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(with_access(one_writer()), 1, WIDE).await;
    rig.make_leader(&server);
    for packet in [STARTUP, SSL_REQUEST, &cancel_request(4)] {
        let (state, text) = refusal(client_from("127.0.0.2", rig.client_addr).await, packet).await;
        assert_eq!(state, "28000");
        assert_eq!(
            text,
            "connections from host \"127.0.0.2\" are not allowed: It is in none of the networks of write.allowed_networks."
        );
    }
    let mut direct_tls = client_from("127.0.0.2", rig.client_addr).await;
    direct_tls.write_all(b"\x16\x03\x01").await.unwrap();
    assert!(rest(&mut direct_tls).await.0.is_empty(), "it could not read an error");
    assert!(server.has_no_client().await);
    assert_eq!(rejected(&rig, RejectionKind::NetworkNotAllowed), 4);
    let _session = rig.open_session(&server).await;
    let mut cancel = rig.client().await;
    cancel.write_all(&cancel_request(4)).await.unwrap();
    expect(&mut server.accept().await, &cancel_request(4)).await;

    let replica = FakeServer::start().await;
    rig.serve_reads(&[&replica]);
    let mut reader = client_from("127.0.0.2", rig.read_addr).await;
    reader.write_all(STARTUP).await.unwrap();
    let _served = replica.accept_session().await;
    expect(&mut reader, AUTH_OK).await;
}

#[tokio::test]
async fn clients_that_are_not_allowed_take_no_place_of_a_session() {
    let server = FakeServer::start().await;
    let limits = ClientLimits { sessions: 1, rejected_at_once: 2 };
    let settings = SessionSettings { limits, ..with_access(one_writer()) };
    let mut rig = Rig::start(settings, 1, WIDE).await;
    rig.make_leader(&server);
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(client_from("127.0.0.2", rig.client_addr).await);
    }
    rig.until("both are accepted", |counters| counters.rejecting.value() == 2).await;
    let mut third = client_from("127.0.0.2", rig.client_addr).await;
    assert_eq!(rest(&mut third).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
    assert_eq!(rejected(&rig, RejectionKind::NetworkNotAllowed), 1, "the others wait for their error");
    let _session = rig.open_session(&server).await;
    drop(silent);
    rig.until("they are gone", |counters| counters.rejecting.value() == 0).await;
    assert_eq!(rig.counters.open_sessions(), 1);
}

#[tokio::test]
async fn new_lists_apply_to_new_clients_alone() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(settings(), 1, WIDE).await;
    rig.make_leader(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    let elsewhere = RouteAccess { allowed: Some(networks(&["10.0.0.0/8"])), ..RouteAccess::default() };
    let access = Access { write: elsewhere, ..limited(Some(1), Some(1)) };
    rig.settings.send_modify(|settings| settings.access = Some(Arc::new(access)));
    assert_eq!(refusal(rig.client().await, STARTUP).await.0, "28000");
    client.write_all(b"Q\0\0\0\x05\0").await.unwrap();
    expect(&mut served, b"Q\0\0\0\x05\0").await;
    rig.settings.send_modify(|settings| settings.access = None);
    let _session = rig.open_session(&server).await;
}

#[tokio::test]
async fn an_address_has_a_limit_of_sessions_over_both_routes() {
    let (server, replica) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::start(with_access(limited(Some(2), None)), 2, WIDE).await;
    rig.make_leader(&server);
    rig.serve_reads(&[&replica]);
    let first = rig.open_session(&server).await;
    let mut reader = client_from("127.0.0.1", rig.read_addr).await;
    reader.write_all(STARTUP).await.unwrap();
    let _reader_served = replica.accept_session().await;
    for addr in [rig.client_addr, rig.read_addr] {
        let (state, text) = refusal(client_from("127.0.0.1", addr).await, STARTUP).await;
        assert_eq!(state, "53300");
        let told = "too many sessions of host \"127.0.0.1\": The proxy allows 2 of one address (session.max_sessions_per_address).";
        assert_eq!(text, told);
    }
    assert_eq!(rejected(&rig, RejectionKind::TooManySessionsOfAddress), 2);
    let mut cancel = rig.client().await;
    cancel.write_all(&cancel_request(4)).await.unwrap();
    expect(&mut server.accept().await, &cancel_request(4)).await;
    drop(cancel);
    let mut other = client_from("127.0.0.2", rig.client_addr).await;
    other.write_all(STARTUP).await.unwrap();
    let _other_served = server.accept_session().await;
    drop(first);
    rig.until("the first session is over", |counters| counters.open_sessions() == 2).await;
    let _next = rig.open_session(&server).await;
}

#[tokio::test]
async fn an_address_has_a_limit_of_new_connections() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(with_access(limited(None, Some(2))), 1, WIDE).await;
    rig.make_leader(&server);
    for _ in 0..2 {
        drop(rig.open_session(&server).await);
    }
    let (state, text) = refusal(rig.client().await, STARTUP).await;
    assert_eq!(state, "53300");
    assert!(
        text.starts_with("too many new connections of host \"127.0.0.1\": The proxy allows 2 a minute"),
        "{text}"
    );
    assert_eq!(rejected(&rig, RejectionKind::TooManyConnectionsOfAddress), 1);
    let mut other = client_from("127.0.0.2", rig.client_addr).await;
    other.write_all(STARTUP).await.unwrap();
    let _served = server.accept_session().await;
}
