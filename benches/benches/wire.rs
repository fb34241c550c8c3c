//! What it costs to parse a client's first packet, and what a worker's relay costs compared with direct sockets.

#[path = "wire/fixture.rs"]
mod fixture;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pg_leader_proxy::wire::{FirstPacket, SqlState, fatal};

use self::fixture::{BULK, LOGIN, SMALL, STARTUP, Server, Worker};

/// Sizes of the messages in a large answer. The relay reads each header, so small messages show what that costs.
const MESSAGES: [usize; 3] = [16, 100, 8000];

/// Bytes per read of the client.
const SCRATCH: usize = 256 * 1024;

fn first_packet(c: &mut Criterion) {
    let parameters = "user\0app\0database\0shop\0application_name\0api\0client_encoding\0UTF8\0\
                      extra_float_digits\x002\0TimeZone\0Europe/Berlin\0\0";
    let whole = [
        &u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX).to_be_bytes(),
        &[0, 3, 0, 0],
        parameters.as_bytes(),
    ]
    .concat();
    let packets: [(&str, &[u8]); 4] = [
        ("start-up", &whole),
        ("half a start-up", &whole[..whole.len() / 2]),
        ("request for TLS", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("not PostgreSQL", b"GET / HTTP/1.1\r\n"),
    ];
    let mut group = c.benchmark_group("first packet");
    for (name, bytes) in packets {
        group.bench_function(name, |b| b.iter(|| FirstPacket::parse(black_box(bytes))));
    }
    group.bench_function("an error for the client", |b| {
        b.iter(|| {
            fatal(black_box(SqlState::CannotConnectNow), "no server takes this session", "the key is gone")
        });
    });
    group.finish();
}

fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay, round trip");
    let server = Server::start(MESSAGES[0]);
    let worker = Worker::start(server.address);
    for (name, address) in [("direct", server.address), ("through a worker", worker.address)] {
        let mut client = Client::open(address);
        group.bench_function(name, |b| b.iter(|| client.exchange(b"x", SMALL.len())));
    }
    group.finish();

    let mut group = c.benchmark_group("relay, a large answer in messages of");
    group.throughput(Throughput::Bytes(BULK as u64));
    for size in MESSAGES {
        let server = Server::start(size);
        let worker = Worker::start(server.address);
        for (name, address) in [("direct", server.address), ("through a worker", worker.address)] {
            let mut client = Client::open(address);
            group.bench_function(BenchmarkId::new(name, size), |b| b.iter(|| client.exchange(b"xx", BULK)));
        }
    }
    group.finish();
}

/// A client that has logged in.
struct Client {
    stream: TcpStream,
    scratch: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("a server of this bench listens");
        stream.set_nodelay(true).expect("the socket is open");
        stream.write_all(STARTUP).expect("the server reads");
        let mut answer = [0; LOGIN.len()];
        stream.read_exact(&mut answer).expect("the server answers");
        assert_eq!(answer, *LOGIN);
        Self { stream, scratch: vec![0; SCRATCH] }
    }

    /// Sends a request (one byte for a small answer, two for a large one) and reads the answer of this size.
    fn exchange(&mut self, request: &[u8], answer: usize) {
        self.stream.write_all(request).expect("the server reads");
        let mut missing = answer;
        while missing > 0 {
            let most = self.scratch.len().min(missing);
            let read = self.stream.read(&mut self.scratch[..most]).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            missing -= read;
        }
    }
}

criterion_group! {
    name = wire;
    config = Criterion::default().sample_size(30);
    targets = first_packet, relay
}
criterion_main!(wire);
