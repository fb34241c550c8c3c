//! `StartTask`, `RecoverTask`, `WaitTask`, `StopTask` and `DestroyTask`.

use std::sync::Arc;
use std::time::Duration;

use nomad_plugin_proto::driver::{
    DestroyTaskRequest, RecoverTaskRequest, StopTaskRequest, TaskConfig, TaskHandle, WaitTaskResponse,
};
use tokio::sync::oneshot;

use super::{Driver, RpcError};
use crate::signal::Signal;
use crate::supervisor::{
    self, LaunchSpec, Launcher, Occupant, RecoverError, Recovered, StartError, SupervisorClient, TaskName,
    TaskRecord,
};
use crate::tasks::{self, Prepared, Reservation, Task, TaskExists, TaskPhase};

/// How long a stop may take when Nomad does not say: Nomad's default `kill_timeout`.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an agent may take to recover its tasks after it has started the plugin. Nomad does it at once.
const RECOVERY: Duration = Duration::from_secs(15);

impl Driver {
    /// Recovers a task that an earlier plugin, or this one, started. A task that is known needs no recovery.
    pub(super) async fn recover(&self, request: RecoverTaskRequest) -> Result<(), RpcError> {
        let handle = request.handle.ok_or_else(|| RpcError::Request("the handle is missing".to_owned()))?;
        // The request's own id is always empty, and after a restart of the agent the handle has no driver config.
        let name = handle.config.map(|config| name_of(&config)).filter(|name| !name.id.is_empty());
        let name = name.ok_or_else(|| RpcError::Request("the handle has no task id".to_owned()))?;
        let reservation = match self.store.reserve(&name.id) {
            Ok(reservation) => reservation,
            Err(TaskExists::Known(_)) => return Ok(()),
            Err(TaskExists::Starting) => return Err(starting(&name)),
        };
        let record = match tasks::decode(&handle.driver_state) {
            Ok(record) => record,
            // A newer version of the driver may have written it. The task's supervisor knows the same.
            Err(error) => {
                let found = self.launcher().find(&name.id).await;
                found.ok_or_else(|| RpcError::Request(error.to_string()))?
            }
        };
        match recover(&record).await? {
            Recovered::Running(supervisor) => {
                tracing::info!(task_id = name.id, pid = record.proxy.pid, "recovered the task");
                reservation.fill(Arc::new(Task::running(name, supervisor, self.events.clone())));
            }
            Recovered::Exited(exit) => {
                tracing::info!(
                    task_id = name.id,
                    code = exit.code,
                    "the task exited before it was recovered"
                );
                reservation.fill(Arc::new(Task::exited(name, record, exit)));
            }
        }
        Ok(())
    }

    /// Starts a task in a future of its own, so that a client that gives up does not leave half a task. A task whose
    /// start no client learns of is ended again.
    pub(super) async fn start(&self, config: TaskConfig) -> Result<TaskHandle, RpcError> {
        let reservation = match self.store.reserve(&config.id) {
            Ok(reservation) => reservation,
            Err(TaskExists::Starting) => return Err(starting(&name_of(&config))),
            Err(TaskExists::Known(known)) => self.replace_exited(&known)?,
        };
        let driver = self.clone();
        let (answer, answered) = oneshot::channel();
        let (acknowledge, acknowledged) = oneshot::channel();
        tokio::spawn(async move {
            match driver.start_reserved(reservation, config).await {
                Err(error) => drop(answer.send(Err(error))),
                Ok((task, handle)) => {
                    drop(answer.send(Ok(handle)));
                    // It fails when the client is gone, before the answer or while it was delivered.
                    if acknowledged.await.is_err() {
                        driver.end_unclaimed(&task).await;
                    }
                }
            }
        });
        let handle =
            answered.await.map_err(|_| RpcError::Internal("the start was cancelled".to_owned()))??;
        let _ = acknowledge.send(());
        Ok(handle)
    }

    /// Returns how a task exited, once it has.
    pub(super) async fn wait(&self, id: &str) -> Result<WaitTaskResponse, RpcError> {
        let exit = self.task(id)?.wait().await;
        Ok(WaitTaskResponse::new(tasks::exit_result(&exit), exit.error))
    }

    /// Ends a task. Success for an unknown task: Nomad would repeat a failed stop for minutes.
    pub(super) async fn stop(&self, request: StopTaskRequest) -> Result<(), RpcError> {
        let Some(task) = self.store.find(&request.task_id) else { return Ok(()) };
        let TaskPhase::Running(supervisor) = task.phase() else { return Ok(()) };
        let kill_timeout = match request.timeout {
            // A negative duration counts as zero.
            Some(timeout) => Duration::try_from(timeout).unwrap_or_default(),
            None => KILL_TIMEOUT,
        };
        let signal = self.stop_signal(&task, &request.signal);
        let stopping = tokio::spawn(async move {
            supervisor.stop(kill_timeout, signal).await.map(drop)?;
            drop(task.wait().await);
            Ok::<(), std::io::Error>(())
        });
        stopping.await?.map_err(|error| RpcError::Internal(format!("cannot stop the task: {error}")))
    }

    /// Removes everything of a task. Success for an unknown task, as for a stop.
    pub(super) async fn destroy(&self, request: DestroyTaskRequest) -> Result<(), RpcError> {
        let Some(task) = self.store.find(&request.task_id) else { return Ok(()) };
        if matches!(task.phase(), TaskPhase::Running(_)) && !request.force {
            return Err(RpcError::Conflict("the task is running: stop it first, or use force".to_owned()));
        }
        let driver = self.clone();
        tokio::spawn(async move { driver.remove(&task).await }).await?
    }

    /// The task with this id.
    pub(super) fn task(&self, id: &str) -> Result<Arc<Task>, RpcError> {
        self.store.find(id).ok_or(RpcError::UnknownTask)
    }

    /// Reserves the id of a task that has exited and is started again.
    fn replace_exited(&self, known: &Arc<Task>) -> Result<Reservation, RpcError> {
        let id = &known.name().id;
        match known.phase() {
            TaskPhase::Running(_) => Err(RpcError::Final(format!("the task {id} is already running"))),
            TaskPhase::Exited(_) => {
                self.store.remove(known);
                self.store.reserve(id).map_err(|_| starting(known.name()))
            }
        }
    }

    async fn start_reserved(
        &self,
        reservation: Reservation,
        config: TaskConfig,
    ) -> Result<(Arc<Task>, TaskHandle), RpcError> {
        let plugin = self.config.plugin();
        let account = self.accounts.of_task(&config.user).await?;
        let mut earlier = self.store.state_dirs();
        // Supervisors know their directory by its canonical path.
        earlier.remove(&plugin.state_dir.canonicalize().unwrap_or_else(|_| plugin.state_dir.clone()));
        let earlier = earlier.into_iter().collect();
        let Prepared { launch, warnings } = tasks::prepare(&config, account, &plugin, earlier)?;
        let name = launch.task.clone();
        let supervisor = self.launch(launch).await?;
        let state =
            tasks::encode(supervisor.record()).map_err(|error| RpcError::Internal(error.to_string()))?;
        tracing::info!(task_id = name.id, pid = supervisor.record().proxy.pid, "started the task");
        let task = Arc::new(Task::running(name.clone(), supervisor, self.events.clone()));
        reservation.fill(Arc::clone(&task));
        for warning in warnings {
            self.events.warn(&name, warning);
        }
        Ok((task, TaskHandle::running(tasks::version(), config, state)))
    }

    /// Starts the task's supervisor. A task that Nomad has given up gives way.
    async fn launch(&self, launch: LaunchSpec) -> Result<SupervisorClient, StartError> {
        let launcher = self.launcher();
        match launcher.start(launch.clone()).await {
            Err(StartError::Occupied(occupant)) if self.is_given_up(&occupant, &launch) => {
                let task_id = &occupant.task.id;
                tracing::warn!(task_id, "{occupant}, but Nomad has given it up: ending it");
                supervisor::evict(&occupant.directory).await.map_err(|error| {
                    StartError::Transient(format!("{occupant}, and cannot be ended: {error}"))
                })?;
                launcher.start(launch).await
            }
            started => started,
        }
    }

    /// Whether Nomad no longer knows this task: it is of the same agent, which recovers its tasks as soon as there is a
    /// plugin, and has not recovered this one.
    fn is_given_up(&self, occupant: &Occupant, launch: &LaunchSpec) -> bool {
        let same_agent = occupant.alloc_dir.parent() == launch.alloc_dir.parent();
        same_agent && !self.store.knows(&occupant.task.id) && self.started.elapsed() >= RECOVERY
    }

    fn launcher(&self) -> Launcher {
        Launcher::new(self.config.plugin().state_dir)
    }

    async fn end_unclaimed(&self, task: &Arc<Task>) {
        let task_id = &task.name().id;
        tracing::warn!(task_id, "the client that started the task is gone: ending the task");
        if let Err(error) = self.remove(task).await {
            tracing::error!(task_id, "cannot end the task: {error}");
        }
    }

    /// Ends the task if it runs, and removes everything of it.
    async fn remove(&self, task: &Arc<Task>) -> Result<(), RpcError> {
        let destroyed = supervisor::destroy(task.record()).await;
        // A task that could not be killed stays known.
        destroyed.map_err(|error| RpcError::Internal(format!("cannot remove the task: {error}")))?;
        self.store.remove(task);
        Ok(())
    }

    /// The signal of a stop; `None` is to drain. An unknown signal must not keep the task alive.
    fn stop_signal(&self, task: &Task, name: &str) -> Option<Signal> {
        if name.is_empty() {
            return None;
        }
        match Signal::parse(name) {
            Ok(signal) => Some(signal),
            Err(error) => {
                self.events.warn(task.name(), format!("kill_signal: {error}; draining as for SIGTERM"));
                None
            }
        }
    }
}

/// Finds a task again. Nomad destroys nothing of a lost task, so its remains are removed here.
async fn recover(record: &TaskRecord) -> Result<Recovered, RpcError> {
    match SupervisorClient::recover(record).await {
        Ok(recovered) => Ok(recovered),
        Err(lost @ RecoverError::Lost) => {
            if let Err(error) = supervisor::destroy(record).await {
                tracing::warn!(directory = %record.directory.display(), %error, "cannot remove a lost task");
            }
            Err(lost.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn name_of(config: &TaskConfig) -> TaskName {
    TaskName { id: config.id.clone(), alloc_id: config.alloc_id.clone(), name: config.name.clone() }
}

fn starting(name: &TaskName) -> RpcError {
    RpcError::Transient(format!("the task {} is being started already", name.id))
}
