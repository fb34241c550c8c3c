//! `ExecTaskStreaming` without a terminal.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::exec::{self, ExecError};
use tokio::sync::mpsc;
use tonic::Status;

use crate::harness::{Client, PROGRAM, all_gone, closed, command, heartbeat, play, shell, typed, writable};

#[tokio::test]
async fn both_outputs_arrive_and_the_exit_code_comes_last() {
    let received = play(shell("echo hello stdout; echo hello stderr >&2; exit 43"), false, []).await;
    assert_eq!((received.stdout.as_str(), received.stderr.as_str()), ("hello stdout\n", "hello stderr\n"));
    assert_eq!(received.code(), 43);
    assert_eq!(received.end_messages, ["stdout closed", "stderr closed", "exited"]);
}

#[tokio::test]
async fn lines_arrive_when_they_are_written() {
    let mut client = Client::start(shell("for n in 1 2 3; do echo $n; sleep 0.3; done"), false);
    let start = Instant::now();
    let mut times = Vec::new();
    for line in ["1\n", "2\n", "3\n"] {
        client.read_until(line).await;
        times.push(start.elapsed());
    }
    assert!(times[2] - times[0] >= Duration::from_millis(500), "{times:?}");
    let received = client.finish().await;
    assert_eq!((received.stdout.as_str(), received.code()), ("", 0));
}

#[tokio::test]
async fn there_is_no_terminal_unless_one_is_requested() {
    let received = play(shell("stty size"), false, [closed()]).await;
    assert!(received.stderr.contains("Inappropriate ioctl for device"), "{received:?}");
    assert_eq!(received.code(), 1);
}

#[tokio::test]
async fn input_reaches_the_command_and_heartbeats_do_not() {
    let requests = [heartbeat(), typed("hello from stdin\n"), heartbeat(), closed(), heartbeat()];
    let received = play(shell("echo hello from command; head -n1; cat"), false, requests).await;
    assert_eq!(received.stdout, "hello from command\nhello from stdin\n");
    assert_eq!(received.code(), 0);
}

#[tokio::test]
async fn the_end_of_the_inbound_stream_ends_the_input() {
    let (outbound, mut responses) = mpsc::channel(16);
    let inbound = tokio_stream::iter([Ok(typed("all\n"))]);
    let spec = command(&["cat"]);
    exec::stream(PROGRAM.as_ref(), &spec, false, inbound, outbound).await.unwrap();
    assert_eq!(responses.recv().await.unwrap().unwrap().stdout.unwrap().data, b"all\n");
}

#[tokio::test]
async fn a_command_that_does_not_read_can_exit() {
    let much = "x".repeat(50_000);
    let requests = (0..20).map(|_| typed(&much));
    let received = play(shell("exec 0<&-; sleep 0.3; exit 5"), false, requests).await;
    assert_eq!(received.code(), 5);
}

#[tokio::test]
async fn a_background_process_does_not_delay_the_end() {
    let start = Instant::now();
    let received = play(shell("(sleep 10; echo late) & echo main"), false, []).await;
    assert_eq!((received.stdout.as_str(), received.code()), ("main\n", 0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_program_that_does_not_exist_exits_with_127_and_is_named() {
    for missing in ["/no/such/program", "no-such-program"] {
        let received = play(command(&[missing, "argument"]), false, []).await;
        assert_eq!(received.code(), 127, "{received:?}");
        assert!(received.stderr.contains(&format!("cannot run `{missing}`: No such file")), "{received:?}");
    }
    let received = play(command(&["/tmp"]), false, []).await;
    assert_eq!(received.code(), 126, "{received:?}");
    assert!(received.stderr.contains("cannot run `/tmp`: Permission denied"), "{received:?}");
}

#[tokio::test]
async fn an_empty_command_is_an_error() {
    let client = Client::start(command(&[]), false);
    assert!(matches!(client.served().await, Err(ExecError::Empty)));
}

#[tokio::test]
async fn an_environment_that_is_too_large_is_an_error() {
    let mut spec = shell("true");
    spec.environment.insert("LARGE".to_owned(), "x".repeat(2 << 20));
    let client = Client::start(spec, false);
    let error = client.served().await.unwrap_err();
    assert!(matches!(error, ExecError::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn death_by_a_signal_is_reported_as_in_a_shell() {
    let received = play(shell("kill -TERM $$"), false, []).await;
    assert_eq!(received.result.map(|result| (result.exit_code, result.signal)), Some((143, 15)));
}

const TREE: &str = "sleep 1000 & echo $!; sh -c 'sleep 1000' & echo $!; echo $$; echo ready; wait";

async fn tree(tty: bool) -> (Client, Vec<u32>) {
    let mut client = Client::start(shell(TREE), tty);
    let text = client.read_until("ready").await;
    let pids: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert_eq!(pids.len(), 3, "{text}");
    (client, pids)
}

#[tokio::test]
async fn the_session_is_killed_when_the_client_goes() {
    for tty in [false, true] {
        let (mut client, pids) = tree(tty).await;
        client.responses.close();
        client.served().await.unwrap();
        all_gone(&pids).await;

        let (mut client, pids) = tree(tty).await;
        client.requests.send(Err(Status::unknown("the connection broke"))).await.unwrap();
        while client.next().await.is_some() {}
        client.served().await.unwrap();
        all_gone(&pids).await;

        let (client, pids) = tree(tty).await;
        client.serving.abort();
        all_gone(&pids).await;
    }
}

#[tokio::test]
async fn a_command_waits_while_the_client_does_not_read() {
    const BYTES: usize = 4 << 20;
    let directory = writable();
    let done = directory.path().join("done");
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' x; touch {}", done.display());
    let client = Client::start(shell(&script), false);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!done.exists(), "the output was buffered without a bound");
    assert_eq!(client.finish().await.stdout.len(), BYTES);
    assert!(done.exists());
}
