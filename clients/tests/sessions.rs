//! Sessions that end in unusual ways, sessions that last, and many sessions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Shutdown;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clients::first_packet::{PROTOCOL_3_0, connect};
use clients::raw_client::{Message, error_text};
use clients::server::APP;
use clients::{Major, RawClient, Testbed};
use lab::retry;

/// A client may send everything and close its side before it reads. All the answers must still arrive.
#[test]
fn half_closed_after_terminate() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    client.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 50000)\0").unwrap();
    client.send_message(b'X', &[]).unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    // Time for a proxy that stops when one side ends.
    std::thread::sleep(Duration::from_millis(300));
    let messages = client.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 50_000);
    assert_eq!(client.read_to_end(), b"");
    testbed.same_bytes().unwrap();
}

/// The same without Terminate: the server reads the end of the stream only after it has answered.
#[test]
fn half_closed_without_terminate() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    client.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 50000)\0").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    let messages = client.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 50_000);
    assert_eq!(client.read_to_end(), b"");
    testbed.same_bytes().unwrap();
}

/// A COPY whose client leaves in the middle must not be committed, and its backend must end.
#[test]
fn half_closed_in_the_middle_of_a_copy() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    testbed.server.sql("CREATE TABLE copied (id int)").unwrap();
    testbed.server.sql(&format!("ALTER TABLE copied OWNER TO {APP}")).unwrap();
    let mut client = open(&testbed);
    client.send_message(b'Q', b"COPY copied FROM STDIN\0").unwrap();
    assert_eq!(client.read().unwrap().tag, b'G');
    for _ in 0..1000 {
        client.send_message(b'd', b"1\n2\n3\n").unwrap();
    }
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.read_to_end();
    wait_until_no_backend_is_left(&testbed);
    assert_eq!(testbed.server.sql("SELECT count(*) FROM copied").unwrap(), "0");
    assert!(
        testbed
            .server
            .log()
            .unwrap()
            .contains("unexpected EOF on client connection with an open transaction")
    );
    testbed.same_bytes().unwrap();
}

/// A client that leaves while it receives a result: its backend must end, or the server fills up with dead sessions.
#[test]
fn client_gone_during_a_result() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    client.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 10000000)\0").unwrap();
    assert_eq!(client.read().unwrap().tag, b'T');
    drop(client);
    wait_until_no_backend_is_left(&testbed);
}

/// A client that does not read makes the server wait, and costs the proxy no memory.
#[test]
fn stalled_by_a_client_that_does_not_read() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    client.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 300000)\0").unwrap();
    let waits = "SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE usename = 'app'";
    retry("the server to wait for its client", LONG, || {
        ensure!(testbed.server.sql(waits)? == "t");
        Ok(())
    })
    .unwrap();
    if let Some(proxy) = testbed.proxy() {
        let peak = proxy.peak_memory_kib().unwrap();
        assert!(peak < PROXY_PEAK_KIB, "the proxy needed {peak} KiB");
    }
    // Linux counts the time with a closed window towards TCP_USER_TIMEOUT, and people leave results in a pager.
    std::thread::sleep(PAGER);
    let messages = client.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 300_000);
    client.send_message(b'X', &[]).unwrap();
}

/// A backend terminated by an administrator: its error arrives, and then the end of the stream.
#[test]
fn terminated_by_the_server() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    let process = client.query("SELECT pg_backend_pid()").unwrap().concat();
    testbed.server.sql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
    let last = client.read().unwrap();
    assert_eq!(error_text(&last), "57P01: terminating connection due to administrator command");
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    testbed.same_bytes().unwrap();
}

/// The same in the middle of a COPY: the server closes the connection with unread data, which resets it. The error was
/// sent before, so a client that reads must find it.
#[test]
fn terminated_by_the_server_in_the_middle_of_a_copy() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    testbed.server.sql("CREATE TABLE copied (words text)").unwrap();
    testbed.server.sql(&format!("ALTER TABLE copied OWNER TO {APP}")).unwrap();
    let row = [vec![b'x'; 8000], vec![b'\n']].concat();
    let mut lost = Vec::new();
    for attempt in 0..20 {
        let mut client = open(&testbed);
        let process = client.query("SELECT pg_backend_pid()").unwrap().concat();
        client.send_message(b'Q', b"COPY copied FROM STDIN\0").unwrap();
        assert_eq!(client.read().unwrap().tag, b'G');
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                testbed.server.sql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
            });
            let started = Instant::now();
            while client.send_message(b'd', &row).is_ok() {
                assert!(started.elapsed() < LONG, "the terminated session still takes data");
            }
        });
        match client.read() {
            Ok(last) if error_text(&last).starts_with("57P01") => {}
            Ok(other) => lost.push(format!("attempt {attempt}: {}", error_text(&other))),
            Err(error) => lost.push(format!("attempt {attempt}: {error:#}")),
        }
    }
    assert!(lost.is_empty(), "the server's error was lost: {lost:#?}");
}

/// An idle session stays open, and still receives notifications.
#[test]
fn idle_for_a_while() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let mut client = open(&testbed);
    let process = client.query("SELECT pg_backend_pid()").unwrap();
    client.query("LISTEN news").unwrap();
    std::thread::sleep(IDLE);
    testbed.server.sql("NOTIFY news, 'after a while'").unwrap();
    let Message { tag, body } = client.read().unwrap();
    assert_eq!(tag, b'A');
    assert!(body.ends_with(b"news\0after a while\0"), "{}", body.escape_ascii());
    assert_eq!(client.query("SELECT pg_backend_pid()").unwrap(), process);
    client.send_message(b'X', &[]).unwrap();
    drop(client);
    testbed.same_bytes().unwrap();
}

/// A thousand connections from eight threads, half of them sessions, half of them closed before the first byte: all are
/// served, and nothing of them is left in the proxy or in the server.
#[test]
fn a_thousand_connections() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    open(&testbed).send_message(b'X', &[]).unwrap();
    wait_until_no_backend_is_left(&testbed);
    let before = testbed.proxy().map(|proxy| proxy.descriptors().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for number in 0..1000 / THREADS {
                    if number % 2 == 0 {
                        let mut client = open(&testbed);
                        assert_eq!(client.query("SELECT 42").unwrap(), ["42"]);
                        client.send_message(b'X', &[]).unwrap();
                        assert_eq!(client.read_to_end(), b"");
                    } else {
                        drop(connect(testbed.address()).unwrap());
                    }
                }
            });
        }
    });
    wait_until_no_backend_is_left(&testbed);
    if let Some((proxy, before)) = testbed.proxy().zip(before) {
        retry("the proxy to close every connection", LONG, || {
            ensure!(proxy.descriptors()? <= before);
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(open(&testbed).query("SELECT 1").unwrap(), ["1"]);
}

fn open(testbed: &Testbed) -> RawClient<std::net::TcpStream> {
    RawClient::open(connect(testbed.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap().0
}

/// Waits until every backend of the clients' user has ended.
fn wait_until_no_backend_is_left(testbed: &Testbed) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{APP}'");
    retry("every backend to end", LONG, || {
        ensure!(testbed.server.sql(&sql)? == "0");
        Ok(())
    })
    .unwrap();
}

/// How long a client need not read: longer than keepalive needs to find a dead client.
const PAGER: Duration = Duration::from_secs(35);
const THREADS: usize = 8;
/// Longer than the probes' interval and every timeout of a single step.
const IDLE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(15);
/// The proxy keeps only what one socket has not taken, not the whole result.
const PROXY_PEAK_KIB: u64 = 64 << 10;
