//! Results of a gigabyte through the proxy, to clients that keep little of it, by a proxy that keeps none of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what a client measured is part of the test's output")]

use clients::{Client, Major, Route, program};

/// One after the other on one route: two at once would measure the machine.
#[test]
fn a_gigabyte_passes() {
    let route = Route::plain(Major::NEWEST).unwrap();
    for client in [Client::TokioPostgres, Client::Psql, Client::Psycopg] {
        let lines = program::run(client, &route, 1 << 30).unwrap();
        let line = lines.iter().find(|line| line.starts_with("ok large_result")).unwrap();
        eprintln!("{client:?}: {line}");
    }
    if let Some(proxy) = route.proxy() {
        let peak = proxy.peak_memory_kib().unwrap();
        eprintln!("peak memory of the proxy: {peak} KiB");
        assert!(peak < PROXY_PEAK_KIB, "the proxy needed {peak} KiB");
    }
}

/// The proxy keeps what one socket did not take, not the result.
const PROXY_PEAK_KIB: u64 = 64 << 10;
