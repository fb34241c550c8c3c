//! Answers the requests of plugins and of other supervisors.

use std::io::ErrorKind;
use std::sync::Arc;

use super::socket_store;
use super::state::{Phase, State};
use crate::channel::Channel;
use crate::supervisor::deadlines;
use crate::supervisor::launch::StartError;
use crate::supervisor::protocol::{self, Reply, Request};
use crate::supervisor::record::TaskExit;

/// Answers one connection. The client may close it at any moment, which is no error.
pub(super) async fn answer(state: Arc<State>, mut channel: Channel) {
    let request = match channel.expect(deadlines::REQUEST).await {
        Ok(request) => request,
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let text = format!("version {} of the messages has no such request: {error}", protocol::VERSION);
            drop(channel.send(&Reply::Failed(text)).await);
            return;
        }
        Err(_) => return,
    };
    let reply = match request {
        Request::Start(launch) => match state.start(*launch, channel) {
            Ok(()) => return,
            Err(client) => {
                channel = client;
                Reply::StartFailed(StartError::Transient("this supervisor has a task already".to_owned()))
            }
        },
        Request::Describe => Reply::Description(Box::new(state.description())),
        Request::Wait => return wait(&state, &mut channel).await,
        Request::Stop { kill_timeout, signal } => exited(state.stop(kill_timeout, signal).await),
        Request::Signal(signal) => state.signal(signal).map_or_else(Reply::Failed, |()| Reply::Done),
        Request::Events => return send_events(&state, &mut channel).await,
        Request::TakeSockets(_) if state.accepts_clients() => Reply::Sockets(Vec::new()),
        Request::TakeSockets(addresses) => {
            return socket_store::hand_over(&state.sockets, &addresses, &mut channel).await;
        }
        Request::Release(_) if state.accepts_clients() => {
            Reply::Failed("the task accepts clients".to_owned())
        }
        Request::Release(addresses) => {
            state.sockets.send_modify(|store| store.close(&addresses));
            Reply::Done
        }
        Request::Destroy => {
            state.discarded.send_replace(true);
            state.kill();
            state.exited().await;
            Reply::Done
        }
        Request::Ack | Request::Delivered(_) => Reply::Failed("this message starts no request".to_owned()),
    };
    let _ = channel.send(&reply).await;
}

fn exited(exit: Option<TaskExit>) -> Reply {
    exit.map_or_else(|| Reply::Failed("the task never started".to_owned()), Reply::Exited)
}

/// Replies once the task has exited, unless the client closes the connection before.
async fn wait(state: &State, channel: &mut Channel) {
    let exit = tokio::select! {
        exit = state.exited() => exit,
        _ = channel.receive::<Request>() => return,
    };
    let _ = channel.send(&exited(exit)).await;
}

/// Sends the events as they come, and at last the exit. An event stays in the queue until it is confirmed.
async fn send_events(state: &State, channel: &mut Channel) {
    let mut last_sent = 0;
    let mut exit_sent = false;
    loop {
        let reply = tokio::select! {
            next = next_event(state, last_sent), if !exit_sent => next,
            request = channel.receive() => match request {
                Ok(Some(Request::Delivered(number))) => {
                    state.events.send_modify(|events| events.delivered(number));
                    continue;
                }
                _ => return,
            },
        };
        if let Reply::Event(event) = &reply {
            last_sent = event.number;
        } else {
            exit_sent = true;
        }
        if channel.send(&reply).await.is_err() {
            return;
        }
    }
}

/// The event after this number, or the exit when there will be no more.
async fn next_event(state: &State, last: u64) -> Reply {
    let (mut events, mut phase) = (state.events.subscribe(), state.phase.subscribe());
    let event = tokio::select! {
        // The queue is complete before the phase changes.
        biased;
        events = events.wait_for(|events| events.after(last).is_some()) => {
            events.ok().and_then(|events| events.after(last).cloned())
        }
        _ = phase.wait_for(Phase::is_over) => None,
    };
    match event {
        Some(event) => Reply::Event(event),
        None => exited(state.exited().await),
    }
}
