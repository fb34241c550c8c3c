//! ExecTask: a command that is run to its end, for script checks and hooks.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

use super::output::Outlet;
use super::process::{Running, Streams};
use super::{Entry, ExecError, Output};

/// How much of the output is kept: the last of it, as Nomad's own drivers do for checks.
const OUTPUT_BYTES: usize = 4096;

/// Runs a command to its end and gives the last 4 KiB of what it wrote. `program` is this program, as it is to be started in
/// the role `enter`: `/proc/self/exe` in the plugin. What the command leaves in the background goes on.
///
/// # Errors
/// When it cannot be started, or does not end in time; then it has been killed with its process group. A command that
/// does not exist is none: it ends with 127. When this is dropped half way, the command is killed too.
pub async fn run(program: &Path, entry: &Entry, limit: Option<Duration>) -> Result<Output, ExecError> {
    let (source, streams) = streams().map_err(ExecError::NotStarted)?;
    let work = async {
        let mut running = Running::start(program, entry, streams).await?;
        let (over, ended) = watch::channel(false);
        let mut outlet = Outlet::new(source, ended);
        let ending = async {
            let ending = running.ended().await;
            over.send_replace(true);
            ending
        };
        let (ending, bytes) = tokio::join!(ending, tail(&mut outlet));
        Ok(Output { bytes, ending: ending? })
    };
    match limit {
        None => work.await,
        Some(limit) => timeout(limit, work).await.unwrap_or(Err(ExecError::TimedOut(limit))),
    }
}

/// Both outputs are one pipe, so that their order is kept.
fn streams() -> io::Result<(pipe::Receiver, Streams)> {
    let (reader, writer) = io::pipe()?;
    let stderr = writer.try_clone()?.into();
    let streams =
        Streams { stdin: File::open("/dev/null")?.into(), stdout: writer.into(), stderr, terminal: false };
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, streams))
}

async fn tail(outlet: &mut Outlet) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some(chunk) = outlet.next().await {
        kept.extend_from_slice(&chunk);
        let surplus = kept.len().saturating_sub(OUTPUT_BYTES);
        kept.drain(..surplus);
    }
    kept
}
