//! Results of a gigabyte through the proxy, to clients that stream, with bounded memory in clients and proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the test's output has the clients' figures")]

use clients::{Client, Major, Testbed, program};

/// One client after the other, because their figures are printed.
#[test]
fn a_gigabyte_passes() {
    let testbed = Testbed::plain(Major::NEWEST).unwrap();
    for client in [Client::TokioPostgres, Client::Psql, Client::Psycopg] {
        let lines = program::run(client, &testbed, 1 << 30).unwrap();
        let line = lines.iter().find(|line| line.starts_with("ok large_result")).unwrap();
        eprintln!("{client:?}: {line}");
    }
    if let Some(proxy) = testbed.proxy() {
        let peak = proxy.peak_memory_kib().unwrap();
        eprintln!("peak memory of the proxy: {peak} KiB");
        assert!(peak < PROXY_PEAK_KIB, "the proxy needed {peak} KiB");
    }
}

/// The proxy keeps only what one socket has not taken, not the whole result.
const PROXY_PEAK_KIB: u64 = 64 << 10;
