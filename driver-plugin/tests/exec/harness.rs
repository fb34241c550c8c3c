//! A command and a client that talks to it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use nomad_driver_pg_leader_proxy::exec::{self, ExecError, ExecSpec, Response};
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::user::Account;
use nomad_plugin_proto::driver::exec_task_streaming_request::TerminalSize;
use nomad_plugin_proto::driver::{
    ExecTaskStreamingIoOperation, ExecTaskStreamingRequest, ExecTaskStreamingResponse, ExitResult,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy");

/// How long any of these commands may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many messages may wait in either direction.
const QUEUE: usize = 4;

pub(crate) fn shell(script: &str) -> ExecSpec {
    command(&["/bin/sh", "-c", script])
}

pub(crate) fn command(words: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words.iter().map(ToString::to_string).collect(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        directory: PathBuf::from("/tmp"),
        account: Some(Account::find("nobody").unwrap()),
        cgroups: Cgroups::default(),
    }
}

/// A directory in which the task's user can write.
pub(crate) fn writable() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

/// A program that runs a script and then becomes the built program, which inherits what the script has changed.
pub(crate) fn wrapper(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("wrapper");
    fs::write(&path, format!("#!/bin/sh\n{script}\nexec {PROGRAM} \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A client at a command's streams.
pub(crate) struct Client {
    pub(crate) requests: mpsc::Sender<Result<ExecTaskStreamingRequest, Status>>,
    pub(crate) responses: mpsc::Receiver<Response>,
    pub(crate) serving: JoinHandle<Result<(), ExecError>>,
}

/// Everything that a command has sent.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) result: Option<ExitResult>,
    /// What came last, in its order.
    pub(crate) end_messages: Vec<&'static str>,
}

impl Client {
    pub(crate) fn start(spec: ExecSpec, tty: bool) -> Self {
        Self::start_by(PathBuf::from(PROGRAM), spec, tty)
    }

    pub(crate) fn start_by(program: PathBuf, spec: ExecSpec, tty: bool) -> Self {
        let (requests, inbound) = mpsc::channel(QUEUE);
        let (outbound, responses) = mpsc::channel(QUEUE);
        // Nomad's client never closes its side.
        let inbound = ReceiverStream::new(inbound).chain(stream::pending());
        let serving =
            tokio::spawn(async move { exec::stream(&program, &spec, tty, inbound, outbound).await });
        Self { requests, responses, serving }
    }

    pub(crate) async fn send(&self, requests: impl IntoIterator<Item = ExecTaskStreamingRequest>) {
        for request in requests {
            // It fails when the command has ended.
            let _ =
                timeout(PATIENCE, self.requests.send(Ok(request))).await.expect("the command takes no input");
        }
    }

    /// Reads until `text` has come from the standard output.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let message = self.next().await.unwrap_or_else(|| panic!("`{text}` never came: {read}"));
            read += &String::from_utf8(message.stdout.map(|stdout| stdout.data).unwrap_or_default()).unwrap();
        }
        read
    }

    pub(crate) async fn next(&mut self) -> Option<ExecTaskStreamingResponse> {
        let next = timeout(PATIENCE, self.responses.recv()).await;
        next.expect("the command sends nothing").map(Result::unwrap)
    }

    /// Reads to the end.
    pub(crate) async fn finish(mut self) -> Received {
        let mut received = Received::default();
        while let Some(message) = self.next().await {
            received.add(message);
        }
        self.served().await.unwrap();
        received
    }

    /// How the serving ended.
    pub(crate) async fn served(self) -> Result<(), ExecError> {
        timeout(PATIENCE, self.serving).await.expect("the command is still served").unwrap()
    }
}

impl Received {
    fn add(&mut self, message: ExecTaskStreamingResponse) {
        let ExecTaskStreamingResponse { stdout, stderr, exited, result } = message;
        if let Some(stdout) = stdout {
            self.stdout += &String::from_utf8(stdout.data).unwrap();
            self.end_messages.extend(stdout.close.then_some("stdout closed"));
        }
        if let Some(stderr) = stderr {
            self.stderr += &String::from_utf8(stderr.data).unwrap();
            self.end_messages.extend(stderr.close.then_some("stderr closed"));
        }
        self.end_messages.extend(exited.then_some("exited"));
        self.result = self.result.or(result);
    }

    pub(crate) fn code(&self) -> i32 {
        self.result.unwrap().exit_code
    }
}

/// Runs a command with everything sent at once.
pub(crate) async fn play(
    spec: ExecSpec,
    tty: bool,
    requests: impl IntoIterator<Item = ExecTaskStreamingRequest>,
) -> Received {
    let client = Client::start(spec, tty);
    client.send(requests).await;
    client.finish().await
}

pub(crate) fn typed(text: &str) -> ExecTaskStreamingRequest {
    let stdin = ExecTaskStreamingIoOperation { data: text.into(), close: false };
    ExecTaskStreamingRequest { stdin: Some(stdin), ..ExecTaskStreamingRequest::default() }
}

pub(crate) fn closed() -> ExecTaskStreamingRequest {
    let stdin = ExecTaskStreamingIoOperation { data: Vec::new(), close: true };
    ExecTaskStreamingRequest { stdin: Some(stdin), ..ExecTaskStreamingRequest::default() }
}

pub(crate) fn sized(height: i32, width: i32) -> ExecTaskStreamingRequest {
    let tty_size = Some(TerminalSize { height, width });
    ExecTaskStreamingRequest { tty_size, ..ExecTaskStreamingRequest::default() }
}

pub(crate) fn heartbeat() -> ExecTaskStreamingRequest {
    ExecTaskStreamingRequest::default()
}

/// Waits until no process has any of these numbers.
pub(crate) async fn all_gone(pids: &[u32]) {
    let runs = |pid: &&u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let gone = async {
        while let Some(pid) = pids.iter().find(runs) {
            tracing::trace!(pid, "still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("they should have been killed");
}
