//! Each client program through the proxy, on the newest server, with every byte compared on both sides of the proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what a client measured is part of the test's output")]

use clients::first_packet::{CANCEL_REQUEST, PROTOCOL_3_2};
use clients::{Client, Major, Route, program};

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

/// Runs one program on a route of its own and says that nothing changed on the way.
fn shows_everything(client: Client) {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let lines = program::run(client, &route, LARGE).unwrap();
    let connections = route.same_bytes().unwrap();
    if client.behaviours(Major::NEWEST).contains(&"protocol_3_2") {
        spoke_protocol_3_2(&route);
    }
    eprintln!("{client:?}\n{}\n{connections} connections, byte for byte", lines.join("\n"));
}

/// What the program says of its protocol is its own account; this is what it sent.
fn spoke_protocol_3_2(route: &Route) {
    let recordings = route.recordings().unwrap();
    let opened = |code: u32| {
        let code = code.to_be_bytes();
        recordings.iter().filter(move |recording| recording.from_client.get(4..8) == Some(&code))
    };
    assert!(opened(PROTOCOL_3_2).count() > 0, "no StartupMessage of protocol 3.2");
    // Length, code, process id, and the 4-byte secret of protocol 3.0 make 16.
    assert!(
        opened(CANCEL_REQUEST).any(|cancel| cancel.from_client.len() > 16),
        "no CancelRequest with a long secret"
    );
}

/// Every recorder keeps it, so it is no gigabyte.
const LARGE: u64 = 64 << 20;
