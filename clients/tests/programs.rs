//! Each client program through the proxy, with the newest server. Every byte is compared on both sides of the proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the test's output has the clients' figures")]

use clients::first_packet::{CANCEL_REQUEST, PROTOCOL_3_2};
use clients::{Client, Major, Testbed, program};

#[test]
fn psql() {
    shows_everything(Client::Psql);
}

#[test]
fn psql_on_libpq_18() {
    shows_everything(Client::PsqlOnLibpq18);
}

#[test]
fn psycopg() {
    shows_everything(Client::Psycopg);
}

#[test]
fn asyncpg() {
    shows_everything(Client::Asyncpg);
}

#[test]
fn pgx() {
    shows_everything(Client::Pgx);
}

#[test]
fn jdbc() {
    shows_everything(Client::Jdbc);
}

#[test]
fn node_postgres() {
    shows_everything(Client::NodePostgres);
}

#[test]
fn tokio_postgres() {
    shows_everything(Client::TokioPostgres);
}

/// Runs one program on a testbed of its own and checks that no byte was changed.
fn shows_everything(client: Client) {
    let testbed = Testbed::recorded(Major::NEWEST).unwrap();
    let lines = program::run(client, &testbed, LARGE).unwrap();
    let connections = testbed.same_bytes().unwrap();
    if client.behaviours(Major::NEWEST).contains(&"protocol_3_2") {
        spoke_protocol_3_2(&testbed);
    }
    eprintln!("{client:?}\n{}\n{connections} connections, byte for byte", lines.join("\n"));
}

/// Checks what the program has sent, not what it says of itself.
fn spoke_protocol_3_2(testbed: &Testbed) {
    let recordings = testbed.recordings().unwrap();
    let beginning_with = |code: u32| {
        let code = code.to_be_bytes();
        recordings.iter().filter(move |recording| recording.from_client.get(4..8) == Some(&code))
    };
    assert!(beginning_with(PROTOCOL_3_2).count() > 0, "no StartupMessage of protocol 3.2");
    // Length, code, process id, and the 4-byte secret of protocol 3.0 make 16.
    assert!(
        beginning_with(CANCEL_REQUEST).any(|cancel| cancel.from_client.len() > 16),
        "no CancelRequest with a long secret"
    );
}

/// Smaller than a gigabyte, because the recorders keep it in memory.
const LARGE: u64 = 64 << 20;
