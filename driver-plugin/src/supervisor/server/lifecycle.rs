//! The lifecycle of a supervisor: it starts the task, starts a crashed proxy process again, waits for the exit, and keeps
//! the sockets for a while.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::log_files::LogFiles;
use super::proxy_process::ProxyProcess;
use super::records::Records;
use super::restarts::{self, Restarts};
use super::socket_store::SocketStore;
use super::state::{Inbox, Phase, State};
use crate::channel::Channel;
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError};
use crate::supervisor::protocol::{ProxyCommand, Reply, Request};
use crate::supervisor::record::{TaskExit, TaskRecord};

/// Runs the whole lifecycle. The supervisor ends when this returns.
pub(super) async fn run(state: &State, mut inbox: Inbox) {
    let client = timeout(deadlines::FIRST_REQUEST, inbox.starts.recv()).await.ok().flatten();
    let (Some(mut client), Some(launch)) = (client, state.launch.get()) else {
        state.discarded.send_replace(true);
        return;
    };
    match start(state, launch, &mut client).await {
        Ok(started) => {
            let record = started.record.clone();
            state.phase.send_replace(Phase::Running(record.clone()));
            drop(client);
            let exit = run_to_the_end(state, launch, started, &mut inbox.commands).await;
            // For a plugin that comes after the end of this supervisor, which tells it as long as it runs.
            let _ = Records::of_exit(state, &exit).save().await;
            state.phase.send_replace(Phase::Exited(record, exit));
        }
        Err(error) => {
            state.discarded.send_replace(true);
            state.phase.send_replace(Phase::StartFailed);
            let _ = client.send(&Reply::StartFailed(error)).await;
        }
    }
    keep_sockets(state, launch.keep_listening).await;
}

/// Runs the proxy process, and starts a new one when it crashes, until the task is to end or it crashes too often.
async fn run_to_the_end(
    state: &State,
    launch: &LaunchSpec,
    started: Started,
    commands: &mut mpsc::Receiver<ProxyCommand>,
) -> TaskExit {
    let Started { mut proxy, logs, .. } = started;
    let mut restarts = Restarts::default();
    let exit = loop {
        let exit = proxy.run(state, commands).await;
        if !state.has_crashed(&exit) {
            break exit;
        }
        let began = Instant::now();
        if !restarts.allow(began) {
            state.events.send_modify(|events| events.push(restarts::given_up(&exit)));
            break exit;
        }
        match start_again(state, launch, &logs).await {
            Ok(next) => proxy = next,
            Err(error) => {
                state.events.send_modify(|events| events.push(restarts::failed(&exit, &error)));
                break exit;
            }
        }
        let event = restarts.started_again(&exit, began.elapsed());
        state.events.send_modify(|events| events.push(event));
    };
    // The log collector sees the end of the log when its last writer has closed it.
    drop(logs);
    kill_others(launch, exit).await
}

/// Starts another proxy process on the same sockets, unless the task is to end meanwhile.
async fn start_again(
    state: &State,
    launch: &LaunchSpec,
    logs: &LogFiles,
) -> Result<ProxyProcess, StartError> {
    let mut ending = state.ending.subscribe();
    let mut proxy = ProxyProcess::spawn(launch, state, logs)?;
    // Clients wait, and a full disk need not end the task: the record is needed only if this supervisor hangs.
    let _ = Records::of(state).save().await;
    let ready = tokio::select! {
        ready = timeout(deadlines::READY, proxy.make_ready(launch, state)) => {
            ready.unwrap_or_else(|_| Err(late()))
        }
        _ = ending.wait_for(|ending| *ending) => Err(cancelled()),
    };
    match ready {
        Ok(_) => Ok(proxy),
        Err(error) => {
            proxy.terminate().await;
            Err(error)
        }
    }
}

/// Kills what else runs in the task's cgroups. The next task of the allocation uses the same ones, so commands in this
/// one must not outlive it.
async fn kill_others(launch: &LaunchSpec, mut exit: TaskExit) -> TaskExit {
    let cgroups = launch.cgroups.clone();
    let killing = tokio::task::spawn_blocking(move || cgroups.kill_all());
    let problem = match timeout(deadlines::KILL_OTHERS, killing).await {
        Ok(Ok(Err(error))) => Some(error.to_string()),
        Ok(_) => None,
        Err(_) => Some(format!("they cannot be listed within {:?}", deadlines::KILL_OTHERS)),
    };
    if let Some(problem) = problem {
        exit.error.get_or_insert_with(|| format!("processes of the task are left: {problem}"));
    }
    exit
}

/// A task whose proxy process listens.
struct Started {
    proxy: ProxyProcess,
    record: TaskRecord,
    logs: LogFiles,
}

/// Starts the proxy process. When this returns it listens, and the client has confirmed that it knows.
async fn start(state: &State, launch: &LaunchSpec, client: &mut Channel) -> Result<Started, StartError> {
    let deadline = Instant::now() + deadlines::READY;
    let logs = unless_cancelled(state, client, deadline, LogFiles::open(launch)).await?;
    let mut proxy = ProxyProcess::spawn(launch, state, &logs)?;
    let making_ready = async {
        Records::of(state).save().await.map_err(|error| not_recorded(state, &error))?;
        proxy.make_ready(launch, state).await
    };
    let started = match unless_cancelled(state, client, deadline, making_ready).await {
        Ok(record) => confirm(client, &record).await.map(|()| record),
        Err(error) => Err(error),
    };
    match started {
        Ok(record) => Ok(Started { proxy, record, logs }),
        Err(error) => {
            proxy.terminate().await;
            Err(error)
        }
    }
}

/// Reports the started task and waits for the confirmation. A plugin that died meanwhile would never stop the task.
async fn confirm(client: &mut Channel, record: &TaskRecord) -> Result<(), StartError> {
    client.send(&Reply::Started(record.clone())).await.map_err(|_| cancelled())?;
    match client.expect(deadlines::ACK).await {
        Ok(Request::Ack) => Ok(()),
        _ => Err(cancelled()),
    }
}

/// Awaits a part of the start, up to the deadline and as long as the client waits for it.
async fn unless_cancelled<T>(
    state: &State,
    client: &mut Channel,
    deadline: Instant,
    part: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    let mut discarded = state.discarded.subscribe();
    tokio::select! {
        done = timeout_at(deadline, part) => done.unwrap_or_else(|_| Err(late())),
        // The client has nothing to send yet, so whatever arrives is the end of the connection.
        _ = client.receive::<Request>() => Err(cancelled()),
        _ = discarded.wait_for(|discarded| *discarded) => Err(cancelled()),
    }
}

fn not_recorded(state: &State, error: &io::Error) -> StartError {
    let directory = state.directory.display();
    StartError::Transient(format!("cannot write to the state directory {directory}: {error}"))
}

fn late() -> StartError {
    StartError::Transient(format!("the proxy was not ready within {:?}", deadlines::READY))
}

fn cancelled() -> StartError {
    StartError::Transient("the start was cancelled".to_owned())
}

/// Keeps the sockets open until all are taken over or the time is up.
async fn keep_sockets(state: &State, keep_listening: Duration) {
    let mut sockets = state.sockets.subscribe();
    let _ = timeout(keep_listening, sockets.wait_for(SocketStore::is_empty)).await;
    state.sockets.send_replace(SocketStore::default());
}
