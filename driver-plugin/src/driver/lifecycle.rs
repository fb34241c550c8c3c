//! The life of a task: start, recovery, waiting, stop, destruction.

use std::sync::Arc;
use std::time::Duration;

use nomad_plugin_proto::driver::{
    DestroyTaskRequest, RecoverTaskRequest, StopTaskRequest, TaskConfig, TaskHandle, WaitTaskResponse,
};
use tokio::sync::oneshot;

use super::{Driver, Fault};
use crate::signal::{self, Signal};
use crate::supervisor::{Base, Found, Record, RecoverError, Supervisor, TaskName};
use crate::task::{self, Occupied, Place, Prepared, Stage, Task};

/// How long a task may take to end when Nomad does not say: its own default of `kill_timeout`.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

impl Driver {
    /// Takes a task back that an earlier plugin, or this one, had started. Known tasks are fine already.
    pub(super) async fn recover(&self, request: RecoverTaskRequest) -> Result<(), Fault> {
        let handle = request.handle.ok_or_else(|| Fault::Request("the handle is missing".to_owned()))?;
        // Nomad leaves the id of the request empty, and the task's configuration too after a restart of the agent.
        let name = handle.config.map(|config| name_of(&config)).filter(|name| !name.id.is_empty());
        let name = name.ok_or_else(|| Fault::Request("the handle has no id of a task".to_owned()))?;
        let place = match self.store.keep_place(&name.id) {
            Ok(place) => place,
            Err(Occupied::Known(_)) => return Ok(()),
            Err(Occupied::Awaited) => return Err(being_started(&name)),
        };
        let record = task::read(&handle.driver_state).map_err(|error| Fault::Request(error.to_string()))?;
        match Self::found(&record).await? {
            Found::Running(supervisor) => {
                tracing::info!(task_id = name.id, pid = record.relay.pid, "took the task back");
                place.take(Arc::new(Task::running(name, supervisor, self.events.clone())));
            }
            Found::Ended(exit) => {
                tracing::info!(task_id = name.id, code = exit.code, "the task has ended meanwhile");
                place.take(Arc::new(Task::ended(name, record, exit)));
            }
        }
        Ok(())
    }

    /// Starts a task in a worker of its own: a client that gives up must not leave half of one. What it will never hear
    /// of is ended again.
    pub(super) async fn start(&self, config: TaskConfig) -> Result<TaskHandle, Fault> {
        let place = match self.store.keep_place(&config.id) {
            Ok(place) => place,
            Err(Occupied::Awaited) => return Err(being_started(&name_of(&config))),
            Err(Occupied::Known(known)) => self.replace(&known)?,
        };
        let driver = self.clone();
        let (answer, answered) = oneshot::channel();
        let (taken, told) = oneshot::channel();
        tokio::spawn(async move {
            match driver.start_at(place, config).await {
                Err(fault) => drop(answer.send(Err(fault))),
                Ok((task, handle)) => {
                    drop(answer.send(Ok(handle)));
                    // The client may have gone before the answer, or between it and its reading.
                    if told.await.is_err() {
                        driver.end_unheard(&task).await;
                    }
                }
            }
        });
        let handle = answered.await.map_err(|_| Fault::Internal("the start was given up".to_owned()))??;
        // The worker waits for this as long as there can be one.
        let _ = taken.send(());
        Ok(handle)
    }

    /// How a task ended, when it has.
    pub(super) async fn wait(&self, id: &str) -> Result<WaitTaskResponse, Fault> {
        let exit = self.known(id)?.exit().await;
        Ok(WaitTaskResponse::new(task::result(&exit), exit.error))
    }

    /// Ends a task. One that is not known needs no end; any other answer would make Nomad ask for minutes.
    pub(super) async fn stop(&self, request: StopTaskRequest) -> Result<(), Fault> {
        let Some(task) = self.store.find(&request.task_id) else { return Ok(()) };
        let Stage::Running(supervisor) = task.stage() else { return Ok(()) };
        let patience = match request.timeout {
            // A negative duration is no patience.
            Some(timeout) => Duration::try_from(timeout).unwrap_or_default(),
            None => KILL_TIMEOUT,
        };
        let signal = self.stop_signal(&task, &request.signal);
        let stopping = tokio::spawn(async move {
            supervisor.stop(patience, signal).await.map(drop)?;
            drop(task.exit().await);
            Ok::<(), std::io::Error>(())
        });
        stopping.await?.map_err(|error| Fault::Internal(format!("the task cannot be stopped: {error}")))
    }

    /// Removes everything of a task.
    pub(super) async fn destroy(&self, request: DestroyTaskRequest) -> Result<(), Fault> {
        let Some(task) = self.store.find(&request.task_id) else { return Ok(()) };
        if matches!(task.stage(), Stage::Running(_)) && !request.force {
            return Err(Fault::Conflict("the task runs: stop it first, or destroy it by force".to_owned()));
        }
        let driver = self.clone();
        tokio::spawn(async move { driver.end(&task).await }).await?
    }

    /// What became of a task. Of a lost one nothing is left for Nomad to destroy, so its remains are removed here.
    async fn found(record: &Record) -> Result<Found, Fault> {
        match Supervisor::reconnect(record).await {
            Ok(found) => Ok(found),
            Err(lost @ RecoverError::Lost) => {
                if let Err(error) = record.destroy().await {
                    tracing::warn!(directory = %record.directory.display(), %error, "the remains of a task are left");
                }
                record.cgroups.remove();
                Err(lost.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The task of that id.
    pub(super) fn known(&self, id: &str) -> Result<Arc<Task>, Fault> {
        self.store.find(id).ok_or(Fault::UnknownTask)
    }

    /// The place of a task that has ended already and is to be started again under the same id.
    fn replace(&self, known: &Arc<Task>) -> Result<Place, Fault> {
        let id = &known.name().id;
        match known.stage() {
            Stage::Running(_) => Err(Fault::Final(format!("the task {id} runs already"))),
            Stage::Ended(_) => {
                self.store.forget(known);
                self.store.keep_place(id).map_err(|_| being_started(known.name()))
            }
        }
    }

    async fn end_unheard(&self, task: &Arc<Task>) {
        let task_id = &task.name().id;
        tracing::warn!(task_id, "nobody waits for the start any more: ending the task");
        if let Err(error) = self.end(task).await {
            tracing::error!(task_id, "the task is left: {error}");
        }
    }

    async fn start_at(&self, place: Place, config: TaskConfig) -> Result<(Arc<Task>, TaskHandle), Fault> {
        let agent = self.host.agent();
        let Prepared { launch, warnings } = task::prepare(&config, &agent)?;
        let (name, cgroups) = (launch.task.clone(), launch.cgroups.clone());
        let started = Supervisor::start(&Base::new(agent.state_dir), launch).await;
        let supervisor = match started {
            Ok(supervisor) => supervisor,
            Err(error) => {
                cgroups.remove();
                return Err(error.into());
            }
        };
        let state = task::write(supervisor.record()).map_err(|error| Fault::Internal(error.to_string()))?;
        tracing::info!(task_id = name.id, pid = supervisor.record().relay.pid, "started the task");
        let task = Arc::new(Task::running(name.clone(), supervisor, self.events.clone()));
        place.take(Arc::clone(&task));
        for warning in warnings {
            self.events.tell(&name, warning);
        }
        Ok((task, TaskHandle::running(task::version(), config, state)))
    }

    /// Ends the task if it runs, removes everything of it, and forgets it.
    async fn end(&self, task: &Arc<Task>) -> Result<(), Fault> {
        let destroyed = task.record().destroy().await;
        task.record().cgroups.remove();
        self.store.forget(task);
        destroyed.map_err(|error| Fault::Internal(format!("something of the task is left: {error}")))
    }

    /// The signal of a stop. One that does not exist must not keep the task alive.
    fn stop_signal(&self, task: &Task, name: &str) -> Option<Signal> {
        if name.is_empty() {
            return None;
        }
        match signal::parse(name) {
            Ok(signal) => Some(signal),
            Err(error) => {
                self.events.tell(task.name(), format!("kill_signal: {error}; draining as for SIGTERM"));
                None
            }
        }
    }
}

fn name_of(config: &TaskConfig) -> TaskName {
    TaskName { id: config.id.clone(), alloc_id: config.alloc_id.clone(), name: config.name.clone() }
}

fn being_started(name: &TaskName) -> Fault {
    Fault::Transient(format!("the task {} is being started already", name.id))
}
