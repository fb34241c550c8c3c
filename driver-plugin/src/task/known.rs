//! A task that runs, or that ran.

use std::collections::HashMap;
use std::time::Duration;

use nomad_plugin_proto::driver::{ExitResult, TaskStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Events;
use crate::supervisor::{Exit, NewsStream, Record, Supervisor, TaskName};

/// After how long news are asked for again, when the conversation about them broke.
const NEWS_RETRY: Duration = Duration::from_secs(5);

/// A task that the plugin knows.
#[derive(Debug)]
pub struct Task {
    name: TaskName,
    record: Record,
    stage: watch::Receiver<Stage>,
    /// Whatever follows the task ends when the task is forgotten.
    _followers: JoinSet<()>,
}

/// How far a task is.
#[derive(Clone, Debug)]
pub enum Stage {
    /// It runs.
    Running(Supervisor),
    /// It has ended.
    Ended(Exit),
}

impl Task {
    /// A task that runs. Its end is waited for, and its news are passed on to `events`.
    #[must_use]
    pub fn running(name: TaskName, supervisor: Supervisor, events: Events) -> Self {
        let record = supervisor.record().clone();
        let (stage, seen) = watch::channel(Stage::Running(supervisor.clone()));
        let mut followers = JoinSet::new();
        followers.spawn(follow_news(name.clone(), supervisor.clone(), events, seen.clone()));
        followers.spawn(async move {
            let exit = supervisor.exited().await;
            stage.send_replace(Stage::Ended(exit));
        });
        Self { name, record, stage: seen, _followers: followers }
    }

    /// A task that has ended while nobody looked.
    #[must_use]
    pub fn ended(name: TaskName, record: Record, exit: Exit) -> Self {
        let (_, stage) = watch::channel(Stage::Ended(exit));
        Self { name, record, stage, _followers: JoinSet::new() }
    }

    /// Which task this is.
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.name
    }

    /// Where to find it again.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// How it ended, when it has.
    pub async fn exit(&self) -> Exit {
        let mut stage = self.stage.clone();
        // An error means that the follower is gone without a word.
        let _ = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))).await;
        match self.stage() {
            Stage::Ended(exit) => exit,
            Stage::Running(supervisor) => supervisor.exited().await,
        }
    }

    /// What Nomad is told of it.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        let TaskName { id, name, .. } = self.name.clone();
        let status = TaskStatus::running(id, name, self.record.started_at);
        match self.stage() {
            Stage::Running(_) => status,
            Stage::Ended(exit) => status.exited(exit.at, result(&exit)),
        }
    }

    /// What else there is to know.
    #[must_use]
    pub fn attributes(&self) -> HashMap<String, String> {
        HashMap::from([
            ("pid".to_owned(), self.record.relay.pid.to_string()),
            ("supervisor_pid".to_owned(), self.record.supervisor.pid.to_string()),
        ])
    }
}

/// An exit in the form of the protocol.
#[must_use]
pub fn result(exit: &Exit) -> ExitResult {
    ExitResult { exit_code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed }
}

/// Passes on what the task's supervisor tells, as long as there can be more.
async fn follow_news(name: TaskName, supervisor: Supervisor, events: Events, stage: watch::Receiver<Stage>) {
    loop {
        match supervisor.news().await {
            Ok(news) => pass_on(&name, news, &events).await,
            Err(error) => tracing::debug!(task_id = name.id, %error, "the task's news cannot be had"),
        }
        if matches!(*stage.borrow(), Stage::Ended(_)) {
            return;
        }
        sleep(NEWS_RETRY).await;
    }
}

async fn pass_on(name: &TaskName, mut news: NewsStream, events: &Events) {
    while let Some(dispatch) = news.next().await {
        events.deliver(name, dispatch.at, dispatch.news).await;
    }
}
