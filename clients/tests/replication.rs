//! Replication connections through the proxy: streams in both directions at once that nobody asks for message by message.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clients::server::{PASSWORD, REPLICATOR};
use clients::{Major, Route, Scratch, program};

/// Debian's tools are of this version, and a base backup wants the same one.
const MAJOR: Major = Major(15);

#[test]
fn pg_basebackup() {
    let route = Route::recorded(MAJOR).unwrap();
    let scratch = Scratch::new("backup").unwrap();
    let backup = scratch.join("backup");
    let mut command = tool("pg_basebackup", &route);
    // `stream` opens a second connection that follows the WAL while the first one sends the files.
    command.args(["--wal-method=stream", "--checkpoint=fast", "--pgdata"]).arg(&backup);
    program::succeed(command, BOUND).unwrap();
    let mut command = Command::new(debian("pg_verifybackup"));
    command.arg(&backup);
    let said = program::succeed(command, BOUND).unwrap();
    assert!(said.contains("backup successfully verified"), "{said}");
    assert!(route.same_bytes().unwrap() >= 2);
}

#[test]
fn pg_receivewal() {
    let route = Route::recorded(MAJOR).unwrap();
    let scratch = Scratch::new("wal").unwrap();
    let mut command = tool("pg_receivewal", &route);
    command.args(["--slot", "kept", "--create-slot"]);
    program::succeed(command, BOUND).unwrap();
    // The slot keeps WAL from its first use on, so use it before there is something to keep.
    let now = route.server.sql("SELECT pg_current_wal_flush_lsn()").unwrap();
    receive(&route, scratch.path(), &now);
    route
        .server
        .sql("CREATE TABLE filled AS SELECT repeat('x', 100) FROM generate_series(1, 300000)")
        .unwrap();
    let segment = route.server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
    let end = route.server.sql("SELECT pg_switch_wal()").unwrap();
    route.server.sql("CHECKPOINT").unwrap();
    receive(&route, scratch.path(), &end);
    // The segments that are whole are the server's own, byte for byte.
    let mut compared = 0;
    for entry in std::fs::read_dir(scratch.path()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.ends_with(".partial") {
            let ours = std::fs::read(scratch.join(&name)).unwrap();
            let theirs = std::fs::read(route.server.data().join("pg_wal").join(&name)).unwrap();
            assert!(ours == theirs, "{name} came changed");
            compared += 1;
        }
    }
    assert!(compared >= 2, "{compared} whole segments, the last one being {segment}");
    route.same_bytes().unwrap();
}

#[test]
fn pg_recvlogical() {
    let route = Route::recorded(MAJOR).unwrap();
    let scratch = Scratch::new("logical").unwrap();
    let slot = ["--slot", "changes", "--dbname", "app"];
    let mut command = tool("pg_recvlogical", &route);
    command.args(slot).args(["--create-slot", "--plugin", "pgoutput"]);
    program::succeed(command, BOUND).unwrap();
    route.server.sql("CREATE TABLE changed (words text)").unwrap();
    route.server.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES").unwrap();
    route.server.sql("INSERT INTO changed SELECT 'line ' || i FROM generate_series(1, 10000) i").unwrap();
    let end = route.server.sql("SELECT pg_current_wal_lsn()").unwrap();
    let file = scratch.join("changes");
    let mut command = tool("pg_recvlogical", &route);
    command.args(slot).args(["--start", "--no-loop", "--option", "proto_version=1"]);
    command.args(["--option", "publication_names=all_of_it", "--endpos", &end, "--file"]).arg(&file);
    program::succeed(command, BOUND).unwrap();
    let changes = std::fs::read(&file).unwrap();
    let count = changes.windows(5).filter(|window| window == b"line ").count();
    assert_eq!(count, 10_000);
    route.same_bytes().unwrap();
}

fn receive(route: &Route, directory: &Path, end: &str) {
    let mut command = tool("pg_receivewal", route);
    command.args(["--slot", "kept", "--no-loop", "--endpos", end, "--directory"]).arg(directory);
    program::succeed(command, BOUND).unwrap();
}

fn tool(name: &str, route: &Route) -> Command {
    let mut command = Command::new(debian(name));
    command.args(["--username", REPLICATOR, "--no-password"]).stdin(Stdio::null());
    command.arg("--host").arg(route.address().ip().to_string());
    command.arg("--port").arg(route.address().port().to_string());
    command.env("PGPASSWORD", PASSWORD);
    command
}

fn debian(name: &str) -> PathBuf {
    let path = Path::new("/usr/lib/postgresql/15/bin").join(name);
    assert!(path.exists(), "{} is missing: install Debian's postgresql-15", path.display());
    path
}

const BOUND: Duration = Duration::from_secs(60);
