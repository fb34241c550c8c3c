//! Sessions over real sockets, between real clients' bytes and a server that the test plays.
#![allow(clippy::unwrap_used)]

mod fake;

use std::time::Duration;

use fake::{AUTH_OK, BOUND, FakeServer, Rig, STARTUP, bounded, error, expect, rest, session};
use pg_leader_proxy::config::Session;
use pg_leader_proxy::gate::GateLimits;
use pg_leader_proxy::tally::{RefusalKind, RouteKind};
use pg_leader_proxy::wire::{SqlState, fatal};
use pg_leader_proxy_core::{Moment, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WIDE: GateLimits = GateLimits { max_held: 100, max_connecting: 100 };

#[tokio::test]
async fn bytes_pass_both_ways_unchanged_and_in_order() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (sent, received) = (bytes.clone(), bytes.clone());
    let sending = async {
        client.write_all(&sent).await.unwrap();
        expect(&mut client, &received).await;
        client
    };
    let echoing = async {
        let mut echo = vec![0; bytes.len()];
        bounded(served.read_exact(&mut echo)).await.unwrap();
        bounded(served.write_all(&echo)).await.unwrap();
        assert_eq!(echo, bytes);
    };
    let (client, ()) = tokio::join!(sending, echoing);
    drop((client, served));
    rig.until("both directions are counted", |tally| {
        let write = tally.route(RouteKind::Write);
        write.bytes_to_client.value() == 5_000_000 + AUTH_OK.len() as u64
            && write.bytes_to_server.value() == 5_000_000
    })
    .await;
}

#[tokio::test]
async fn a_session_that_never_pauses_leaves_the_others_their_turn() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    let (flooded, flooding) = rig.open_session(&server).await;
    let [mut flooded, mut flooding] = [flooded, flooding].map(|stream| {
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    });
    // Threads of their own, so that neither end is ever late; they end with the connections.
    let reading = std::thread::spawn(move || std::io::copy(&mut flooded, &mut std::io::sink()));
    std::thread::spawn(move || std::io::copy(&mut std::io::repeat(b'x'), &mut flooding));
    let (mut client, mut served) = rig.open_session(&server).await;
    for _ in 0..1000 {
        client.write_all(b"question").await.unwrap();
        expect(&mut served, b"question").await;
        served.write_all(b"answer").await.unwrap();
        expect(&mut client, b"answer").await;
    }
    assert!(!reading.is_finished(), "the flood has ended");
}

#[tokio::test]
async fn sessions_move_to_another_worker_with_all_that_is_on_its_way_and_are_severed_there() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(Session { workers: 2, ..session() }, Duration::from_secs(5), WIDE).await;
    let pass = rig.lead(&server);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(rig.open_session(&server).await);
    }
    let flood = b"D\0\0\0\x0e0123456789".repeat(1 << 16);
    let (_, flooding) = &mut sessions[0];
    let mut sent = 0;
    // Nobody reads it yet, so the relay keeps some of it.
    let full = Duration::from_millis(50);
    while let Ok(written) = tokio::time::timeout(full, flooding.write(&flood[sent % flood.len()..])).await {
        sent += written.unwrap();
    }
    // No other test here has a second worker.
    let moved = turns_of("worker-1") + 1000;
    let moving = async {
        while turns_of("worker-1") < moved {
            for (client, served) in &mut sessions[1..] {
                client.write_all(b"question").await.unwrap();
                expect(served, b"question").await;
                served.write_all(b"Z\0\0\0\x05I").await.unwrap();
                expect(client, b"Z\0\0\0\x05I").await;
            }
        }
    };
    bounded(moving).await;
    let (stuck, flooding) = &mut sessions[0];
    let whole = sent.next_multiple_of(flood.len());
    let bytes = flood.repeat(whole / flood.len());
    let (ended, ()) = tokio::join!(flooding.write_all(&bytes[sent..]), expect(stuck, &bytes));
    ended.unwrap();
    rig.depose(&pass, Reason::NoLeader);
    for (client, _) in &mut sessions {
        assert_eq!(error(&rest(client).await.0).0, "57P01");
    }
}

/// How often the threads of this name have gone to sleep.
fn turns_of(name: &str) -> u64 {
    let mut turns = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if field("Name:") == Some(name) {
            turns += field("voluntary_ctxt_switches:").unwrap().parse::<u64>().unwrap();
        }
    }
    turns
}

#[tokio::test]
async fn a_client_that_closes_its_half_still_reads_the_answer() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut served).await, (b"last words".to_vec(), Ok(())));
    served.write_all(b"answer").await.unwrap();
    drop(served);
    assert_eq!(rest(&mut client).await, (b"answer".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_severed_session_is_told_so_between_messages() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    rig.depose(&pass, Reason::NoLeader);
    let (last, ended) = rest(&mut client).await;
    assert_eq!(ended, Ok(()));
    let (state, text) = error(&last);
    assert_eq!(state, "57P01");
    assert!(text.ends_with("no member holds the leader key"), "{text}");
    assert_eq!(rest(&mut served).await.1, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn sessions_that_the_server_ends_with_its_epoch_count_as_severed() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let epoch = rig.epoch_tally();
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
    rig.until("the others have ended", |tally| tally.open_sessions() == 1).await;
    epoch.end(pg_leader_proxy::clock::now());
    assert_eq!(epoch.severed(), 2, "and not the one whose client left");
    rig.depose(&pass, Reason::NoLeader);
    assert_eq!(error(&rest(&mut open).await.0).0, "57P01");
    rig.until("it is counted", |_| epoch.severed() == 3).await;
}

#[tokio::test]
async fn a_session_severed_inside_a_message_is_reset() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    served.write_all(b"D\0\0\0\x0ehalf").await.unwrap();
    expect(&mut client, b"D\0\0\0\x0ehalf").await;
    rig.depose(&pass, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_session_blocked_in_a_write_is_severed_all_the_same() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let (client, mut served) = rig.open_session(&server).await;
    // Nobody reads at the client's end, so the buffers fill up until the server can write no more.
    let block = vec![0; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(300), served.write_all(&block)).await.is_ok() {}
    rig.depose(&pass, Reason::NoLeader);
    let (_, ended) = rest(&mut served).await;
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
    rig.until("no session is open", |tally| tally.open_sessions() == 0).await;
    drop(client);
}

#[tokio::test]
async fn no_byte_passes_once_the_pass_has_run_out_even_if_nobody_revoked_it() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    pass.extend(Moment::from_boot(Duration::from_nanos(1)));
    served.write_all(b"Z\0\0\0\x05I").await.unwrap();
    let (last, _) = rest(&mut client).await;
    assert_ne!(last.first(), Some(&b'Z'), "the acknowledgement must not arrive");
    rig.until("the session was severed", |tally| tally.route(RouteKind::Write).severed.value() == 1).await;
}

#[tokio::test]
async fn bytes_wait_for_a_pass_that_ran_out_and_is_extended() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    pass.extend(Moment::from_boot(Duration::from_nanos(1)));
    served.write_all(b"Z\0\0\0\x05I").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
    assert!(early.is_err(), "nothing may pass yet: {early:?}");
    pass.extend(Moment::from_boot(Duration::MAX));
    expect(&mut client, b"Z\0\0\0\x05I").await;
}

#[tokio::test]
async fn clients_wait_for_a_leader_and_then_enter() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |tally| tally.route(RouteKind::Write).held.value() == 1).await;
    rig.lead(&server);
    let _served = server.accept_session().await;
    expect(&mut client, AUTH_OK).await;
    rig.until("nobody is held", |tally| tally.route(RouteKind::Write).held.value() == 0).await;
}

#[tokio::test]
async fn a_client_is_told_why_when_it_has_waited_long_enough() {
    let rig = Rig::start(session(), Duration::from_millis(200), WIDE).await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(state, "57P03");
    assert!(text.ends_with("no member holds the leader key"), "{text}");
    assert_eq!(rig.tally.route(RouteKind::Write).refusals(RefusalKind::NoServer).value(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_up() {
    let rig = Rig::usual().await;
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    rig.until("the client is held", |tally| tally.route(RouteKind::Write).held.value() == 1).await;
    drop(client);
    rig.until("nobody is held", |tally| tally.open_sessions() == 0).await;
}

#[tokio::test]
async fn no_more_clients_wait_than_are_allowed_to() {
    let limits = GateLimits { max_held: 1, max_connecting: 1 };
    let rig = Rig::start(session(), Duration::from_secs(5), limits).await;
    let mut first = rig.client().await;
    first.write_all(STARTUP).await.unwrap();
    rig.until("one client is held", |tally| tally.route(RouteKind::Write).held.value() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "57P03");
}

#[tokio::test]
async fn no_more_sessions_are_open_than_are_allowed_to() {
    let rig = Rig::start(Session { max_sessions: 1, ..session() }, Duration::from_secs(5), WIDE).await;
    let _first = rig.client().await;
    rig.until("one session is open", |tally| tally.open_sessions() == 1).await;
    let mut second = rig.client().await;
    second.write_all(STARTUP).await.unwrap();
    assert_eq!(error(&rest(&mut second).await.0).0, "53300");
}

#[tokio::test]
async fn a_server_that_is_going_down_costs_the_client_nothing() {
    let (going, next) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::usual().await;
    rig.lead(&going);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();

    let mut served = going.accept().await;
    expect(&mut served, STARTUP).await;
    served.write_all(b"E\0\0\0\x23SFATAL\0C57P03\0Mshutting down\0\0\0").await.unwrap();
    drop(served);
    let mut served = going.accept().await;
    expect(&mut served, STARTUP).await;
    drop(served);
    assert_eq!(bounded(rig.suspects.recv()).await.unwrap().as_str(), "a", "the probes are told");

    rig.lead(&next);
    let _served = next.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_server_is_suspect_when_it_ends_a_session_and_not_when_its_client_does() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    for resets in [false, true] {
        let (mut client, mut served) = rig.open_session(&server).await;
        client.write_all(b"X\0\0\0\x04").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut served).await, (b"X\0\0\0\x04".to_vec(), Ok(())));
        if resets {
            pg_leader_proxy::net::reset_on_close(&served);
        }
        drop(served);
        rig.until("the session is over", |tally| tally.open_sessions() == 0).await;
        assert!(rig.suspects.try_recv().is_err(), "the client was gone");
    }
    let (_client, served) = rig.open_session(&server).await;
    drop(served);
    assert_eq!(bounded(rig.suspects.recv()).await.unwrap().as_str(), "a", "the client was there");
    let (mut client, mut served) = rig.open_session(&server).await;
    let farewell = fatal(SqlState::AdminShutdown, "terminating connection", "");
    served.write_all(&farewell).await.unwrap();
    expect(&mut client, &farewell).await;
    drop(client);
    assert_eq!(rest(&mut served).await, (Vec::new(), Ok(())));
    drop(served);
    assert_eq!(bounded(rig.suspects.recv()).await.unwrap().as_str(), "a", "the server said it");
}

#[tokio::test]
async fn the_epoch_may_end_while_a_client_waits_for_the_first_answer() {
    let (frozen, next) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&frozen);
    let mut client = rig.client().await;
    client.write_all(STARTUP).await.unwrap();
    let mut served = frozen.accept().await;
    expect(&mut served, STARTUP).await;
    rig.depose(&pass, Reason::NoLeader);
    rig.lead(&next);
    let _served = next.accept_session().await;
    expect(&mut client, AUTH_OK).await;
}

#[tokio::test]
async fn a_cancel_request_reaches_the_leader_whole() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    for key in [4_usize, 32, 256] {
        let request = cancel_request(key);
        let mut client = rig.client().await;
        client.write_all(&request).await.unwrap();
        expect(&mut server.accept().await, &request).await;
        assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
    }
}

#[tokio::test]
async fn a_cancel_request_reaches_every_server_of_the_read_route() {
    let (one, other) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::usual().await;
    rig.serve_reads(&[&one, &other]);
    let request = cancel_request(4);
    let mut client = bounded(TcpStream::connect(rig.read_addr)).await.unwrap();
    client.write_all(&request).await.unwrap();
    let (mut first, mut second) = (one.accept().await, other.accept().await);
    expect(&mut first, &request).await;
    expect(&mut second, &request).await;
}

#[tokio::test]
async fn readers_go_where_the_fewest_are() {
    let (one, other) = (FakeServer::start().await, FakeServer::start().await);
    let mut rig = Rig::usual().await;
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
async fn every_truncated_first_packet_ends_without_touching_a_server() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    for length in 0..STARTUP.len() {
        let mut client = rig.client().await;
        client.write_all(&STARTUP[..length]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())), "{length} bytes");
    }
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn garbage_is_answered_with_the_error_that_names_it() {
    let rig = Rig::usual().await;
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
async fn a_client_that_sends_too_slowly_is_told_and_cut_off() {
    let quick = Session { startup_timeout: Duration::from_millis(300), ..session() };
    let rig = Rig::start(quick, BOUND, WIDE).await;
    let mut client = rig.client().await;
    for byte in STARTUP.iter().take(4) {
        client.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(error(&rest(&mut client).await.0).0, "08P01");
    rig.until("the session is gone", |tally| tally.open_sessions() == 0).await;
}

#[tokio::test]
async fn encryption_is_asked_of_the_server_and_never_of_the_proxy() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    let pass = rig.lead(&server);
    let request = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let mut client = rig.client().await;
    client.write_all(request).await.unwrap();
    let mut served = server.accept().await;
    expect(&mut served, request).await;
    served.write_all(b"S").await.unwrap();
    expect(&mut client, b"S").await;
    client.write_all(b"\x16\x03\x01 anything").await.unwrap();
    expect(&mut served, b"\x16\x03\x01 anything").await;
    rig.depose(&pass, Reason::NoLeader);
    assert_eq!(rest(&mut client).await, (Vec::new(), Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn direct_tls_passes_however_the_client_hello_is_cut() {
    let server = FakeServer::start().await;
    let mut rig = Rig::usual().await;
    rig.lead(&server);
    let mut client = rig.client().await;
    client.write_all(b"\x16").await.unwrap();
    let mut served = server.accept().await;
    client.write_all(b"\x03\x01 the rest").await.unwrap();
    expect(&mut served, b"\x16\x03\x01 the rest").await;
}

fn cancel_request(key: usize) -> Vec<u8> {
    let length = u32::try_from(12 + key).unwrap();
    [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[0, 0, 0, 9], &vec![7; key]].concat()
}
