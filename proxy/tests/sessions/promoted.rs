//! Readers of a replica that was promoted: each ends as soon as it is idle, and is told why.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg_leader_proxy::admission::Grant;
use pg_leader_proxy::counters::TerminationKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy_core::SessionEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake::{AUTH_OK, FakeServer, Rig, SSL_REQUEST, STARTUP, bounded, error, expect, rest};

const QUERY: &[u8] = b"Q\0\0\0\x0bSELECT\0";
/// ReadyForQuery outside of a transaction, in one, and in one that has failed.
const IDLE: &[u8] = b"Z\0\0\0\x05I";
const OPEN: &[u8] = b"Z\0\0\0\x05T";
const FAILED: &[u8] = b"Z\0\0\0\x05E";
/// For so long an encrypted session must be silent to count as idle.
const QUIET: Duration = Duration::from_secs(1);
/// Several times as long as the proxy takes to notice that a session is idle.
const A_WHILE: Duration = Duration::from_secs(1);

/// A session of the read route, and the grant of its server.
struct Reader {
    rig: Rig,
    grant: Arc<Grant>,
    client: TcpStream,
    served: TcpStream,
}

impl Reader {
    /// A session whose client has sent `first`, and whose server has answered that.
    async fn began_with(first: &[u8], answer: &[u8]) -> Self {
        let server = FakeServer::start().await;
        let mut rig = Rig::with_defaults().await;
        let grant = rig.serve_reads(&[&server]).remove(0);
        let mut client = bounded(TcpStream::connect(rig.read_addr)).await.unwrap();
        client.write_all(first).await.unwrap();
        let mut served = server.accept().await;
        expect(&mut served, first).await;
        let mut reader = Self { rig, grant, client, served };
        reader.answer(answer).await;
        reader
    }

    /// A session without encryption, whose client has logged in.
    async fn logged_in() -> Self {
        let mut reader = Self::began_with(STARTUP, AUTH_OK).await;
        reader.answer(IDLE).await;
        reader
    }

    async fn query(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
        expect(&mut self.served, bytes).await;
    }

    async fn answer(&mut self, bytes: &[u8]) {
        self.served.write_all(bytes).await.unwrap();
        expect(&mut self.client, bytes).await;
    }

    /// The session is not ended for a while.
    async fn goes_on(&mut self, span: Duration) {
        let ended = tokio::time::timeout(span, self.client.read_u8()).await;
        assert!(ended.is_err(), "{ended:?}");
        assert_eq!(self.ended(), 0);
    }

    /// The session is ended, and its client hears one error that says why.
    async fn ends_with_the_reason(&mut self) {
        let (last, ended) = rest(&mut self.client).await;
        let (state, text) = error(&last);
        assert_eq!((state.as_str(), ended), ("57P01", Ok(())));
        assert!(text.starts_with("terminating connection: the server is a primary now"), "{text}");
        let length = u32::from_be_bytes(last[1..5].try_into().unwrap()) as usize + 1;
        assert_eq!(last.len(), length, "more than one message: {:?}", String::from_utf8_lossy(&last));
        assert_eq!(rest(&mut self.served).await, (Vec::new(), Err(ErrorKind::ConnectionReset)));
        assert_eq!(self.ended(), 1);
    }

    /// How many sessions ended because their server was promoted.
    fn ended(&self) -> u64 {
        let promoted = TerminationKind::Server(SessionEnd::Promoted);
        self.rig.counters.route(RouteKind::Read).terminations(promoted).value()
    }
}

#[tokio::test]
async fn an_idle_reader_is_ended_at_once() {
    let mut reader = Reader::logged_in().await;
    reader.goes_on(A_WHILE).await;
    reader.grant.set_ends_when_idle(true);
    reader.ends_with_the_reason().await;
}

#[tokio::test]
async fn a_reader_gets_the_whole_answer_to_its_query_first() {
    let mut reader = Reader::logged_in().await;
    reader.query(QUERY).await;
    reader.grant.set_ends_when_idle(true);
    reader.goes_on(A_WHILE).await;
    reader.answer(b"D\0\0\0\x0ehalf").await;
    reader.goes_on(A_WHILE).await;
    reader.answer(&[b" a row", IDLE].concat()).await;
    reader.ends_with_the_reason().await;
}

#[tokio::test]
async fn a_reader_in_a_transaction_is_ended_after_it() {
    for status in [OPEN, FAILED] {
        let mut reader = Reader::logged_in().await;
        reader.query(QUERY).await;
        reader.answer(status).await;
        reader.grant.set_ends_when_idle(true);
        reader.goes_on(A_WHILE).await;
        reader.query(QUERY).await;
        reader.answer(status).await;
        reader.goes_on(A_WHILE).await;
        reader.query(QUERY).await;
        reader.answer(IDLE).await;
        reader.ends_with_the_reason().await;
    }
}

#[tokio::test]
async fn an_encrypted_reader_is_ended_once_it_is_silent_after_an_answer() {
    let mut reader = Reader::began_with(SSL_REQUEST, b"S").await;
    reader.query(b"\x17 a query").await;
    reader.grant.set_ends_when_idle(true);
    // However silent its server is.
    reader.goes_on(QUIET + A_WHILE).await;
    let answered = Instant::now();
    reader.answer(b"\x17 an answer").await;
    let end = rest(&mut reader.client).await;
    assert_eq!(end, (Vec::new(), Err(ErrorKind::ConnectionReset)), "an error would have to be encrypted");
    assert!(
        answered.elapsed() >= QUIET,
        "ended {:?} after an answer, which may be unfinished",
        answered.elapsed()
    );
    assert_eq!(reader.ended(), 1);
}

#[tokio::test]
async fn a_reader_stays_if_its_server_turns_out_to_be_a_replica() {
    let mut reader = Reader::logged_in().await;
    reader.query(QUERY).await;
    reader.grant.set_ends_when_idle(true);
    reader.goes_on(A_WHILE).await;
    reader.grant.set_ends_when_idle(false);
    reader.answer(IDLE).await;
    reader.goes_on(A_WHILE).await;
    reader.query(QUERY).await;
    reader.answer(IDLE).await;
}
