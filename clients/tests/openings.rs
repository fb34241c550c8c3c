//! First packets that finished clients do not send: in pieces, at the limits, and wrong ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clients::first_packet::{
    CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, connect, packet, startup,
};
use clients::server::APP;
use clients::wire::{Wire, error_text};
use clients::{Major, Route};

/// A start-up packet may arrive byte by byte: TCP has no packets.
#[test]
fn in_single_bytes() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut stream = connect(route.address()).unwrap();
    for byte in packet(SSL_REQUEST, &[]) {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut wire = Wire { stream };
    assert_eq!(wire.read_byte().unwrap(), b'S');
    drop(wire);

    let stream = OneByteAtATime(connect(route.address()).unwrap());
    let (mut wire, _) = Wire::open(stream, PROTOCOL_3_0, &[("application_name", "slow")]).unwrap();
    assert_eq!(wire.query("SHOW application_name").unwrap(), ["slow"]);
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);
    route.same_bytes().unwrap();
}

/// PostgreSQL takes 10,000 bytes and no more.
#[test]
fn of_the_longest_length() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let own = startup(PROTOCOL_3_0, &[("user", APP), ("database", APP), ("options", "")]).len();
    let blanks = " ".repeat(10_000 - own);
    let stream = connect(route.address()).unwrap();
    let (mut wire, _) = Wire::open(stream, PROTOCOL_3_0, &[("options", &blanks)]).unwrap();
    assert_eq!(wire.query("SELECT 1").unwrap(), ["1"]);
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);
    route.same_bytes().unwrap();
}

/// Options that the server does not know are named in NegotiateProtocolVersion; the proxy must not answer for it.
#[test]
fn with_unknown_protocol_options() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let stream = connect(route.address()).unwrap();
    let (mut wire, opened) = Wire::open(stream, PROTOCOL_3_2, &[("_pq_.unheard", "of")]).unwrap();
    assert_eq!(opened.negotiated, Some(PROTOCOL_3_2));
    assert_eq!(wire.query("SELECT 1").unwrap(), ["1"]);
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);

    // The versions from 3.3 to 3.9999 are reserved for finding out whether a server negotiates.
    let stream = connect(route.address()).unwrap();
    let (mut wire, opened) = Wire::open(stream, 3 << 16 | 9999, &[]).unwrap();
    assert_eq!(opened.negotiated, Some(PROTOCOL_3_2));
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);
    route.same_bytes().unwrap();
}

/// Without TLS on the server the ladder goes down to the clear: `N`, `N`, StartupMessage, all on one connection.
#[test]
fn without_tls_on_the_server() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    route.server.sql("ALTER SYSTEM SET ssl = off").unwrap();
    route.server.sql("SELECT pg_reload_conf()").unwrap();
    let started = Instant::now();
    let mut wire = loop {
        let mut wire = Wire { stream: connect(route.address()).unwrap() };
        wire.send(&packet(GSSENC_REQUEST, &[])).unwrap();
        assert_eq!(wire.read_byte().unwrap(), b'N');
        wire.send(&packet(SSL_REQUEST, &[])).unwrap();
        if wire.read_byte().unwrap() == b'N' {
            break wire;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "the server keeps offering TLS");
    };
    wire = Wire::open(wire.stream, PROTOCOL_3_0, &[]).unwrap().0;
    assert_eq!(wire.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["f"]);
    wire.send_message(b'X', &[]).unwrap();
    drop(wire);
    route.same_bytes().unwrap();
}

/// Openings that end soon or are only half right are the server's to judge: its answer comes back byte for byte.
#[test]
fn that_the_server_judges() {
    let route = Route::plain(Major::NEWEST).unwrap();
    let user = [("user", APP)];
    let openings = [
        ("nothing at all", vec![]),
        ("half a length", vec![0, 0]),
        ("half a start-up packet", startup(PROTOCOL_3_0, &user)[..12].to_vec()),
        ("no user", startup(PROTOCOL_3_0, &[("database", APP)])),
        ("SSLRequest and the end", packet(SSL_REQUEST, &[])),
        ("GSSENCRequest and the end", packet(GSSENC_REQUEST, &[])),
        ("GSSENCRequest twice", packet(GSSENC_REQUEST, &[]).repeat(2)),
        (
            "SSLRequest and clear text behind it",
            [packet(SSL_REQUEST, &[]), startup(PROTOCOL_3_0, &user)].concat(),
        ),
        ("CancelRequest for nobody", packet(CANCEL_REQUEST, &[0, 0, 0, 1, 0, 0, 0, 2])),
    ];
    for (name, opening) in openings {
        let direct = answer(route.server.loopback.server(), &opening);
        let proxied = answer(route.address(), &opening);
        assert_eq!(proxied.escape_ascii().to_string(), direct.escape_ascii().to_string(), "{name}");
    }
    still_serves(&route);
}

/// Openings that are no PostgreSQL end at the proxy, with the SQLSTATE that the server has for them. To some of them the
/// server itself only hangs up; the proxy says why before it does.
#[test]
fn that_the_proxy_refuses() {
    let route = Route::recorded(Major::NEWEST).unwrap();
    if route.proxy().is_none() {
        // In a control run there is nobody who refuses.
        return;
    }
    let user = [("user", APP)];
    let too_long = startup(PROTOCOL_3_0, &[("user", APP), ("options", &" ".repeat(10_000))]);
    let openings = [
        ("a length of seven", vec![0, 0, 0, 7, 0, 3, 0], "08P01"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(), "08P01"),
        ("a packet too long", too_long, "08P01"),
        ("protocol 2.0", startup(2 << 16, &user), "0A000"),
        ("protocol 4.0", startup(4 << 16, &user), "0A000"),
        ("an empty start-up packet", packet(PROTOCOL_3_0, &[]), "08P01"),
        ("no terminator", packet(PROTOCOL_3_0, b"user\0app\0database\0app"), "08P01"),
        ("CancelRequest without a secret", packet(CANCEL_REQUEST, &[0, 0, 0, 1]), "08P01"),
        ("CancelRequest with a secret too long", packet(CANCEL_REQUEST, &[1; 300]), "08P01"),
    ];
    for (name, opening, state) in openings {
        let told = answer(route.address(), &opening);
        let error = Wire { stream: std::io::Cursor::new(told) }.read().unwrap();
        let text = error_text(&error);
        assert!(error.tag == b'E' && text.starts_with(state), "{name}: {text}");
    }
    let served = route.arrivals().unwrap();
    assert_eq!(served, 0, "an opening that is no PostgreSQL reached the server");
    still_serves(&route);
}

fn still_serves(route: &Route) {
    let (mut wire, _) = Wire::open(connect(route.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(wire.query("SELECT 1").unwrap(), ["1"], "a good opening after the wrong ones");
    wire.send_message(b'X', &[]).unwrap();
}

/// Sends an opening, closes the write side, and gives what came back before the end.
fn answer(address: SocketAddr, opening: &[u8]) -> Vec<u8> {
    let stream = connect(address).unwrap();
    let mut wire = Wire { stream };
    wire.send(opening).unwrap();
    // A server that ended this connection already has nothing left to shut down.
    let _ = wire.stream.shutdown(Shutdown::Write);
    let started = Instant::now();
    wire.stream.set_read_timeout(Some(END)).unwrap();
    let answer = wire.read_to_end();
    assert!(started.elapsed() < END, "{address} keeps this connection open: {}", opening.escape_ascii());
    answer
}

/// Sends each byte in a segment of its own, and reads as usual.
#[derive(Debug)]
struct OneByteAtATime(TcpStream);

impl std::io::Read for OneByteAtATime {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for OneByteAtATime {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A wrong opening is answered at once, or not at all.
const END: Duration = Duration::from_secs(5);
