//! What the commands on the control socket do. Each says in words what it did, or why it did nothing.

use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::MemberName;
use pg_leader_proxy_core::display::Counted;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::answers::{SessionAnswer, SessionsAnswer, SessionsRequest, TerminateRequest};
use crate::control::{ControlHandle, RestrictionChange};
use crate::logging::Logging;
use crate::session::{SessionId, SessionSelector};
use crate::worker::{SessionsHandle, Snapshots};

/// How many sessions one answer lists at most.
const SESSIONS_MAX: usize = 10_000;
/// How long a part of the process may take to answer. A reload reads files and resolves no names.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A request to read the configuration again, which waits for what comes of it.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<Result<(), String>>);

impl ReloadRequest {
    /// Tells what came of it.
    pub fn answer(self, result: Result<(), String>) {
        // The asker may be gone.
        let _ = self.0.send(result);
    }
}

/// What the commands act on.
#[derive(Clone, Debug)]
pub struct Actions {
    /// The name of the cluster.
    pub cluster: Arc<str>,
    /// Changes where new sessions are not wanted.
    pub control: ControlHandle,
    /// Lists and ends sessions.
    pub sessions: SessionsHandle,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// The log, if the process has set it up.
    pub logging: Option<Logging>,
}

/// What was done, or why nothing was, in words.
pub(super) type Outcome = Result<String, String>;

impl Actions {
    pub(super) async fn reload(&self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            let gone = || "the proxy is shutting down".to_owned();
            self.reloads.send(ReloadRequest(answer)).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        timeout(ANSWER_TIME, asking).await.map_err(|_| "the reload has not ended yet".to_owned())??;
        Ok("the configuration was reloaded".to_owned())
    }

    pub(super) async fn pause(&self) -> Outcome {
        let done = ("new sessions wait until `resume`; open ones go on", "new sessions were paused already");
        self.restrict(RestrictionChange::Pause, done).await
    }

    pub(super) async fn resume(&self) -> Outcome {
        let done = ("new sessions no longer wait for `resume`", "new sessions were not paused");
        self.restrict(RestrictionChange::Resume, done).await
    }

    pub(super) async fn drain(&self, member: &str) -> Outcome {
        let name = MemberName::new(member);
        let now = format!("{member} gets no new readers until `undrain {member}`; those that it has go on");
        self.restrict(RestrictionChange::Drain(name), (&now, &format!("{member} was drained already"))).await
    }

    pub(super) async fn undrain(&self, member: &str) -> Outcome {
        let name = MemberName::new(member);
        let now = format!("{member} may get new readers again");
        self.restrict(RestrictionChange::Undrain(name), (&now, &format!("{member} was not drained"))).await
    }

    /// The two texts say that something changed, and that it was so already.
    async fn restrict(&self, change: RestrictionChange, (now, already): (&str, &str)) -> Outcome {
        match self.control.restrict(change).await {
            Ok(changed) => Ok(if changed { now } else { already }.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) async fn terminate(&self, request: TerminateRequest) -> Outcome {
        let selector = match request {
            TerminateRequest::Session(id) => SessionSelector::Id(SessionId(id)),
            TerminateRequest::Member(member) => SessionSelector::Member(MemberName::new(&member)),
            TerminateRequest::User(user) => SessionSelector::User(user),
        };
        let done = self.sessions.terminate(&selector).await.map_err(|error| error.to_string())?;
        match (&selector, done.sessions) {
            (SessionSelector::Id(id), 0) => Err(format!("there is no session {id}")),
            (_, sessions) => {
                let unreadable = match done.unreadable {
                    0 => String::new(),
                    count => format!("; the user of {} cannot be read", Counted(count, "other session")),
                };
                Ok(format!("{} terminated{unreadable}", Counted(sessions, "session")))
            }
        }
    }

    pub(super) fn log(&self, filter: &str) -> Outcome {
        let logging = self.logging.as_ref().ok_or("the log of this process cannot be changed")?;
        logging.set_filter(filter).map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        Ok(format!("the log filter is `{filter}` until the next reload"))
    }

    /// The sessions that are meant: a [`SessionsAnswer`] in JSON.
    pub(super) async fn sessions(&self, request: SessionsRequest) -> Result<Vec<u8>, String> {
        let snapshots = self.sessions.snapshot().await.map_err(|error| error.to_string())?;
        listing(Arc::clone(&self.cluster), snapshots, request).await
    }
}

/// The answer is made on another thread: with thousands of sessions that takes milliseconds, for which the decision would
/// have to wait.
async fn listing(
    cluster: Arc<str>,
    snapshots: Snapshots,
    request: SessionsRequest,
) -> Result<Vec<u8>, String> {
    let make = move || {
        let meant: Vec<_> = snapshots.into_sessions().filter(|session| request.means(session)).collect();
        serde_json::to_vec(&SessionsAnswer {
            cluster: cluster.as_ref().to_owned(),
            total: meant.len() as u64,
            sessions: meant.iter().take(SESSIONS_MAX).map(SessionAnswer::from).collect(),
        })
    };
    let made = spawn_blocking(make).await.map_err(|error| error.to_string())?;
    made.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_listing_is_made_on_another_thread() {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (free, occupied) = mpsc::channel::<()>();
            let other = spawn_blocking(move || occupied.recv());
            let mut listing =
                Box::pin(listing("main".into(), Snapshots::default(), SessionsRequest::default()));
            tokio::select! {
                biased;
                _ = &mut listing => panic!("it was made here"),
                () = std::future::ready(()) => {}
            }
            free.send(()).unwrap();
            other.await.unwrap().unwrap();
            let json = listing.await.unwrap();
            let answer: SessionsAnswer = serde_json::from_slice(&json).unwrap();
            assert_eq!(answer, SessionsAnswer { cluster: "main".to_owned(), total: 0, sessions: Vec::new() });
        });
    }
}
