//! ExecTaskStreaming: a command at whose streams somebody sits, for `nomad alloc exec`.

use std::future;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use nomad_plugin_proto::driver::{ExecTaskStreamingRequest, ExecTaskStreamingResponse};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

use super::output::Outlet;
use super::process::{Running, Streams};
use super::stdin::Stdin;
use super::terminal::Terminal;
use super::{Ending, Entry, ExecError};

/// What goes to the client: the form in which a stream of the protocol takes it.
pub type Response = Result<ExecTaskStreamingResponse, Status>;

/// How long a command at a terminal waits for the terminal's size, which the client sends right after its first message.
const SIZE_TIME: Duration = Duration::from_millis(100);

/// Runs a command whose input comes from `inbound`, the messages after the first, and whose output goes to `outbound`, as
/// fast as the client takes it. At the end, once its outputs are over, comes how it ended. A command that does not
/// exist ends with 127, and its standard error says why.
///
/// The command is killed with its process group when the client goes: when `inbound` fails, nobody receives from
/// `outbound` any more, or this is dropped. When the client only ends its own side, the command's input ends.
///
/// # Errors
/// When the command cannot be started. Nothing has been sent then.
pub async fn stream<I>(
    program: &Path,
    entry: &Entry,
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
    let work = async {
        // One that never comes is no error: the terminal has a size all the same.
        let _ = timeout(SIZE_TIME, has_size.wait_for(|sized| *sized)).await;
        let running = Running::start(program, entry, streams).await?;
        let ending = pass_on(running, stdout, stderr, &outbound).await?;
        for last in [
            ExecTaskStreamingResponse::stdout_closed(),
            ExecTaskStreamingResponse::stderr_closed(),
            ExecTaskStreamingResponse::exited(ending.into()),
        ] {
            // It fails when the client has gone, and then nothing is left to be killed.
            let _ = outbound.send(Ok(last)).await;
        }
        Ok(())
    };
    tokio::select! {
        result = work => result,
        () = feed(inbound, stdin, sized) => Ok(()),
        () = outbound.closed() => Ok(()),
    }
}

/// Our ends of a command's streams, and its own. A terminal has one output.
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
        let Terminal { screen, keyboard, slave } = Terminal::open()?;
        let (stdout, stderr) = (slave.try_clone()?, slave.try_clone()?);
        Ok(Self {
            stdin: Stdin::terminal(keyboard),
            stdout: screen,
            stderr: None,
            streams: Streams { stdin: slave, stdout, stderr, terminal: true },
        })
    }
}

/// Passes on what the client sends. Returns only when the client has gone.
async fn feed<I>(mut inbound: I, mut stdin: Stdin, sized: watch::Sender<bool>)
where
    I: Stream<Item = Result<ExecTaskStreamingRequest, Status>> + Unpin,
{
    while let Some(message) = inbound.next().await {
        // A message with nothing in it is a heartbeat.
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

/// Passes on what the command writes, until it has ended and its outputs are over.
async fn pass_on(
    mut running: Running,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
    outbound: &mpsc::Sender<Response>,
) -> Result<Ending, ExecError> {
    let (over, ended) = watch::channel(false);
    let ending = async {
        let ending = running.ended().await;
        over.send_replace(true);
        ending
    };
    let errors = async {
        if let Some(stderr) = stderr {
            send(Outlet::new(stderr, ended.clone()), ExecTaskStreamingResponse::stderr, outbound).await;
        }
    };
    let stdout = Outlet::new(stdout, ended.clone());
    let (ending, (), ()) =
        tokio::join!(ending, send(stdout, ExecTaskStreamingResponse::stdout, outbound), errors);
    ending
}

async fn send(
    mut outlet: Outlet,
    response: fn(Vec<u8>) -> ExecTaskStreamingResponse,
    outbound: &mpsc::Sender<Response>,
) {
    while let Some(bytes) = outlet.next().await {
        if outbound.send(Ok(response(bytes))).await.is_err() {
            return;
        }
    }
}
