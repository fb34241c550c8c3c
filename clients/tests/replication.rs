//! Replication connections through the proxy: both sides stream at the same time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clients::server::{PASSWORD, REPLICATOR};
use clients::{Major, Testbed, program};
use tempfile::TempDir;

/// The version of Debian's tools. A base backup needs the same one.
const MAJOR: Major = Major(15);

#[test]
fn pg_basebackup() {
    let testbed = Testbed::recorded(MAJOR).unwrap();
    let directory = TempDir::with_prefix("pglp-backup-").unwrap();
    let backup = directory.path().join("backup");
    let mut command = tool("pg_basebackup", &testbed);
    // `stream` opens a second connection for the WAL while the first one sends the files.
    command.args(["--wal-method=stream", "--checkpoint=fast", "--pgdata"]).arg(&backup);
    program::succeed(command, BOUND).unwrap();
    let mut command = Command::new(debian("pg_verifybackup"));
    command.arg(&backup);
    let said = program::succeed(command, BOUND).unwrap();
    assert!(said.contains("backup successfully verified"), "{said}");
    assert!(testbed.same_bytes().unwrap() >= 2);
}

#[test]
fn pg_receivewal() {
    let testbed = Testbed::recorded(MAJOR).unwrap();
    let directory = TempDir::with_prefix("pglp-wal-").unwrap();
    let mut command = tool("pg_receivewal", &testbed);
    command.args(["--slot", "kept", "--create-slot"]);
    program::succeed(command, BOUND).unwrap();
    // The slot reserves WAL from its first use on, so use it before there is any.
    let now = testbed.server.sql("SELECT pg_current_wal_flush_lsn()").unwrap();
    receive(&testbed, directory.path(), &now);
    testbed
        .server
        .sql("CREATE TABLE filled AS SELECT repeat('x', 100) FROM generate_series(1, 300000)")
        .unwrap();
    let segment = testbed.server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
    let end = testbed.server.sql("SELECT pg_switch_wal()").unwrap();
    testbed.server.sql("CHECKPOINT").unwrap();
    receive(&testbed, directory.path(), &end);
    // Every complete segment must equal the server's own.
    let mut compared = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.ends_with(".partial") {
            let ours = std::fs::read(directory.path().join(&name)).unwrap();
            let theirs = std::fs::read(testbed.server.data().join("pg_wal").join(&name)).unwrap();
            assert!(ours == theirs, "{name} was changed");
            compared += 1;
        }
    }
    assert!(compared >= 2, "{compared} complete segments, the last one being {segment}");
    testbed.same_bytes().unwrap();
}

#[test]
fn pg_recvlogical() {
    let testbed = Testbed::recorded(MAJOR).unwrap();
    let directory = TempDir::with_prefix("pglp-logical-").unwrap();
    let slot = ["--slot", "changes", "--dbname", "app"];
    let mut command = tool("pg_recvlogical", &testbed);
    command.args(slot).args(["--create-slot", "--plugin", "pgoutput"]);
    program::succeed(command, BOUND).unwrap();
    testbed.server.sql("CREATE TABLE changed (words text)").unwrap();
    testbed.server.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES").unwrap();
    testbed.server.sql("INSERT INTO changed SELECT 'line ' || i FROM generate_series(1, 10000) i").unwrap();
    let end = testbed.server.sql("SELECT pg_current_wal_lsn()").unwrap();
    let file = directory.path().join("changes");
    let mut command = tool("pg_recvlogical", &testbed);
    command.args(slot).args(["--start", "--no-loop", "--option", "proto_version=1"]);
    command.args(["--option", "publication_names=all_of_it", "--endpos", &end, "--file"]).arg(&file);
    program::succeed(command, BOUND).unwrap();
    let changes = std::fs::read(&file).unwrap();
    let count = changes.windows(5).filter(|window| window == b"line ").count();
    assert_eq!(count, 10_000);
    testbed.same_bytes().unwrap();
}

fn receive(testbed: &Testbed, directory: &Path, end: &str) {
    let mut command = tool("pg_receivewal", testbed);
    command.args(["--slot", "kept", "--no-loop", "--endpos", end, "--directory"]).arg(directory);
    program::succeed(command, BOUND).unwrap();
}

fn tool(name: &str, testbed: &Testbed) -> Command {
    let mut command = Command::new(debian(name));
    command.args(["--username", REPLICATOR, "--no-password"]).stdin(Stdio::null());
    command.arg("--host").arg(testbed.address().ip().to_string());
    command.arg("--port").arg(testbed.address().port().to_string());
    command.env("PGPASSWORD", PASSWORD);
    command
}

fn debian(name: &str) -> PathBuf {
    let path = Path::new("/usr/lib/postgresql/15/bin").join(name);
    assert!(path.exists(), "{} is missing: install Debian's postgresql-15", path.display());
    path
}

const BOUND: Duration = Duration::from_secs(60);
