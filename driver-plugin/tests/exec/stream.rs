//! Commands at whose pipes somebody sits.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::exec::{self, ExecError};
use tokio::sync::mpsc;
use tonic::Status;

use crate::stage::{Client, PROGRAM, all_gone, closed, command, heartbeat, play, shell, typed};

#[tokio::test]
async fn both_outputs_and_the_exit_code_arrive_and_the_code_comes_last() {
    let said = play(shell("echo hello stdout; echo hello stderr >&2; exit 43"), false, []).await;
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello stdout\n", "hello stderr\n"));
    assert_eq!(said.code(), 43);
    assert_eq!(said.last_words, ["stdout closed", "stderr closed", "exited"]);
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
    let said = client.finish().await;
    assert_eq!((said.stdout.as_str(), said.code()), ("", 0));
}

#[tokio::test]
async fn without_a_terminal_there_is_none() {
    let said = play(shell("stty size"), false, [closed()]).await;
    assert!(said.stderr.contains("Inappropriate ioctl for device"), "{said:?}");
    assert_eq!(said.code(), 1);
}

#[tokio::test]
async fn what_is_typed_reaches_the_command_and_heartbeats_do_not() {
    let requests = [heartbeat(), typed("hello from stdin\n"), heartbeat(), closed(), heartbeat()];
    let said = play(shell("echo hello from command; head -n1; cat"), false, requests).await;
    assert_eq!(said.stdout, "hello from command\nhello from stdin\n");
    assert_eq!(said.code(), 0);
}

#[tokio::test]
async fn the_end_of_the_clients_side_is_the_end_of_the_input() {
    let (outbound, mut responses) = mpsc::channel(16);
    let inbound = tokio_stream::iter([Ok(typed("all\n"))]);
    let entry = command(&["cat"]);
    exec::stream(PROGRAM.as_ref(), &entry, false, inbound, outbound).await.unwrap();
    assert_eq!(responses.recv().await.unwrap().unwrap().stdout.unwrap().data, b"all\n");
}

#[tokio::test]
async fn a_command_that_does_not_read_is_no_obstacle() {
    let much = "x".repeat(50_000);
    let requests = (0..20).map(|_| typed(&much));
    let said = play(shell("exec 0<&-; sleep 0.3; exit 5"), false, requests).await;
    assert_eq!(said.code(), 5);
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_end_up() {
    let start = Instant::now();
    let said = play(shell("(sleep 10; echo late) & echo main"), false, []).await;
    assert_eq!((said.stdout.as_str(), said.code()), ("main\n", 0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_command_that_does_not_exist_ends_with_127_and_says_which() {
    for missing in ["/no/such/program", "no-such-program"] {
        let said = play(command(&[missing, "argument"]), false, []).await;
        assert_eq!(said.code(), 127, "{said:?}");
        assert!(said.stderr.contains(&format!("cannot run `{missing}`: No such file")), "{said:?}");
    }
    let said = play(command(&["/tmp"]), false, []).await;
    assert_eq!(said.code(), 126, "{said:?}");
    assert!(said.stderr.contains("cannot run `/tmp`: Permission denied"), "{said:?}");
}

#[tokio::test]
async fn no_command_at_all_is_an_error() {
    let client = Client::start(command(&[]), false);
    assert!(matches!(client.served().await, Err(ExecError::Empty)));
}

#[tokio::test]
async fn an_environment_that_is_too_large_is_an_error_that_says_so() {
    let mut entry = shell("true");
    entry.environment.insert("LARGE".to_owned(), "x".repeat(2 << 20));
    let client = Client::start(entry, false);
    let error = client.served().await.unwrap_err();
    assert!(matches!(error, ExecError::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn death_by_a_signal_is_told_as_a_shell_tells_it() {
    let said = play(shell("kill -TERM $$"), false, []).await;
    assert_eq!(said.result.map(|result| (result.exit_code, result.signal)), Some((143, 15)));
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
async fn a_client_that_goes_takes_the_whole_group_with_it() {
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
async fn a_command_waits_for_a_client_that_does_not_read() {
    const BYTES: usize = 4 << 20;
    let directory = tempfile::tempdir().unwrap();
    let done = directory.path().join("done");
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' x; touch {}", done.display());
    let client = Client::start(shell(&script), false);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!done.exists(), "all of it went somewhere");
    assert_eq!(client.finish().await.stdout.len(), BYTES);
    assert!(done.exists());
}
