//! The plugin's side of a supervisor: what can be asked of a task that runs, or ran.

mod launcher;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

pub use self::launcher::Launcher;
use super::control_socket::{describe, is_gone, request, unexpected};
use super::deadlines;
use super::launch::LaunchSpec;
use super::protocol::{Description, QueuedEvent, Reply, Request};
use super::record::{TaskExit, TaskRecord, remove_directory};
use crate::channel::Channel;
use crate::signal::Signal;

/// The pause before a supervisor that did not reply is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is asked again before it counts as unresponsive.
const RETRIES: u32 = 2;

/// A task that has started, reached through its supervisor. Clones refer to the same task.
#[derive(Clone, Debug)]
pub struct SupervisorClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: TaskRecord,
    exit: OnceCell<TaskExit>,
}

/// What became of a task.
#[derive(Clone, Debug)]
pub enum Recovered {
    /// It runs.
    Running(SupervisorClient),
    /// It has exited.
    Exited(TaskExit),
}

/// Why a task cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Its supervisor is gone without recording an exit. Its proxy process is gone too.
    #[error("the supervisor of the task is gone and did not record how the task exited")]
    Lost,
    /// Its directory belongs to another task by now.
    #[error("the supervisor in {0} runs another task")]
    OtherTask(String),
    /// Its supervisor exists and does not reply.
    #[error("the supervisor of the task does not reply")]
    Unresponsive(#[source] io::Error),
    /// It is not known whether it runs.
    #[error("the state of the task cannot be read")]
    Unreadable(#[source] io::Error),
}

impl SupervisorClient {
    fn of(record: TaskRecord) -> Self {
        Self(Arc::new(Inner { record, exit: OnceCell::new() }))
    }

    /// Where to find the task again.
    pub fn record(&self) -> &TaskRecord {
        &self.0.record
    }

    /// Finds a task that an earlier plugin started.
    ///
    /// # Errors
    /// When neither the task nor its exit is found.
    pub async fn recover(record: &TaskRecord) -> Result<Recovered, RecoverError> {
        let mut retries = 0..RETRIES;
        loop {
            match describe(&record.directory).await {
                Ok(Description { record: Some(found), exit, .. }) if found == *record => {
                    return Ok(exit.map_or_else(|| Recovered::Running(Self::of(found)), Recovered::Exited));
                }
                Ok(_) => return Err(RecoverError::OtherTask(record.directory.display().to_string())),
                Err(error) if is_gone(&error) || !record.supervisor.alive() => break,
                Err(error) if retries.next().is_none() => return Err(RecoverError::Unresponsive(error)),
                // A supervisor that is about to end closes its connections first.
                Err(_) => sleep(RETRY).await,
            }
        }
        // A supervisor records the exit before it stops replying.
        match TaskExit::read(&record.directory).map_err(RecoverError::Unreadable)? {
            Some(exit) => Ok(Recovered::Exited(exit)),
            None => {
                ensure_terminated(record).await.map_err(RecoverError::Unreadable)?;
                Err(RecoverError::Lost)
            }
        }
    }

    /// Ends the task, and returns when it has exited.
    ///
    /// Without a signal, and for SIGTERM and SIGINT, the proxy accepts no more clients and terminates the sessions
    /// that are left after `kill_timeout`. Any other signal is sent as it is. Two seconds after `kill_timeout` the
    /// proxy process is killed; with a `kill_timeout` of zero at once.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub async fn stop(&self, kill_timeout: Duration, signal: Option<Signal>) -> io::Result<TaskExit> {
        if let Some(exit) = self.0.exit.get() {
            return Ok(exit.clone());
        }
        let stop = Request::Stop { kill_timeout, signal };
        let limit = kill_timeout.saturating_add(deadlines::STOP_GRACE + deadlines::STOP_REPLY);
        let stopping = async { self.request(&stop).await?.expect(limit).await };
        if let Ok(Reply::Exited(exit)) = stopping.await {
            return Ok(self.0.exit.get_or_init(async || exit).await.clone());
        }
        // Either the supervisor is gone, and the proxy process follows it; or it is stuck and cannot kill it.
        ensure_terminated(&self.0.record).await?;
        let exit = timeout(deadlines::REPLY, self.exited()).await;
        Ok(exit.unwrap_or_else(|_| TaskExit::unknown("the supervisor does not reply".to_owned())))
    }

    /// Sends the proxy process a signal. SIGHUP makes it read its configuration again.
    ///
    /// # Errors
    /// When the task has exited, or the signal cannot be sent.
    pub async fn signal(&self, signal: Signal) -> io::Result<()> {
        let reply = self.request(&Request::Signal(signal)).await?.expect(deadlines::REPLY).await?;
        if let Reply::Failed(problem) = reply {
            return Err(io::Error::other(problem));
        }
        if matches!(reply, Reply::Done) { Ok(()) } else { Err(unexpected(&reply)) }
    }

    /// Returns how the task exited, once it has. Any number of callers may wait.
    pub async fn exited(&self) -> TaskExit {
        self.0.exit.get_or_init(|| self.wait()).await.clone()
    }

    async fn wait(&self) -> TaskExit {
        let record = &self.0.record;
        loop {
            if let Ok(mut channel) = self.request(&Request::Wait).await
                && let Ok(Some(Reply::Exited(exit))) = channel.receive().await
            {
                return exit;
            }
            // Looked at before the file: a supervisor's file is complete once it has ended.
            let alive = record.supervisor.alive();
            let problem = match TaskExit::read(&record.directory) {
                Ok(Some(exit)) => return exit,
                Ok(None) | Err(_) if alive => {
                    sleep(RETRY).await;
                    continue;
                }
                Ok(None) => "it did not record how the task exited".to_owned(),
                Err(error) => error.to_string(),
            };
            let terminated = ensure_terminated(record).await;
            let left = terminated
                .err()
                .map(|error| format!("; the proxy process still runs: {error}"))
                .unwrap_or_default();
            return TaskExit::unknown(format!("the supervisor ended early: {problem}{left}"));
        }
    }

    /// The task's events, beginning with the first that no plugin has delivered.
    ///
    /// # Errors
    /// When the supervisor cannot be reached.
    pub async fn events(&self) -> io::Result<EventStream> {
        Ok(EventStream { channel: self.request(&Request::Events).await?, received: None })
    }

    /// What the task was started with.
    ///
    /// # Errors
    /// When the supervisor cannot be reached. It ends some time after the task.
    pub async fn launch_spec(&self) -> io::Result<LaunchSpec> {
        let launch = describe(&self.0.record.directory).await?.launch;
        launch.ok_or_else(|| ErrorKind::NotFound.into())
    }

    async fn request(&self, message: &Request) -> io::Result<Channel> {
        request(&self.0.record.directory, message).await
    }
}

/// Kills the task if it still runs, and has everything of it removed. Its sockets are kept as long as they would be
/// without this.
///
/// # Errors
/// When something is left.
pub async fn destroy(record: &TaskRecord) -> io::Result<()> {
    let destroying =
        async { request(&record.directory, &Request::Destroy).await?.expect(deadlines::REPLY).await };
    let error = match destroying.await {
        Ok(Reply::Done) => return Ok(()),
        Ok(other) => unexpected(&other),
        Err(error) => error,
    };
    // It may have been about to end when it was asked.
    if timeout(deadlines::REPLY, record.supervisor.ended()).await.is_err() {
        return Err(error);
    }
    ensure_terminated(record).await?;
    remove_directory(&record.directory)
}

/// The events of a task, in order.
#[derive(Debug)]
pub struct EventStream {
    channel: Channel,
    received: Option<u64>,
}

impl EventStream {
    /// The next event; `None` when there will be no more. Asking for it confirms that the previous one was delivered:
    /// an event that is not confirmed is sent to the next plugin again.
    pub async fn next(&mut self) -> Option<QueuedEvent> {
        if let Some(number) = self.received {
            self.channel.send(&Request::Delivered(number)).await.ok()?;
            self.received = None;
        }
        match self.channel.receive().await {
            Ok(Some(Reply::Event(event))) => {
                self.received = Some(event.number);
                Some(event)
            }
            _ => None,
        }
    }
}

/// Waits for the proxy process to exit if its supervisor is gone, and otherwise kills it.
async fn ensure_terminated(record: &TaskRecord) -> io::Result<()> {
    if !record.supervisor.alive() && timeout(deadlines::ORPHAN, record.proxy.ended()).await.is_ok() {
        return Ok(());
    }
    match record.proxy.signal(Signal::KILL) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(timeout(deadlines::ORPHAN, record.proxy.ended()).await?),
    }
}
