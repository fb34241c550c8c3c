//! Relaying: bytes arrive unchanged and in order, even when sessions move to another worker.

use std::time::Duration;

use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy_core::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::WIDE;
use crate::fake::{AUTH_OK, FakeServer, Rig, bounded, error, expect, rest, settings};

#[tokio::test]
async fn bytes_arrive_unchanged_and_in_order_in_both_directions() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
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
    let passed = [5_000_000, 5_000_000 + AUTH_OK.len() as u64];
    rig.until("both directions are counted while the session is open", |counters| {
        counters.bytes(RouteKind::Write) == passed && counters.open_sessions() == 1
    })
    .await;
    drop((client, served));
    rig.until("the session has ended", |counters| counters.open_sessions() == 0).await;
    rig.until("nothing is counted twice", |counters| counters.bytes(RouteKind::Write) == passed).await;
}

#[tokio::test]
async fn sessions_that_never_pause_do_not_starve_others() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut reading = Vec::new();
    for _ in 0..4 {
        let (client, served) = rig.open_session(&server).await;
        reading.extend(flood(client, served));
    }
    let (mut client, mut served) = rig.open_session(&server).await;
    for _ in 0..1000 {
        client.write_all(b"question").await.unwrap();
        expect(&mut served, b"question").await;
        served.write_all(b"answer").await.unwrap();
        expect(&mut client, b"answer").await;
    }
    assert!(reading.iter().all(|reading| !reading.is_finished()), "a busy session has ended");
}

/// Keeps both directions of a session full. The threads that read end with the session.
fn flood(
    client: tokio::net::TcpStream,
    served: tokio::net::TcpStream,
) -> [std::thread::JoinHandle<std::io::Result<u64>>; 2] {
    let ends = [client, served].map(|stream| {
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    });
    // Separate threads, so that neither end is ever late.
    ends.map(|end| {
        let mut writer = end.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut std::io::repeat(b'x'), &mut writer));
        std::thread::spawn(move || std::io::copy(&mut &end, &mut std::io::sink()))
    })
}

#[tokio::test]
async fn sessions_move_to_another_worker_with_their_unsent_bytes_and_are_terminated_there() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(settings(), 2, WIDE).await;
    let grant = rig.make_leader(&server);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(rig.open_session(&server).await);
    }
    let flood = b"D\0\0\0\x0e0123456789".repeat(1 << 16);
    let (_, flooding) = &mut sessions[0];
    let mut sent = 0;
    // The client does not read yet, so the relay keeps some of it.
    let full = Duration::from_millis(50);
    while let Ok(written) = tokio::time::timeout(full, flooding.write(&flood[sent % flood.len()..])).await {
        sent += written.unwrap();
    }
    // No other test here has a second worker.
    let moved = wakeups_of("worker-1") + 1000;
    let moving = async {
        while wakeups_of("worker-1") < moved {
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
    rig.end_epoch(&grant, Reason::NoLeader);
    for (client, _) in &mut sessions {
        assert_eq!(error(&rest(client).await.0).0, "57P01");
    }
}

/// How often the threads with this name have gone to sleep.
fn wakeups_of(name: &str) -> u64 {
    let mut turns = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end in between.
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
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut served).await, (b"last words".to_vec(), Ok(())));
    served.write_all(b"answer").await.unwrap();
    drop(served);
    assert_eq!(rest(&mut client).await, (b"answer".to_vec(), Ok(())));
}
