//! Commands that are run to their end.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::exec::{self, Ending, Entry, ExecError, Output};
use nomad_plugin_proto::driver::ExecTaskResponse;

use crate::stage::{PROGRAM, all_gone, command, shell};

async fn run(entry: &Entry, limit: Option<Duration>) -> Result<Output, ExecError> {
    exec::run(PROGRAM.as_ref(), entry, limit).await
}

#[tokio::test]
async fn both_outputs_come_in_the_order_in_which_they_were_written() {
    let output = run(&shell("echo 1; echo 2 >&2; echo 3; exit 43"), None).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.ending), (b"1\n2\n3\n".as_slice(), Ending::Exited(43)));
    let response: ExecTaskResponse = output.into();
    assert_eq!(response.result.unwrap().exit_code, 43);
}

#[tokio::test]
async fn the_last_4_kib_are_kept() {
    let output = run(&shell("seq 100000; echo end"), None).await.unwrap();
    assert_eq!(output.bytes.len(), 4096);
    assert!(output.bytes.ends_with(b"99999\n100000\nend\n"));
}

#[tokio::test]
async fn there_is_nothing_to_read() {
    let output = run(&command(&["cat"]), Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.ending), ([].as_slice(), Ending::Exited(0)));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let mut entry = shell("sleep 1000 & echo $! > pids; echo $$ >> pids; wait");
    entry.directory = directory.path().to_owned();
    let start = Instant::now();
    let error = run(&entry, Some(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.to_string(), "the command did not end within 1s");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let pids = std::fs::read_to_string(directory.path().join("pids")).unwrap();
    let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_end_up() {
    let start = Instant::now();
    let output = run(&shell("sleep 10 & echo main"), None).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.ending), (b"main\n".as_slice(), Ending::Exited(0)));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_command_that_does_not_exist_ends_with_127() {
    let output = run(&command(&["no-such-program"]), None).await.unwrap();
    assert_eq!(output.ending, Ending::Exited(127));
    let text = String::from_utf8(output.bytes).unwrap();
    assert!(text.contains("cannot run `no-such-program`"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_not_there_as_trampoline_is_an_error() {
    let error = exec::run("/no/such/trampoline".as_ref(), &shell("true"), None).await.unwrap_err();
    assert!(matches!(error, ExecError::NotStarted(_)), "{error}");
}
