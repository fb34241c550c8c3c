//! Commands in a task: script checks and `nomad alloc exec`.

use std::time::{Duration, Instant};

use nomad_plugin_proto::driver::exec_task_streaming_request::{Setup, TerminalSize};
use nomad_plugin_proto::driver::{
    ExecTaskRequest, ExecTaskStreamingIoOperation, ExecTaskStreamingRequest, ExecTaskStreamingResponse,
    ExitResult,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::harness::{Job, Plugin, lives, recover, until};

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

async fn exec(
    plugin: &Plugin,
    job: &Job,
    script: &str,
    timeout: Option<Duration>,
) -> Result<(String, i32), Status> {
    let timeout = timeout.map(|timeout| prost_types::Duration::try_from(timeout).unwrap());
    let request = ExecTaskRequest { task_id: job.id(), command: sh(script), timeout };
    let answer = plugin.driver().exec_task(request).await?.into_inner();
    let result = answer.result.expect("without it the agent would panic");
    Ok((String::from_utf8(answer.stdout).unwrap(), result.exit_code))
}

/// A client of a command. It never closes its side, like Nomad's client.
struct Session {
    requests: mpsc::Sender<ExecTaskStreamingRequest>,
    responses: Streaming<ExecTaskStreamingResponse>,
}

impl Session {
    async fn open(plugin: &Plugin, job: &Job, script: &str, tty: bool) -> Self {
        let (requests, inbound) = mpsc::channel(16);
        let setup = Setup { task_id: job.id(), command: sh(script), tty };
        let first = ExecTaskStreamingRequest { setup: Some(setup), ..ExecTaskStreamingRequest::default() };
        requests.send(first).await.unwrap();
        let responses =
            plugin.driver().exec_task_streaming(ReceiverStream::new(inbound)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, message: ExecTaskStreamingRequest) {
        self.requests.send(message).await.unwrap();
    }

    async fn type_in(&self, text: &str) {
        let stdin = Some(ExecTaskStreamingIoOperation { data: text.as_bytes().to_vec(), close: false });
        self.send(ExecTaskStreamingRequest { stdin, ..ExecTaskStreamingRequest::default() }).await;
    }

    /// Both outputs and the exit, in the order of the protocol.
    async fn rest(mut self) -> (String, String, ExitResult) {
        let (mut stdout, mut stderr, mut closed, mut result) = (Vec::new(), Vec::new(), Vec::new(), None);
        while let Some(message) = next(&mut self.responses).await {
            assert!(result.is_none(), "nothing follows the exit");
            for (name, operation, output) in
                [("stdout", message.stdout, &mut stdout), ("stderr", message.stderr, &mut stderr)]
            {
                let Some(operation) = operation else { continue };
                output.extend(operation.data);
                if operation.close {
                    closed.push(name);
                }
            }
            if message.exited {
                result = Some(message.result.expect("without it the agent would panic"));
            }
        }
        assert_eq!(closed, ["stdout", "stderr"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(stdout), text(stderr), result.unwrap())
    }
}

async fn next(responses: &mut Streaming<ExecTaskStreamingResponse>) -> Option<ExecTaskStreamingResponse> {
    tokio::time::timeout(Duration::from_secs(10), responses.message())
        .await
        .expect("the stream ends")
        .unwrap()
}

#[tokio::test]
async fn a_check_runs_in_the_environment_of_the_task() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let directory = job.alloc_dir().join("proxy").display().to_string();
    let script = "pwd; echo $NOMAD_TASK_NAME; echo problem >&2; exit 43";
    let (output, code) = exec(&plugin, &job, script, None).await.unwrap();
    assert_eq!((output, code), (format!("{directory}\nproxy\nproblem\n"), 43));
    let slow = exec(&plugin, &job, "sleep 30", Some(Duration::from_millis(200))).await.unwrap_err();
    assert!(slow.message().contains("200ms"), "{slow}");
    let (_, code) = exec(&plugin, &job, "no-such-command", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(code, 127);
}

#[tokio::test]
async fn a_session_streams_both_ways_and_ends_with_the_command() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let session =
        Session::open(&plugin, &job, "read word; echo got $word; echo problem >&2; exit 7", false).await;
    session.send(ExecTaskStreamingRequest::default()).await; // a heartbeat
    session.type_in("hello\n").await;
    let (stdout, stderr, result) = session.rest().await;
    assert_eq!((stdout.as_str(), stderr.as_str(), result.exit_code), ("got hello\n", "problem\n", 7));
}

#[tokio::test]
async fn a_terminal_has_the_last_size_that_was_sent() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let session =
        Session::open(&plugin, &job, "read go; stty size; tty >/dev/null && echo terminal", true).await;
    for (height, width) in [(24, 80), (100, 101)] {
        let tty_size = Some(TerminalSize { height, width });
        session.send(ExecTaskStreamingRequest { tty_size, ..ExecTaskStreamingRequest::default() }).await;
    }
    session.type_in("go\n").await;
    let (stdout, stderr, result) = session.rest().await;
    assert!(stdout.contains("100 101") && stdout.contains("terminal"), "{stdout:?}");
    assert_eq!((stderr.as_str(), result.exit_code), ("", 0));
}

#[tokio::test]
async fn a_background_process_does_not_delay_the_end() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    for tty in [false, true] {
        let opened = Instant::now();
        let session = Session::open(&plugin, &job, "sleep 20 & echo started", tty).await;
        let (stdout, _, _) = session.rest().await;
        assert!(
            stdout.contains("started") && opened.elapsed() < Duration::from_secs(5),
            "{:?}",
            opened.elapsed()
        );
    }
}

#[tokio::test]
async fn the_command_is_killed_when_the_client_goes() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let mut session = Session::open(&plugin, &job, "echo $$; sleep 30", false).await;
    let first = next(&mut session.responses).await.unwrap().stdout.unwrap().data;
    let pid: u32 = String::from_utf8(first).unwrap().trim().parse().unwrap();
    assert!(lives(pid));
    drop(session);
    until("the command ends", || !lives(pid)).await;
}

#[tokio::test]
async fn the_first_message_must_say_what_to_run() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let heartbeat = tokio_stream::once(ExecTaskStreamingRequest::default());
    let error = plugin.driver().exec_task_streaming(heartbeat).await.unwrap_err();
    assert!(error.message().contains("what to run"), "{error}");
}

#[tokio::test]
async fn commands_work_after_a_recovery() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    recover(&plugin, handle).await;
    assert_eq!(exec(&plugin, &job, "echo $SECRET", None).await.unwrap(), ("hunter2\n".to_owned(), 0));
}

#[tokio::test]
async fn a_command_runs_as_the_user_of_the_task_who_is_not_root() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    assert_eq!(exec(&plugin, &job, "id -un", None).await.unwrap(), ("nobody\n".to_owned(), 0));
}
