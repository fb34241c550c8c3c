//! A task that runs, or ran.

use std::collections::HashMap;
use std::time::Duration;

use nomad_plugin_proto::driver::{ExitResult, TaskStatus};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::TaskEvents;
use crate::supervisor::{EventStream, SupervisorClient, TaskExit, TaskName, TaskRecord};

/// The pause before events are requested again after the connection to the supervisor broke.
const EVENTS_RETRY: Duration = Duration::from_secs(5);

/// A task that the plugin knows.
#[derive(Debug)]
pub struct Task {
    name: TaskName,
    record: TaskRecord,
    phase: watch::Receiver<TaskPhase>,
    /// Futures that end when the task is dropped.
    _workers: JoinSet<()>,
}

/// The phase of a task.
#[derive(Clone, Debug)]
pub enum TaskPhase {
    /// It runs.
    Running(SupervisorClient),
    /// It has exited.
    Exited(TaskExit),
}

impl Task {
    /// A task that runs. Its exit is awaited, and its events are passed on to `events`.
    #[must_use]
    pub fn running(name: TaskName, supervisor: SupervisorClient, events: TaskEvents) -> Self {
        let record = supervisor.record().clone();
        let (phase, phase_in) = watch::channel(TaskPhase::Running(supervisor.clone()));
        let mut workers = JoinSet::new();
        workers.spawn(forward_events(name.clone(), supervisor.clone(), events, phase_in.clone()));
        workers.spawn(async move {
            let exit = supervisor.exited().await;
            phase.send_replace(TaskPhase::Exited(exit));
        });
        Self { name, record, phase: phase_in, _workers: workers }
    }

    /// A task that exited before it was recovered.
    #[must_use]
    pub fn exited(name: TaskName, record: TaskRecord, exit: TaskExit) -> Self {
        let (_, phase) = watch::channel(TaskPhase::Exited(exit));
        Self { name, record, phase, _workers: JoinSet::new() }
    }

    /// The names of the task.
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.name
    }

    /// Where to find it again.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Its phase now.
    #[must_use]
    pub fn phase(&self) -> TaskPhase {
        self.phase.borrow().clone()
    }

    /// Returns how it exited, once it has.
    pub async fn wait(&self) -> TaskExit {
        let mut phase = self.phase.clone();
        // It fails only if the worker has panicked; then the supervisor is asked here.
        let _ = phase.wait_for(|phase| matches!(phase, TaskPhase::Exited(_))).await;
        match self.phase() {
            TaskPhase::Exited(exit) => exit,
            TaskPhase::Running(supervisor) => supervisor.exited().await,
        }
    }

    /// The number of the proxy process that runs, or ran last.
    #[must_use]
    pub fn proxy_pid(&self) -> u32 {
        match self.phase() {
            TaskPhase::Running(supervisor) => supervisor.proxy().pid,
            TaskPhase::Exited(_) => self.record.proxy.pid,
        }
    }

    /// Its status in the form of the protocol.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        let TaskName { id, name, .. } = self.name.clone();
        let status = TaskStatus::running(id, name, self.record.started_at);
        match self.phase() {
            TaskPhase::Running(_) => status,
            TaskPhase::Exited(exit) => status.exited(exit.at, exit_result(&exit)),
        }
    }

    /// The driver's own attributes of the task.
    #[must_use]
    pub fn attributes(&self) -> HashMap<String, String> {
        HashMap::from([
            ("pid".to_owned(), self.proxy_pid().to_string()),
            ("supervisor_pid".to_owned(), self.record.supervisor.pid.to_string()),
        ])
    }
}

/// An exit in the form of the protocol.
#[must_use]
pub fn exit_result(exit: &TaskExit) -> ExitResult {
    ExitResult { exit_code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed }
}

/// Passes on the events of the task's supervisor, as long as there can be more.
async fn forward_events(
    name: TaskName,
    supervisor: SupervisorClient,
    events: TaskEvents,
    phase: watch::Receiver<TaskPhase>,
) {
    loop {
        match supervisor.events().await {
            Ok(stream) => forward(&name, stream, &events).await,
            Err(error) => tracing::debug!(task_id = name.id, %error, "cannot read the task's events"),
        }
        if matches!(*phase.borrow(), TaskPhase::Exited(_)) {
            return;
        }
        sleep(EVENTS_RETRY).await;
    }
}

async fn forward(name: &TaskName, mut stream: EventStream, events: &TaskEvents) {
    while let Some(queued) = stream.next().await {
        events.deliver(name, queued.at, queued.event).await;
    }
}
