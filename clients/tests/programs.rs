//! Each client program through the proxy, on the newest server, with every byte compared on both sides of the proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what a client measured is part of the test's output")]

use std::process::Command;
use std::time::Duration;

use clients::first_packet::{CANCEL_REQUEST, PROTOCOL_3_2};
use clients::{Major, Route, places, program};

#[test]
fn tokio_postgres() {
    run(&mut || Command::new(env!("CARGO_BIN_EXE_tokio-postgres-client")), TOKIO_POSTGRES);
}

#[test]
fn psql() {
    run(&mut || Command::new(places::source("psql/psql_client")), PSQL);
}

/// The same psql on libpq 18, which Debian 12 does not carry: the server's package brings it.
#[test]
fn psql_on_libpq_18() {
    let program = &mut || {
        let mut command = Command::new(places::source("psql/psql_client"));
        command.env("PSQL_LIBPQ", places::postgres(Major::NEWEST).unwrap().join("lib"));
        command
    };
    run(program, &[PSQL, &["direct_tls", "protocol_3_2"]].concat());
}

#[test]
fn psycopg() {
    run(&mut || python("psycopg_client.py"), PSYCOPG);
}

#[test]
fn asyncpg() {
    run(&mut || python("asyncpg_client.py"), ASYNCPG);
}

#[test]
fn pgx() {
    run(&mut || Command::new(places::client("pgx-client").unwrap()), PGX);
}

#[test]
fn node_postgres() {
    let program = &mut || {
        let mut command = Command::new("node");
        command.arg(places::source("node/client.js"));
        // The libraries are outside the repository, so node must be told where.
        command.env("NODE_PATH", places::client("node/node_modules").unwrap());
        command
    };
    run(program, NODE_POSTGRES);
}

#[test]
fn jdbc() {
    let program = &mut || {
        let classes = places::client("java").unwrap();
        let path = [classes.join("postgresql.jar"), classes]
            .map(|part| part.to_string_lossy().into_owned())
            .join(":");
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-cp", &path, "JdbcClient"]);
        command
    };
    run(program, JDBC);
}

fn python(program: &str) -> Command {
    let mut command = Command::new(places::client("venv/bin/python").unwrap());
    // The repository stays clean: no compiled files beside the sources.
    command.arg("-B").arg(places::source("python").join(program));
    command
}

/// Runs one program on a route of its own and says that nothing changed on the way.
fn run(command: &mut dyn FnMut() -> Command, expected: &[&str]) {
    let route = Route::recorded(Major::NEWEST).unwrap();
    let mut command = command();
    program::add_arguments(&mut command, route.address(), &route.server, program::LARGE);
    let lines = program::run(command, expected, BOUND).unwrap();
    let connections = route.same_bytes().unwrap();
    if expected.contains(&"protocol_3_2") {
        spoke_protocol_3_2(&route);
    }
    eprintln!("{}\n{connections} connections, byte for byte", lines.join("\n"));
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

const TOKIO_POSTGRES: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "channel_binding",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "cancel",
    "cancel_tls",
    "pipeline",
    "large_result",
    "error_keeps_session",
    "clean_close",
];

const PSQL: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "channel_binding",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "ctrl_c",
    "ctrl_c_tls",
    "large_result",
    "fetch_count",
    "error_keeps_session",
    "clean_close",
];

const PSYCOPG: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "channel_binding",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "copy_in_binary",
    "listen_notify",
    "cancel",
    "cancel_tls",
    "pipeline",
    "large_result",
    "error_keeps_session",
    "clean_close",
    "server_ends_session",
    "direct_tls",
    "protocol_3_2",
];

const ASYNCPG: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "direct_tls",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "cancel",
    "cancel_tls",
    "large_result",
    "error_keeps_session",
    "clean_close",
];

const PGX: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "channel_binding",
    "direct_tls",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "cancel",
    "cancel_tls",
    "pipeline",
    "large_result",
    "error_keeps_session",
    "clean_close",
    "protocol_3_2",
];

const NODE_POSTGRES: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "channel_binding",
    "direct_tls",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "cancel",
    "pipeline",
    "large_result",
    "error_keeps_session",
    "clean_close",
];

const JDBC: &[&str] = PGX;

/// For a whole program; each behaviour has a bound of its own.
const BOUND: Duration = Duration::from_secs(240);
