//! The lifecycle of a supervisor: it starts the task, waits for its exit, and keeps the sockets for a while.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::proxy_process::ProxyProcess;
use super::socket_store::SocketStore;
use super::state::{Inbox, Phase, State};
use crate::channel::Channel;
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError};
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::record::{TaskExit, TaskRecord};

/// Runs the whole lifecycle. The supervisor ends when this returns.
pub(super) async fn run(state: &State, mut inbox: Inbox) {
    let client = timeout(deadlines::FIRST_REQUEST, inbox.starts.recv()).await.ok().flatten();
    let (Some(mut client), Some(launch)) = (client, state.launch.get()) else {
        state.discarded.send_replace(true);
        return;
    };
    match start(state, launch, &mut client).await {
        Ok((proxy, record)) => {
            state.phase.send_replace(Phase::Running(record.clone()));
            drop(client);
            let mut exit = proxy.run(state, &mut inbox.commands).await;
            if let Err(error) = exit.write(&state.directory) {
                let problem = format!("the exit cannot be recorded: {error}");
                exit = TaskExit { error: exit.error.or(Some(problem)), ..exit };
            }
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

/// Starts the proxy process. When this returns it listens, and the client has confirmed that it knows.
async fn start(
    state: &State,
    launch: &LaunchSpec,
    client: &mut Channel,
) -> Result<(ProxyProcess, TaskRecord), StartError> {
    let deadline = Instant::now() + deadlines::READY;
    let mut proxy = unless_cancelled(state, client, deadline, ProxyProcess::spawn(launch)).await?;
    let started = match unless_cancelled(state, client, deadline, proxy.make_ready(launch, state)).await {
        Ok(record) => confirm(client, &record).await.map(|()| record),
        Err(error) => Err(error),
    };
    match started {
        Ok(record) => Ok((proxy, record)),
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
        done = timeout_at(deadline, part) => done.unwrap_or_else(|_| {
            Err(StartError::Transient(format!("the proxy was not ready within {:?}", deadlines::READY)))
        }),
        // The client has nothing to send yet, so whatever arrives is the end of the connection.
        _ = client.receive::<Request>() => Err(cancelled()),
        _ = discarded.wait_for(|discarded| *discarded) => Err(cancelled()),
    }
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
