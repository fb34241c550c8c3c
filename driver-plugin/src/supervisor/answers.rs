//! The conversations of a supervisor: plugins come and go, and other supervisors ask for sockets.

use std::sync::Arc;
use std::time::Duration;

use super::channel::Channel;
use super::launch::StartError;
use super::protocol::{Dispatch, Reply, Request};
use super::sockets;
use super::state::{Life, State};

/// How long whoever connects may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Holds one conversation. Whoever asked may leave at any moment, which is never worth an error.
pub(super) async fn answer(state: Arc<State>, mut channel: Channel) {
    let Ok(request) = channel.expect(REQUEST_TIME).await else { return };
    let reply = match request {
        Request::Launch(launch) => match state.launch(*launch, channel) {
            Ok(()) => return,
            Err(asker) => {
                channel = asker;
                Reply::NotStarted(StartError::Transient("this supervisor has a task already".to_owned()))
            }
        },
        Request::Describe => Reply::Description(Box::new(state.description())),
        Request::Wait => return wait(&state, &mut channel).await,
        Request::Stop { patience, signal } => ended(state.stop(patience, signal).await),
        Request::Signal(signal) => state.signal(signal).map_or_else(Reply::Failed, |()| Reply::Done),
        Request::Follow => return follow(&state, &mut channel).await,
        Request::Yield(_) if state.accepts() => Reply::Sockets(Vec::new()),
        Request::Yield(addresses) => return sockets::give(&state.shelf, &addresses, &mut channel).await,
        Request::Destroy => {
            state.forgotten.send_replace(true);
            state.kill();
            state.ended().await;
            Reply::Done
        }
        // They belong to a conversation that began with something else.
        Request::Taken | Request::Delivered(_) => Reply::Failed("out of place".to_owned()),
    };
    let _ = channel.send(&reply).await;
}

fn ended(exit: Option<super::record::Exit>) -> Reply {
    exit.map_or_else(|| Reply::Failed("the relay never came up".to_owned()), Reply::Ended)
}

/// Tells the end when it comes, if somebody is still there to hear of it.
async fn wait(state: &State, channel: &mut Channel) {
    let exit = tokio::select! {
        exit = state.ended() => exit,
        _ = channel.receive::<Request>() => return,
    };
    let _ = channel.send(&ended(exit)).await;
}

/// Tells the news as they come, and at last the end. They are kept until they are said to be delivered.
async fn follow(state: &State, channel: &mut Channel) {
    let mut seen = 0;
    let mut told_end = false;
    loop {
        let reply = tokio::select! {
            next = next(state, seen), if !told_end => next,
            request = channel.receive() => match request {
                Ok(Some(Request::Delivered(number))) => {
                    state.board.send_modify(|board| board.delivered(number));
                    continue;
                }
                _ => return,
            },
        };
        if let Reply::News(dispatch) = &reply {
            seen = dispatch.number;
        } else {
            told_end = true;
        }
        if channel.send(&reply).await.is_err() {
            return;
        }
    }
}

/// The news after that number, or the end when there can be none.
async fn next(state: &State, seen: u64) -> Reply {
    let (mut board, mut life) = (state.board.subscribe(), state.life.subscribe());
    let over = |life: &Life| matches!(life, Life::Ended(..) | Life::NotStarted);
    let news = tokio::select! {
        // All news are on the board before the end is told.
        biased;
        news = board.wait_for(|board| board.after(seen).is_some()) => {
            news.ok().and_then(|board| board.after(seen).cloned())
        }
        _ = life.wait_for(over) => None::<Dispatch>,
    };
    match news {
        Some(dispatch) => Reply::News(dispatch),
        None => ended(state.ended().await),
    }
}
