//! `ExecTaskStreaming`: a command with a client at its streams, for `nomad alloc exec`.

use std::future;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use nomad_plugin_proto::driver::{ExecTaskStreamingRequest, ExecTaskStreamingResponse};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

use super::output::OutputReader;
use super::process::{RunningCommand, Streams};
use super::stdin::Stdin;
use super::terminal::Terminal;
use super::{ExecError, ExecSpec, exit_result};

/// A message to the client, in the form that tonic streams.
pub type Response = Result<ExecTaskStreamingResponse, Status>;

/// How long a command at a terminal waits for the terminal's size, which Nomad's client sends right after the first
/// message.
const SIZE_TIME: Duration = Duration::from_millis(100);

/// Runs a command with input from `inbound`, the client's messages after the first, and output to `outbound`, as fast
/// as the client reads. The last message says how the command exited. A program that does not exist exits with 127,
/// with the reason on standard error.
///
/// The command's session is killed when the client goes: when `inbound` fails, `outbound` is closed, or this future is
/// dropped. When `inbound` only ends, the command's input ends. What a command leaves in the background when it exits
/// is killed with its terminal; without one it goes on, until the task ends.
///
/// # Errors
/// When the command cannot be started. Nothing has been sent then.
pub async fn stream<I>(
    program: &Path,
    spec: &ExecSpec,
    tty: bool,
    inbound: I,
    outbound: mpsc::Sender<Response>,
) -> Result<(), ExecError>
where
    I: Stream<Item = Result<ExecTaskStreamingRequest, Status>> + Unpin,
{
    let ends = if tty { Ends::terminal() } else { Ends::pipes() };
    let Ends { stdin, stdout, stderr, streams } = ends.map_err(ExecError::NotStarted)?;
    let (sized, mut has_size) = watch::channel(!tty);
    let running = async {
        // A client need not send a size.
        let _ = timeout(SIZE_TIME, has_size.wait_for(|sized| *sized)).await;
        let command = RunningCommand::start(program, spec, streams).await?;
        let status = send_output(command, stdout, stderr, &outbound).await?;
        for last in [
            ExecTaskStreamingResponse::stdout_closed(),
            ExecTaskStreamingResponse::stderr_closed(),
            ExecTaskStreamingResponse::exited(exit_result(status)),
        ] {
            // It fails when the client has gone. The command has exited, so nothing is left to do.
            let _ = outbound.send(Ok(last)).await;
        }
        Ok(())
    };
    tokio::select! {
        result = running => result,
        () = feed_input(inbound, stdin, sized) => Ok(()),
        () = outbound.closed() => Ok(()),
    }
}

/// The plugin's ends of the command's streams, and the command's ends. A terminal has one output.
struct Ends {
    stdin: Stdin,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
    streams: Streams,
}

impl Ends {
    fn pipes() -> io::Result<Self> {
        let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) =
            (io::pipe()?, io::pipe()?, io::pipe()?);
        let source = |reader: io::PipeReader| pipe::Receiver::from_owned_fd(reader.into());
        Ok(Self {
            stdin: Stdin::Pipe(Some(pipe::Sender::from_owned_fd(to_stdin.into())?)),
            stdout: source(from_stdout)?,
            stderr: Some(source(from_stderr)?),
            streams: Streams {
                stdin: stdin.into(),
                stdout: stdout.into(),
                stderr: stderr.into(),
                terminal: false,
            },
        })
    }

    fn terminal() -> io::Result<Self> {
        let Terminal { reader, writer, slave } = Terminal::open()?;
        let (stdout, stderr) = (slave.try_clone()?, slave.try_clone()?);
        Ok(Self {
            stdin: Stdin::terminal(writer),
            stdout: reader,
            stderr: None,
            streams: Streams { stdin: slave, stdout, stderr, terminal: true },
        })
    }
}

/// Passes the client's messages on. Returns only when the client has gone.
async fn feed_input<I>(mut inbound: I, mut stdin: Stdin, sized: watch::Sender<bool>)
where
    I: Stream<Item = Result<ExecTaskStreamingRequest, Status>> + Unpin,
{
    while let Some(message) = inbound.next().await {
        // A message without content is a heartbeat.
        let Ok(ExecTaskStreamingRequest { setup: _, tty_size, stdin: input }) = message else { return };
        if let Some(size) = tty_size {
            stdin.resize(size);
            sized.send_replace(true);
        }
        if let Some(input) = input {
            stdin.write(&input.data).await;
            if input.close {
                stdin.close().await;
            }
        }
    }
    stdin.close().await;
    future::pending().await
}

/// Passes the command's output on, until the command has exited and its outputs have ended.
async fn send_output(
    mut command: RunningCommand,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
    outbound: &mpsc::Sender<Response>,
) -> Result<ExitStatus, ExecError> {
    let stdout = send(command.output(stdout), ExecTaskStreamingResponse::stdout, outbound);
    let stderr = stderr.map(|stderr| command.output(stderr));
    let stderr = async {
        if let Some(stderr) = stderr {
            send(stderr, ExecTaskStreamingResponse::stderr, outbound).await;
        }
    };
    let (status, (), ()) = tokio::join!(command.wait(), stdout, stderr);
    status
}

async fn send(
    mut output: OutputReader,
    response: fn(Vec<u8>) -> ExecTaskStreamingResponse,
    outbound: &mpsc::Sender<Response>,
) {
    while let Some(bytes) = output.next().await {
        if outbound.send(Ok(response(bytes))).await.is_err() {
            return;
        }
    }
}
