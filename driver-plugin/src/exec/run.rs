//! `ExecTask`: a command that runs to its end, for script checks and hooks.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::output::OutputReader;
use super::process::{RunningCommand, Streams};
use super::{ExecError, ExecSpec, Output};

/// How much of the end of the output is kept, as in Nomad's own drivers.
const OUTPUT_BYTES: usize = 4096;

/// Runs a command to its end and returns the last 4 KiB of its output. `program` is this executable, which is started
/// in the role `exec-shim`; in the plugin it is `/proc/self/exe`. Processes that the command leaves in the background
/// go on.
///
/// # Errors
/// When the command cannot be started, or does not exit within `limit`; then its session was killed. A program
/// that does not exist is no error: the status is 127. Dropping this future kills the command, too.
pub async fn run(program: &Path, spec: &ExecSpec, limit: Option<Duration>) -> Result<Output, ExecError> {
    let (source, streams) = streams().map_err(ExecError::NotStarted)?;
    let running = async {
        let mut command = RunningCommand::start(program, spec, streams).await?;
        let output = tail(command.output(source));
        let (status, bytes) = tokio::join!(command.wait(), output);
        Ok(Output { bytes, status: status? })
    };
    match limit {
        None => running.await,
        Some(limit) => timeout(limit, running).await.unwrap_or(Err(ExecError::TimedOut(limit))),
    }
}

/// One pipe for both outputs, so that their order is kept.
fn streams() -> io::Result<(pipe::Receiver, Streams)> {
    let (reader, writer) = io::pipe()?;
    let stderr = writer.try_clone()?.into();
    let streams =
        Streams { stdin: File::open("/dev/null")?.into(), stdout: writer.into(), stderr, terminal: false };
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, streams))
}

async fn tail(mut output: OutputReader) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some(chunk) = output.next().await {
        kept.extend_from_slice(&chunk);
        let surplus = kept.len().saturating_sub(OUTPUT_BYTES);
        kept.drain(..surplus);
    }
    kept
}
