//! Sessions that end in unusual ways, or go on for long, or come in crowds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Shutdown;
use std::time::{Duration, Instant};

use clients::first_packet::{PROTOCOL_3_0, connect};
use clients::server::APP;
use clients::wire::{Message, Wire, error_text};
use clients::{Major, Route, wait};

/// A client may say everything and close its side before it reads: the answers must still come, all of them.
#[test]
fn half_closed_after_terminate() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    wire.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 50000)\0").unwrap();
    wire.send_message(b'X', &[]).unwrap();
    wire.stream.shutdown(Shutdown::Write).unwrap();
    // Long enough for a proxy that gives up with the first end to have given up.
    std::thread::sleep(Duration::from_millis(300));
    let messages = wire.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 50_000);
    assert_eq!(wire.read_to_end(), b"");
    route.same_bytes().unwrap();
}

/// The same without Terminate: the server finds the end of the stream only after it has answered.
#[test]
fn half_closed_without_terminate() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    wire.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 50000)\0").unwrap();
    wire.stream.shutdown(Shutdown::Write).unwrap();
    let messages = wire.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 50_000);
    assert_eq!(wire.read_to_end(), b"");
    route.same_bytes().unwrap();
}

/// A COPY whose client goes away in the middle must not be committed, and its backend must end.
#[test]
fn half_closed_in_the_middle_of_a_copy() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    route.server.sql("CREATE TABLE copied (id int)").unwrap();
    route.server.sql(&format!("ALTER TABLE copied OWNER TO {APP}")).unwrap();
    let mut wire = open(&route);
    wire.send_message(b'Q', b"COPY copied FROM STDIN\0").unwrap();
    assert_eq!(wire.read().unwrap().tag, b'G');
    for _ in 0..1000 {
        wire.send_message(b'd', b"1\n2\n3\n").unwrap();
    }
    wire.stream.shutdown(Shutdown::Write).unwrap();
    wire.read_to_end();
    nobody_is_left(&route);
    assert_eq!(route.server.sql("SELECT count(*) FROM copied").unwrap(), "0");
    assert!(route.server.log().contains("unexpected EOF on client connection with an open transaction"));
    route.same_bytes().unwrap();
}

/// A client that dies while a result flows: its backend must notice, or the server fills up with dead sessions.
#[test]
fn gone_while_a_result_flows() {
    let route = Route::plain(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    wire.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 10000000)\0").unwrap();
    assert_eq!(wire.read().unwrap().tag, b'T');
    drop(wire);
    nobody_is_left(&route);
}

/// A client that reads nothing makes the server wait, and costs the proxy no memory.
#[test]
fn stalled_by_a_client_that_does_not_read() {
    let route = Route::plain(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    wire.send_message(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 300000)\0").unwrap();
    let waits = "SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE usename = 'app'";
    wait::wait_for("the server to wait for its client", LONG, || {
        Ok((route.server.sql(waits)? == "t").then_some(()))
    })
    .unwrap();
    if let Some(proxy) = route.proxy() {
        let peak = proxy.peak_memory_kib().unwrap();
        assert!(peak < PROXY_PEAK_KIB, "the proxy needed {peak} KiB");
    }
    // Linux counts a closed window towards TCP_USER_TIMEOUT, and people read in a pager for a while.
    std::thread::sleep(PAGER);
    let messages = wire.read_until_ready().unwrap();
    assert_eq!(messages.iter().filter(|message| message.tag == b'D').count(), 300_000);
    wire.send_message(b'X', &[]).unwrap();
}

/// A backend ended by an administrator: its last words arrive, and then the end.
#[test]
fn ended_by_the_server() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    let process = wire.query("SELECT pg_backend_pid()").unwrap().concat();
    route.server.sql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
    let last = wire.read().unwrap();
    assert_eq!(error_text(&last), "57P01: terminating connection due to administrator command");
    assert_eq!(wire.read_to_end(), b"");
    drop(wire);
    route.same_bytes().unwrap();
}

/// The same in the middle of a COPY: the server ends with data unread, which resets the connection. Its last words came
/// before, and a client that looks for them finds them.
#[test]
fn ended_by_the_server_in_the_middle_of_a_copy() {
    let route = Route::plain(Major::NEWEST).unwrap();
    route.server.sql("CREATE TABLE copied (words text)").unwrap();
    route.server.sql(&format!("ALTER TABLE copied OWNER TO {APP}")).unwrap();
    let row = [vec![b'x'; 8000], vec![b'\n']].concat();
    let mut lost = Vec::new();
    for attempt in 0..20 {
        let mut wire = open(&route);
        let process = wire.query("SELECT pg_backend_pid()").unwrap().concat();
        wire.send_message(b'Q', b"COPY copied FROM STDIN\0").unwrap();
        assert_eq!(wire.read().unwrap().tag, b'G');
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                route.server.sql(&format!("SELECT pg_terminate_backend({process})")).unwrap();
            });
            let started = Instant::now();
            while wire.send_message(b'd', &row).is_ok() {
                assert!(started.elapsed() < LONG, "the terminated session still takes data");
            }
        });
        match wire.read() {
            Ok(last) if error_text(&last).starts_with("57P01") => {}
            Ok(other) => lost.push(format!("attempt {attempt}: {}", error_text(&other))),
            Err(error) => lost.push(format!("attempt {attempt}: {error:#}")),
        }
    }
    assert!(lost.is_empty(), "the server's last words were lost: {lost:#?}");
}

/// A session that nobody uses for a while is still there, and so is what it was told to listen to.
#[test]
fn idle_for_a_while() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut wire = open(&route);
    let process = wire.query("SELECT pg_backend_pid()").unwrap();
    wire.query("LISTEN news").unwrap();
    std::thread::sleep(IDLE);
    route.server.sql("NOTIFY news, 'after a while'").unwrap();
    let Message { tag, body } = wire.read().unwrap();
    assert_eq!(tag, b'A');
    assert!(body.ends_with(b"news\0after a while\0"), "{}", body.escape_ascii());
    assert_eq!(wire.query("SELECT pg_backend_pid()").unwrap(), process);
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);
    route.same_bytes().unwrap();
}

/// A thousand connections on eight threads, half of them sessions, half of them closed before they spoke: all are served,
/// and nothing of them is left in the proxy or in the server.
#[test]
fn a_thousand_that_come_and_go() {
    let route = Route::plain(Major::NEWEST).unwrap();
    open(&route).send_message(b'X', &[]).unwrap();
    nobody_is_left(&route);
    let before = route.proxy().map(|proxy| proxy.descriptors().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for number in 0..1000 / THREADS {
                    if number % 2 == 0 {
                        let mut wire = open(&route);
                        assert_eq!(wire.query("SELECT 42").unwrap(), ["42"]);
                        wire.send_message(b'X', &[]).unwrap();
                        assert_eq!(wire.read_to_end(), b"");
                    } else {
                        drop(connect(route.address()).unwrap());
                    }
                }
            });
        }
    });
    nobody_is_left(&route);
    if let Some((proxy, before)) = route.proxy().zip(before) {
        // Connections that never spoke leave when the proxy looks at them, not when we do.
        wait::wait_for("the proxy to let go of every connection", LONG, || {
            Ok((proxy.descriptors()? <= before).then_some(()))
        })
        .unwrap();
    }
    assert_eq!(open(&route).query("SELECT 1").unwrap(), ["1"]);
}

fn open(route: &Route) -> Wire<std::net::TcpStream> {
    Wire::open(connect(route.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap().0
}

/// Every backend of the clients' user has ended.
fn nobody_is_left(route: &Route) {
    let started = Instant::now();
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{APP}'");
    wait::wait_for("every backend to end", LONG, || Ok((route.server.sql(&sql)? == "0").then_some(())))
        .unwrap();
    assert!(started.elapsed() < LONG);
}

/// How long a client that does not read must be put up with: longer than keepalive needs to find a dead one.
const PAGER: Duration = Duration::from_secs(35);
const THREADS: usize = 8;
/// Longer than the proxy's probes and the server's timeouts of a single step.
const IDLE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(15);
/// The proxy keeps what one socket did not take, not the result.
const PROXY_PEAK_KIB: u64 = 64 << 10;
