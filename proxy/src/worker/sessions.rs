//! Asking the workers about their sessions, and ending some of them. There is no registry: each worker looks through its
//! own sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::WorkerCommand;
use super::balance::{Peer, Pool};
use crate::session::{SessionId, SessionSelector, SessionSnapshot};

/// How many sessions a worker looks at for one page of an answer. Its relays wait meanwhile, for well below a millisecond.
const PAGE: usize = 256;
/// How long a worker may take for one command. It takes microseconds unless the machine has no time for it.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Where a worker is in its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// The start-ups with a higher number come next.
    Startups(SessionId),
    /// The relays from this key on come next.
    Relays(usize),
}

/// Some of a worker's sessions.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) sessions: Vec<SessionSnapshot>,
    /// Where the next page begins; `None` if this is the last one.
    pub(super) next: Option<Cursor>,
}

/// A question about sessions, or an order to end some.
#[derive(Debug)]
pub(super) enum SessionCommand {
    /// Answer with at most `limit` sessions from `cursor` on.
    Page { cursor: Cursor, limit: usize, answer: oneshot::Sender<Page> },
    /// End these sessions.
    Terminate { selector: SessionSelector, answer: oneshot::Sender<Terminated> },
}

/// What came of an order to end sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    /// How many sessions were ended.
    pub sessions: u64,
    /// How many sessions there are whose user is not known, so that they may or may not have been meant; only for a choice
    /// by user.
    pub unreadable: u64,
}

/// A worker gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker does not answer")]
pub struct WorkerSilent;

/// What all workers answered about their sessions, as it came.
#[derive(Debug, Default)]
pub struct Snapshots(Vec<Vec<SessionSnapshot>>);

impl Snapshots {
    /// The sessions, ordered by number. One that moved meanwhile is as its last worker saw it. With thousands of sessions this
    /// takes milliseconds of processor time.
    pub fn into_sessions(self) -> impl Iterator<Item = SessionSnapshot> {
        let sessions = self.0.into_iter().flatten().map(|session| (session.id, session));
        sessions.collect::<BTreeMap<_, _>>().into_values()
    }
}

/// Asks all workers about their sessions. It does not keep them running.
#[derive(Clone, Debug)]
pub struct SessionsHandle(Pool);

impl SessionsHandle {
    pub(super) const fn new(pool: Pool) -> Self {
        Self(pool)
    }

    /// Every session that lasts through the call, and perhaps some that began or ended meanwhile.
    ///
    /// Sessions move from the first worker to others and in no other direction, so the workers are asked in their order.
    ///
    /// # Errors
    /// If a worker gives no answer.
    pub async fn snapshot(&self) -> Result<Snapshots, WorkerSilent> {
        let mut pages = Vec::new();
        for peer in self.0.iter() {
            let mut next = Some(Cursor::Startups(SessionId(0)));
            while let Some(cursor) = next {
                let page = ask(peer, |answer| SessionCommand::Page { cursor, limit: PAGE, answer }).await?;
                pages.push(page.sessions);
                next = page.next;
            }
        }
        Ok(Snapshots(pages))
    }

    /// Ends the sessions that `selector` means, held ones included.
    ///
    /// # Errors
    /// If a worker gives no answer. Some sessions may have been ended then.
    pub async fn terminate(&self, selector: &SessionSelector) -> Result<Terminated, WorkerSilent> {
        let mut all = Terminated::default();
        for peer in self.0.iter() {
            let of_peer =
                ask(peer, |answer| SessionCommand::Terminate { selector: selector.clone(), answer }).await?;
            all.sessions += of_peer.sessions;
            all.unreadable += of_peer.unreadable;
        }
        Ok(all)
    }
}

async fn ask<T>(
    peer: &Peer,
    command: impl FnOnce(oneshot::Sender<T>) -> SessionCommand,
) -> Result<T, WorkerSilent> {
    let (answer, answered) = oneshot::channel();
    let commands = peer.commands().ok_or(WorkerSilent)?;
    let asking = async {
        send(&commands, command(answer)).await?;
        peer.wake();
        answered.await.map_err(|_| WorkerSilent)
    };
    timeout(ANSWER_TIME, asking).await.map_err(|_| WorkerSilent)?
}

async fn send(commands: &mpsc::Sender<WorkerCommand>, command: SessionCommand) -> Result<(), WorkerSilent> {
    commands.send(WorkerCommand::Sessions(command)).await.map_err(|_| WorkerSilent)
}
