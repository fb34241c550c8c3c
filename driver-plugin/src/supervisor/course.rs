//! The course of a supervisor's life: a launch, a relay that comes up and ends, and the time for which sockets are kept.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::channel::Channel;
use super::launch::{Launch, StartError};
use super::process::Relay;
use super::protocol::{Reply, Request};
use super::record::{Exit, Record};
use super::sockets::Shelf;
use super::state::{Inbox, Life, State};

/// How long a supervisor waits to be told what to start: a plugin that has started one tells it at once, unless it died.
const LAUNCH_WAIT: Duration = Duration::from_secs(10);
/// How long a relay may take to come up: less than the plugin waits for it, so that the reason is told.
const UP_TIME: Duration = Duration::from_secs(18);
/// How long the plugin may take to say that it knows of the relay.
const TAKEN_TIME: Duration = Duration::from_secs(5);

/// Lives a supervisor's life, from launch to end.
pub(super) async fn run(state: &State, mut inbox: Inbox) {
    let asker = timeout(LAUNCH_WAIT, inbox.launches.recv()).await.ok().flatten();
    let (Some(mut asker), Some(launch)) = (asker, state.launch.get()) else {
        state.forgotten.send_replace(true);
        return;
    };
    match start(state, launch, &mut asker).await {
        Ok((relay, record)) => {
            state.life.send_replace(Life::Running(record.clone()));
            drop(asker);
            let mut exit = relay.accompany(state, &mut inbox.orders).await;
            if let Err(error) = exit.write(&state.directory) {
                let text = format!("the exit cannot be written down: {error}");
                exit = Exit { error: exit.error.or(Some(text)), ..exit };
            }
            state.life.send_replace(Life::Ended(record, exit));
        }
        Err(error) => {
            state.forgotten.send_replace(true);
            state.life.send_replace(Life::NotStarted);
            // Whoever asked may be gone.
            let _ = asker.send(&Reply::NotStarted(error)).await;
        }
    }
    keep(state, launch.keep_listening).await;
}

/// Starts the relay. When it is returned, it is up, and whoever asked for it knows.
async fn start(state: &State, launch: &Launch, asker: &mut Channel) -> Result<(Relay, Record), StartError> {
    let deadline = Instant::now() + UP_TIME;
    let mut relay = unless_given_up(state, asker, deadline, Relay::start(launch)).await?;
    let up = unless_given_up(state, asker, deadline, relay.come_up(launch, state)).await;
    let known = match up {
        Ok(record) => acknowledged(asker, &record).await.map(|()| record),
        Err(error) => Err(error),
    };
    match known {
        Ok(record) => Ok((relay, record)),
        Err(error) => {
            relay.end().await;
            Err(error)
        }
    }
}

/// A plugin that died in the middle of a start would never stop what it started.
async fn acknowledged(asker: &mut Channel, record: &Record) -> Result<(), StartError> {
    asker.send(&Reply::Up(record.clone())).await.map_err(|_| given_up())?;
    match asker.expect(TAKEN_TIME).await {
        Ok(Request::Taken) => Ok(()),
        _ => Err(given_up()),
    }
}

/// What `work` gives, unless it takes too long or nobody wants it any more.
async fn unless_given_up<T>(
    state: &State,
    asker: &mut Channel,
    deadline: Instant,
    work: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    let mut forgotten = state.forgotten.subscribe();
    tokio::select! {
        done = timeout_at(deadline, work) => done.unwrap_or_else(|_| {
            Err(StartError::Transient(format!("the relay was not up within {UP_TIME:?}")))
        }),
        // There is nothing to say in between, so this is the end of the conversation.
        _ = asker.receive::<Request>() => Err(given_up()),
        _ = forgotten.wait_for(|forgotten| *forgotten) => Err(given_up()),
    }
}

fn given_up() -> StartError {
    StartError::Transient("the start was given up".to_owned())
}

/// Keeps the sockets open, until they are all given away or the time is over.
async fn keep(state: &State, keep_listening: Duration) {
    let mut shelf = state.shelf.subscribe();
    // Over is over, whichever way.
    let _ = timeout(keep_listening, shelf.wait_for(Shelf::is_empty)).await;
    state.shelf.send_replace(Shelf::default());
}
