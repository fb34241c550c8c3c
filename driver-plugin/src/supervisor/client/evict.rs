//! How a supervisor that does not reply, or that nobody knows any more, is ended together with its proxy process.

use std::io::{self, ErrorKind};
use std::path::Path;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::process_id::ProcessId;
use crate::signal::Signal;
use crate::supervisor::control_socket::request;
use crate::supervisor::deadlines;
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::record::{Holder, TaskRecord, remove_directory};

/// Ends the task in a supervisor's directory, whoever started it. The supervisor is asked to, so that it keeps the
/// listening sockets for the next task; one that does not reply is killed.
///
/// # Errors
/// When a process is left that does not end even by SIGKILL.
pub async fn evict(directory: &Path) -> io::Result<()> {
    match ask_to_end(directory).await {
        Ok(()) => Ok(()),
        Err(_) => kill(directory, None).await,
    }
}

/// Asks a supervisor to kill its task. When this returns the task has exited.
///
/// # Errors
/// When the supervisor does not reply in time.
pub(super) async fn ask_to_end(directory: &Path) -> io::Result<()> {
    let reply = request(directory, &Request::Destroy).await?.expect(deadlines::REPLY).await?;
    if matches!(reply, Reply::Done) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Kills a supervisor and its proxy process, and removes the supervisor's directory. Both are known by what they wrote
/// into it, and by the task's record.
///
/// # Errors
/// When a process does not end, or the directory cannot be removed.
pub(super) async fn kill(directory: &Path, record: Option<&TaskRecord>) -> io::Result<()> {
    kill_processes(directory, record).await?;
    remove_directory(directory)
}

/// As [`kill`], but keeps the directory, in which the exit may be recorded. A supervisor that does not end, because a disk
/// that hangs blocks one of its threads, keeps nobody from killing the proxy process.
///
/// # Errors
/// When a process does not end.
pub(super) async fn kill_processes(directory: &Path, record: Option<&TaskRecord>) -> io::Result<()> {
    // A file that cannot be read names nobody.
    let holder = Holder::read(directory).ok().flatten();
    let supervisors = record.map(|record| &record.supervisor).into_iter();
    let supervisors = supervisors.chain(holder.as_ref().map(|holder| &holder.supervisor));
    // The supervisors first: one that lived would start its proxy process again.
    let supervisors = join_all(supervisors.map(end)).await;
    let proxies = proxies(directory, record);
    let proxies = join_all(proxies.iter().map(end)).await;
    supervisors.into_iter().chain(proxies).collect()
}

/// Waits for the proxy process to exit by itself if its supervisor is gone, and otherwise kills both.
///
/// # Errors
/// When a process does not end.
pub(super) async fn ensure_ended(record: &TaskRecord) -> io::Result<()> {
    if !record.supervisor.alive() {
        let proxies = proxies(&record.directory, Some(record));
        let ended = join_all(proxies.iter().map(ProcessId::ended));
        if timeout(deadlines::ORPHAN, ended).await.is_ok() {
            return Ok(());
        }
    }
    kill_processes(&record.directory, Some(record)).await
}

/// The proxy processes that are known: the one with which the task began, and the last that was started.
fn proxies(directory: &Path, record: Option<&TaskRecord>) -> Vec<ProcessId> {
    let last = Holder::read(directory).ok().flatten().and_then(|holder| holder.proxy);
    record.map(|record| record.proxy.clone()).into_iter().chain(last).collect()
}

/// Kills a process and waits for its end.
///
/// # Errors
/// When it cannot be killed, or does not end.
async fn end(process: &ProcessId) -> io::Result<()> {
    match process.signal(Signal::KILL) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        sent => sent?,
    }
    timeout(deadlines::ORPHAN, process.ended()).await.map_err(|_| {
        let text = format!("the process {} still runs {:?} after SIGKILL", process.pid, deadlines::ORPHAN);
        io::Error::new(ErrorKind::TimedOut, text)
    })
}
