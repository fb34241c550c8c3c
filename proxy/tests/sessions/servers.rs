//! Servers: which ones are tried, rechecked, and sent cancel requests.

use pg_leader_proxy::wire::{SqlState, fatal};
use pg_leader_proxy_core::Reason;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fake::{AUTH_OK, FakeServer, Rig, SSL_REQUEST, STARTUP, bounded, cancel_request, expect, rest};

#[tokio::test]
async fn a_client_does_not_notice_a_server_that_is_shutting_down() {
    let (going, next) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&going);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();

    let mut served = going.accept().await;
    expect(&mut served, STARTUP).await;
    served.write_all(b"E\0\0\0\x23SFATAL\0C57P03\0Mshutting down\0\0\0").await.unwrap();
    drop(served);
    let mut served = going.accept().await;
    expect(&mut served, STARTUP).await;
    drop(served);
    assert_eq!(bounded(rig.rechecks.recv()).await.unwrap().as_str(), "a", "the probes recheck it");

    rig.make_leader(&next);
    let _served = next.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_client_does_not_notice_a_server_that_is_stopped_during_its_login() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let farewell = fatal(SqlState::AdminShutdown, "terminating connection due to administrator command", "");
    // PostgreSQL sends AuthenticationOk only with what follows it.
    for answer in [[AUTH_OK, &farewell].concat(), farewell] {
        let mut served = server.accept().await;
        expect(&mut served, STARTUP).await;
        served.write_all(&answer).await.unwrap();
    }
    let mut served = server.accept().await;
    expect(&mut served, STARTUP).await;
    // An error that breaks off is no answer.
    served.write_all(b"E\0\0\0\x23SFATAL\0").await.unwrap();
    drop(served);
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_client_whose_server_refuses_encryption_does_not_notice_its_shutdown_either() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    let mut served = None;
    for request in [GSSENC_REQUEST, SSL_REQUEST] {
        client.write_all(request).await.unwrap();
        let served = match &mut served {
            Some(served) => served,
            none => none.insert(server.accept().await),
        };
        expect(served, request).await;
        served.write_all(b"N").await.unwrap();
        expect(&mut client, b"N").await;
    }
    client.write_all(STARTUP).await.unwrap();
    let mut served = served.unwrap();
    expect(&mut served, STARTUP).await;
    let farewell = fatal(SqlState::CannotConnectNow, "the database system is shutting down", "");
    served.write_all(&farewell).await.unwrap();
    drop(served);
    // The client knows that there is no encryption, so the next server is not asked for it.
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_cancel_request_may_follow_refused_encryption() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut client = rig.client().await;
    client.write_all(SSL_REQUEST).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, SSL_REQUEST).await;
    served.write_all(b"N").await.unwrap();
    expect(&mut client, b"N").await;
    let request = cancel_request(4);
    client.write_all(&request).await.unwrap();
    expect(&mut server.accept().await, &request).await;
    assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
}

#[tokio::test]
async fn a_server_is_rechecked_when_it_ends_a_session_and_not_when_the_client_does() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    for resets in [false, true] {
        let (mut client, mut served) = rig.open_session(&server).await;
        client.write_all(b"X\0\0\0\x04").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut served).await, (b"X\0\0\0\x04".to_vec(), Ok(())));
        if resets {
            pg_leader_proxy::net::reset_on_close(&served);
        }
        drop(served);
        rig.until("the session is over", |counters| counters.open_sessions() == 0).await;
        assert!(rig.rechecks.try_recv().is_err(), "the client ended it");
    }
    let (_client, served) = rig.open_session(&server).await;
    drop(served);
    assert_eq!(bounded(rig.rechecks.recv()).await.unwrap().as_str(), "a", "the server ended it");
    let (mut client, mut served) = rig.open_session(&server).await;
    let farewell = fatal(SqlState::AdminShutdown, "terminating connection", "");
    served.write_all(&farewell).await.unwrap();
    expect(&mut client, &farewell).await;
    drop(client);
    assert_eq!(rest(&mut served).await, (Vec::new(), Ok(())));
    drop(served);
    assert_eq!(bounded(rig.rechecks.recv()).await.unwrap().as_str(), "a", "the server sent an error first");
}

#[tokio::test]
async fn the_epoch_may_end_while_a_client_waits_for_the_first_answer() {
    let (frozen, next) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::with_defaults().await;
    let grant = rig.make_leader(&frozen);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = frozen.accept().await;
    expect(&mut served, STARTUP).await;
    rig.end_epoch(&grant, Reason::NoLeader);
    rig.make_leader(&next);
    let _served = next.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_cancel_request_reaches_the_leader_unchanged() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    for key in [4_usize, 32, 256] {
        let request = cancel_request(key);
        let mut client = rig.client().await;
        client.write_all(&[&request, &b"and more"[..]].concat()).await.unwrap();
        let mut served = server.accept().await;
        expect(&mut served, &request).await;
        served.shutdown().await.unwrap();
        assert_eq!(rest(&mut served).await, (Vec::new(), Ok(())), "nothing but the packet");
        assert!(rest(&mut client).await.0.is_empty());
    }
}

#[tokio::test]
async fn a_cancel_request_reaches_every_server_of_the_read_route() {
    let (one, other) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::with_defaults().await;
    rig.serve_reads(&[&one, &other]);
    let request = cancel_request(4);
    let mut client = bounded(TcpStream::connect(rig.read_addr)).await.unwrap();
    client.write_all(&request).await.unwrap();
    let (mut first, mut second) = (one.accept().await, other.accept().await);
    expect(&mut first, &request).await;
    expect(&mut second, &request).await;
}

#[tokio::test]
async fn new_readers_go_to_the_server_with_the_fewest_sessions() {
    let (one, other) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::with_defaults().await;
    rig.serve_reads(&[&one, &other]);
    let mut sessions = Vec::new();
    for server in [&one, &other, &one, &other] {
        let mut client = bounded(TcpStream::connect(rig.read_addr)).await.unwrap();
        client.write_all(STARTUP).await.unwrap();
        let served = server.accept_session().await;
        expect(&mut client, AUTH_OK).await;
        sessions.push((client, served));
    }
}

#[tokio::test]
async fn readers_that_connect_at_the_same_time_are_spread_over_the_servers() {
    let servers = [FakeServer::start().await, FakeServer::start().await];
    let mut rig = Rig::with_defaults().await;
    rig.serve_reads(&[&servers[0], &servers[1]]);
    let mut clients = Vec::new();
    // As many as a gate that has just opened lets in before a server has answered.
    for _ in &servers {
        let mut client = bounded(TcpStream::connect(rig.read_addr)).await.unwrap();
        client.write_all(STARTUP).await.unwrap();
        clients.push(client);
    }
    for server in &servers {
        expect(&mut server.accept().await, STARTUP).await;
    }
}

#[tokio::test]
async fn encrypted_sessions_of_a_client_address_stay_on_one_server_so_that_cancels_arrive() {
    let servers = [FakeServer::start().await, FakeServer::start().await];
    let mut rig = Rig::with_defaults().await;
    rig.serve_reads(&[&servers[0], &servers[1]]);
    let read_addr = rig.read_addr;
    let connect = async |packet: &[u8]| {
        let mut client = bounded(TcpStream::connect(read_addr)).await.unwrap();
        client.write_all(packet).await.unwrap();
        client
    };
    let serve = async |server: &FakeServer, packet: &[u8]| {
        let mut served = server.accept().await;
        expect(&mut served, packet).await;
        served.write_all(b"S").await.unwrap();
        served
    };
    // A plaintext session first, so that the other server would be the next to be chosen each time.
    let _plaintext = connect(STARTUP).await;
    let _served = servers[0].accept_session().await;
    let mut sessions = Vec::new();
    for packet in [SSL_REQUEST, b"\x16\x03\x01 hello", GSSENC_REQUEST] {
        let client = connect(packet).await;
        sessions.push((client, serve(&servers[1], packet).await));
    }
    let _plaintext = connect(STARTUP).await;
    let _served = servers[0].accept_session().await;
    sessions.clear();
    rig.until("the encrypted ones have ended", |counters| counters.open_sessions() == 2).await;
    let _third = connect(STARTUP).await;
    let _served = servers[1].accept_session().await;
    let _fourth = connect(STARTUP).await;
    let _served = servers[1].accept_session().await;
    let _without_a_session_there = connect(SSL_REQUEST).await;
    let _served = serve(&servers[0], SSL_REQUEST).await;
}

const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
