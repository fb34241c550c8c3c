//! The example of the History API, before a real server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::insert;
use crate::server::Server;

const KEY: &str = "the-key";

struct Api {
    child: Child,
    port: u16,
}

impl Api {
    fn start(server: &Server) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_history-api-example"))
            .env("PORT", port.to_string())
            .env("API_KEY", KEY)
            .env("PG_URL", server.connection_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let api = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            sleep(Duration::from_millis(50));
        }
        api
    }

    fn get(&self, path: &str, key: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nX-API-Key: {key}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pages_are_newest_first_and_join() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    server.sql(&insert("BTC", 1200));
    let api = Api::start(&server);
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let (status, body) = api.get(&format!("/candles?ticker=BTC&tf=1h&limit=500{before}"), KEY);
        assert_eq!(status, 200, "{body}");
        let times: Vec<i64> =
            body["candles"].as_array().unwrap().iter().map(|candle| candle["ts"].as_i64().unwrap()).collect();
        let Some(last) = times.last() else { break };
        before = format!("&beforeTs={last}");
        seen.extend(times);
    }
    assert_eq!(seen.len(), 1200);
    assert!(seen.is_sorted_by(|newer, older| newer > older));
    let (_, body) = api.get("/candles?ticker=BTC&tf=1h&limit=1", KEY);
    assert_eq!(body["candles"][0]["c"], 1200.0, "{body}");
}

#[test]
fn what_is_wrong_is_told_and_nobody_gets_in_without_the_key() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    let api = Api::start(&server);
    for key in ["", "the-kex", "the-key-and-more"] {
        assert_eq!(api.get("/candles?ticker=BTC&tf=1h", key).0, 401);
    }
    for (query, words) in [
        ("", "ticker and tf"),
        ("ticker=BTC", "ticker and tf"),
        ("ticker=BTC&tf=", "ticker and tf"),
        ("ticker=BTC&tf=1h&limit=0", "limit"),
        ("ticker=BTC&tf=1h&limit=1001", "limit"),
        ("ticker=BTC&tf=1h&limit=many", "limit"),
        ("ticker=BTC&tf=1h&beforeTs=yesterday", "beforeTs"),
        ("ticker=BTC&tf=1h&beforeTs=0", "beforeTs"),
    ] {
        let (status, body) = api.get(&format!("/candles?{query}"), KEY);
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{query}: {body}");
    }
    let (status, body) = api.get("/candles?ticker=BTC%27--&tf=1h", KEY);
    assert_eq!((status, body["candles"].as_array().unwrap().len()), (200, 0));
}

#[test]
fn a_database_that_goes_is_told_and_taken_up_again() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    let api = Api::start(&server);
    assert_eq!(api.get("/health", "").0, 200);
    server.crash();
    let (status, body) = api.get("/health", "");
    assert_eq!((status, body["error"].as_str()), (503, Some("db_unreachable")));
    assert_eq!(api.get("/candles?ticker=BTC&tf=1h", KEY).0, 503);
    server.start();
    assert_eq!(api.get("/health", "").0, 200);
    assert_eq!(api.get("/candles?ticker=BTC&tf=1h", KEY).0, 200);
}
