//! First packets that ordinary clients do not send: in pieces, at the limits, and invalid ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clients::first_packet::{
    CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, connect, packet, startup,
};
use clients::raw_client::error_text;
use clients::server::APP;
use clients::{Major, RawClient, Testbed};

/// A start-up packet may arrive byte by byte: TCP has no packets.
#[test]
fn in_single_bytes() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let mut stream = connect(testbed.address()).unwrap();
    for byte in packet(SSL_REQUEST, &[]) {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = RawClient { stream };
    assert_eq!(client.read_byte().unwrap(), b'S');
    drop(client);

    let stream = OneByteAtATime(connect(testbed.address()).unwrap());
    let (mut client, _) = RawClient::open(stream, PROTOCOL_3_0, &[("application_name", "slow")]).unwrap();
    assert_eq!(client.query("SHOW application_name").unwrap(), ["slow"]);
    client.send_message(b'X', &[]).unwrap();
    drop(client);
    testbed.same_bytes().unwrap();
}

/// PostgreSQL accepts at most 10,000 bytes.
#[test]
fn of_the_longest_length() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let own = startup(PROTOCOL_3_0, &[("user", APP), ("database", APP), ("options", "")]).len();
    let blanks = " ".repeat(10_000 - own);
    let stream = connect(testbed.address()).unwrap();
    let (mut client, _) = RawClient::open(stream, PROTOCOL_3_0, &[("options", &blanks)]).unwrap();
    assert_eq!(client.query("SELECT 1").unwrap(), ["1"]);
    client.send_message(b'X', &[]).unwrap();
    drop(client);
    testbed.same_bytes().unwrap();
}

/// The server names options that it does not know in NegotiateProtocolVersion. The proxy must not answer in its place.
#[test]
fn with_unknown_protocol_options() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let stream = connect(testbed.address()).unwrap();
    let (mut client, reply) = RawClient::open(stream, PROTOCOL_3_2, &[("_pq_.unheard", "of")]).unwrap();
    assert_eq!(reply.negotiated, Some(PROTOCOL_3_2));
    assert_eq!(client.query("SELECT 1").unwrap(), ["1"]);
    client.send_message(b'X', &[]).unwrap();
    drop(client);

    // Clients use the reserved versions from 3.3 to 3.9999 to find out whether a server negotiates.
    let stream = connect(testbed.address()).unwrap();
    let (mut client, reply) = RawClient::open(stream, 3 << 16 | 9999, &[]).unwrap();
    assert_eq!(reply.negotiated, Some(PROTOCOL_3_2));
    client.send_message(b'X', &[]).unwrap();
    drop(client);
    testbed.same_bytes().unwrap();
}

/// Without TLS on the server a client falls back to clear text on the same connection: `N`, `N`, StartupMessage.
#[test]
fn without_tls_on_the_server() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    testbed.server.sql("ALTER SYSTEM SET ssl = off").unwrap();
    testbed.server.sql("SELECT pg_reload_conf()").unwrap();
    let started = Instant::now();
    let mut client = loop {
        let mut client = RawClient { stream: connect(testbed.address()).unwrap() };
        client.send(&packet(GSSENC_REQUEST, &[])).unwrap();
        assert_eq!(client.read_byte().unwrap(), b'N');
        client.send(&packet(SSL_REQUEST, &[])).unwrap();
        if client.read_byte().unwrap() == b'N' {
            break client;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "the server keeps offering TLS");
    };
    client = RawClient::open(client.stream, PROTOCOL_3_0, &[]).unwrap().0;
    assert_eq!(client.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").unwrap(), ["f"]);
    client.send_message(b'X', &[]).unwrap();
    drop(client);
    testbed.same_bytes().unwrap();
}

/// First packets that the proxy leaves to the server: its answer comes back byte for byte.
#[test]
fn that_the_server_answers() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    let user = [("user", APP)];
    let packets = [
        ("nothing at all", vec![]),
        ("half a length", vec![0, 0]),
        ("half a start-up packet", startup(PROTOCOL_3_0, &user)[..12].to_vec()),
        ("no user", startup(PROTOCOL_3_0, &[("database", APP)])),
        ("SSLRequest and the end", packet(SSL_REQUEST, &[])),
        ("GSSENCRequest and the end", packet(GSSENC_REQUEST, &[])),
        ("GSSENCRequest twice", packet(GSSENC_REQUEST, &[]).repeat(2)),
        (
            "SSLRequest followed by clear text",
            [packet(SSL_REQUEST, &[]), startup(PROTOCOL_3_0, &user)].concat(),
        ),
        ("CancelRequest for nobody", packet(CANCEL_REQUEST, &[0, 0, 0, 1, 0, 0, 0, 2])),
    ];
    for (name, packet) in packets {
        let direct = answer(testbed.server.address(), &packet);
        let proxied = answer(testbed.address(), &packet);
        assert_eq!(proxied.escape_ascii().to_string(), direct.escape_ascii().to_string(), "{name}");
    }
    still_serves(&testbed);
}

/// First packets that are not PostgreSQL's end at the proxy, with the SQLSTATE that the server would use. For some of them
/// the server itself only closes the connection; the proxy also sends an error.
#[test]
fn that_the_proxy_rejects() {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    if testbed.proxy().is_none() {
        // The control run has no proxy.
        return;
    }
    let user = [("user", APP)];
    let too_long = startup(PROTOCOL_3_0, &[("user", APP), ("options", &" ".repeat(10_000))]);
    let packets = [
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
    for (name, packet, state) in packets {
        let answer = answer(testbed.address(), &packet);
        let error = RawClient { stream: std::io::Cursor::new(answer) }.read().unwrap();
        let text = error_text(&error);
        assert!(error.tag == b'E' && text.starts_with(state), "{name}: {text}");
    }
    assert_eq!(testbed.connections_at_server().unwrap(), 0, "an invalid first packet reached the server");
    still_serves(&testbed);
}

fn still_serves(testbed: &Testbed) {
    let (mut client, _) = RawClient::open(connect(testbed.address()).unwrap(), PROTOCOL_3_0, &[]).unwrap();
    assert_eq!(client.query("SELECT 1").unwrap(), ["1"], "a valid first packet after the invalid ones");
    client.send_message(b'X', &[]).unwrap();
}

/// Sends a first packet, closes the write side, and returns everything that comes back.
fn answer(address: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let stream = connect(address).unwrap();
    let mut client = RawClient { stream };
    client.send(packet).unwrap();
    // Fails if the server has already reset the connection.
    let _ = client.stream.shutdown(Shutdown::Write);
    let started = Instant::now();
    client.stream.set_read_timeout(Some(END)).unwrap();
    let answer = client.read_to_end();
    assert!(started.elapsed() < END, "{address} keeps this connection open: {}", packet.escape_ascii());
    answer
}

/// Sends each byte in a segment of its own.
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

/// The answer to an invalid packet comes at once.
const END: Duration = Duration::from_secs(5);
