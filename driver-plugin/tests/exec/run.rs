//! `ExecTask`: commands that run to their end.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::exec::{self, ExecError, ExecSpec, Output};
use nomad_plugin_proto::driver::ExecTaskResponse;

use crate::harness::{PROGRAM, all_gone, command, shell, writable};

async fn run(spec: &ExecSpec, limit: Option<Duration>) -> Result<Output, ExecError> {
    exec::run(PROGRAM.as_ref(), spec, limit).await
}

#[tokio::test]
async fn both_outputs_arrive_in_the_order_in_which_they_were_written() {
    let output = run(&shell("echo 1; echo 2 >&2; echo 3; exit 43"), None).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.status.code()), (b"1\n2\n3\n".as_slice(), Some(43)));
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
async fn standard_input_is_empty() {
    let output = run(&command(&["cat"]), Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.status.code()), ([].as_slice(), Some(0)));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let directory = writable();
    let mut spec = shell("sleep 1000 & echo $! > pids; echo $$ >> pids; wait");
    spec.directory = directory.path().to_owned();
    let start = Instant::now();
    let error = run(&spec, Some(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.to_string(), "the command did not exit within 1s");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let pids = std::fs::read_to_string(directory.path().join("pids")).unwrap();
    let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_background_process_does_not_delay_the_end() {
    let start = Instant::now();
    let output = run(&shell("sleep 10 & echo main"), None).await.unwrap();
    assert_eq!((output.bytes.as_slice(), output.status.code()), (b"main\n".as_slice(), Some(0)));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_program_that_does_not_exist_exits_with_127() {
    let output = run(&command(&["no-such-program"]), None).await.unwrap();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8(output.bytes).unwrap();
    assert!(text.contains("cannot run `no-such-program`"), "{text}");
}

#[tokio::test]
async fn a_missing_shim_is_an_error() {
    let error = exec::run("/no/such/shim".as_ref(), &shell("true"), None).await.unwrap_err();
    assert!(matches!(error, ExecError::NotStarted(_)), "{error}");
}
