//! The plugin's side of a supervisor: what can be asked of a task that runs, or ran.

mod evict;
mod launcher;
mod release;

use std::future::pending;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

pub use self::evict::evict;
use self::evict::{ask_to_end, ensure_ended, kill_processes};
pub use self::launcher::Launcher;
pub use self::release::{ReleaseError, TaskSockets, Wanted, release};
use super::control_socket::{describe, is_gone, request, unexpected};
use super::deadlines;
use super::launch::LaunchSpec;
use super::protocol::{Description, QueuedEvent, Reply, Request};
use super::record::{TaskExit, TaskRecord, remove_directory};
use crate::channel::Channel;
use crate::process_id::ProcessId;
use crate::signal::Signal;

/// The pause before a supervisor that did not reply is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// A task that has started, reached through its supervisor. Clones refer to the same task.
#[derive(Clone, Debug)]
pub struct SupervisorClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: TaskRecord,
    /// The proxy process that runs, or ran last, as far as is known here.
    proxy: Mutex<ProcessId>,
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
    /// Its supervisor did not reply. Nomad gives such a task up, so it was ended.
    #[error(
        "the supervisor of the task did not reply within {:?}: it was killed with its proxy process",
        deadlines::RECOVER
    )]
    Unresponsive(#[source] io::Error),
    /// Its supervisor does not reply, and the task cannot be ended.
    #[error("the supervisor of the task does not reply, and its proxy process cannot be killed")]
    Stuck(#[source] io::Error),
    /// It is not known whether it runs.
    #[error("the state of the task cannot be read")]
    Unreadable(#[source] io::Error),
}

impl SupervisorClient {
    fn of(record: TaskRecord) -> Self {
        let proxy = Mutex::new(record.proxy.clone());
        Self(Arc::new(Inner { record, proxy, exit: OnceCell::new() }))
    }

    /// Where to find the task again.
    pub fn record(&self) -> &TaskRecord {
        &self.0.record
    }

    /// The proxy process that runs, or ran last. It is another one than in the record once the supervisor has started
    /// it again.
    #[must_use]
    pub fn proxy(&self) -> ProcessId {
        self.0.proxy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An older supervisor tells none, and starts none again.
    fn set_proxy(&self, proxy: Option<ProcessId>) {
        if let Some(proxy) = proxy {
            *self.0.proxy.lock().unwrap_or_else(PoisonError::into_inner) = proxy;
        }
    }

    /// Finds a task that an earlier plugin started. A supervisor that does not reply within ten seconds is killed with
    /// its proxy process: Nomad gives a task up that cannot be recovered, and it must not go on accepting clients.
    ///
    /// # Errors
    /// When neither the task nor its exit is found.
    pub async fn recover(record: &TaskRecord) -> Result<Recovered, RecoverError> {
        let deadline = Instant::now() + deadlines::RECOVER;
        loop {
            match describe(&record.directory).await {
                Ok(Description { record: Some(found), proxy, exit, .. }) if found == *record => {
                    let client = Self::of(found);
                    client.set_proxy(proxy);
                    return Ok(exit.map_or(Recovered::Running(client), Recovered::Exited));
                }
                Ok(_) => return Err(RecoverError::OtherTask(record.directory.display().to_string())),
                Err(_) if !record.supervisor.alive() => break,
                Err(error) if Instant::now() >= deadline => {
                    kill_processes(&record.directory, Some(record)).await.map_err(RecoverError::Stuck)?;
                    return Err(RecoverError::Unresponsive(in_directory(record, &error)));
                }
                // A supervisor that is about to end closes its connections first.
                Err(_) => sleep(RETRY).await,
            }
        }
        // A supervisor records the exit before it stops replying.
        match TaskExit::read(&record.directory).map_err(RecoverError::Unreadable)? {
            Some(exit) => Ok(Recovered::Exited(exit)),
            None => {
                ensure_ended(record).await.map_err(RecoverError::Stuck)?;
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
        // Either the supervisor is gone, and the proxy process follows it; or it is stuck, and both are killed.
        ensure_ended(&self.0.record).await?;
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
            let proxy = self.proxy();
            let overdue = async {
                proxy.ended().await;
                sleep(deadlines::LAST_REPORTS).await;
            };
            let mut told = pin!(self.told_exit());
            let exit = tokio::select! {
                exit = &mut told => exit,
                () = overdue => self.after_end_of(&proxy, told).await,
            };
            if let Some(exit) = exit {
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
            let ended = ensure_ended(record).await;
            let left = ended
                .err()
                .map(|error| format!("; the proxy process still runs: {error}"))
                .unwrap_or_default();
            return TaskExit::unknown(format!("the supervisor ended early: {problem}{left}"));
        }
    }

    /// The exit, once the supervisor tells it; `None` when the connection ends without.
    async fn told_exit(&self) -> Option<TaskExit> {
        let mut channel = self.request(&Request::Wait).await.ok()?;
        match channel.receive().await {
            Ok(Some(Reply::Exited(exit))) => Some(exit),
            _ => None,
        }
    }

    /// The exit, after a proxy process has ended. `None` when the supervisor has started another one, or is gone. A
    /// supervisor that does neither that nor tell the exit is stuck, and is killed. One whose disk hangs tells it late, and
    /// takes no more connections by then: so `told` is still listened to.
    async fn after_end_of(
        &self,
        ended: &ProcessId,
        told: impl Future<Output = Option<TaskExit>>,
    ) -> Option<TaskExit> {
        let told_late = async {
            match told.await {
                Some(exit) => exit,
                None => pending().await,
            }
        };
        tokio::select! {
            exit = told_late => Some(exit),
            exit = self.looked_up_after_end_of(ended) => exit,
        }
    }

    /// The same over new connections.
    async fn looked_up_after_end_of(&self, ended: &ProcessId) -> Option<TaskExit> {
        let record = &self.0.record;
        let began = Instant::now();
        loop {
            let limit = match describe(&record.directory).await {
                Ok(Description { exit: Some(exit), .. }) => return Some(exit),
                Ok(Description { proxy: Some(proxy), .. }) if proxy != *ended => {
                    self.set_proxy(Some(proxy));
                    return None;
                }
                // It may be starting the process again.
                Ok(_) => deadlines::START,
                Err(_) if !record.supervisor.alive() => return None,
                Err(_) => deadlines::REPLY,
            };
            if began.elapsed() >= limit {
                break;
            }
            sleep(RETRY).await;
        }
        let problem = kill_processes(&record.directory, Some(record)).await.err();
        let problem = problem.map(|error| format!("; {error}")).unwrap_or_default();
        Some(TaskExit::unknown(format!("the supervisor did not tell how the task exited{problem}")))
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
        let reply = self.request(&Request::Describe).await?.expect(deadlines::REPLY).await?;
        let Reply::Description(description) = reply else { return Err(unexpected(&reply)) };
        description.launch.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Sends the supervisor a request. After a loss of its directory it is back at its path within two seconds.
    async fn request(&self, message: &Request) -> io::Result<Channel> {
        let record = &self.0.record;
        let began = Instant::now();
        loop {
            match request(&record.directory, message).await {
                Err(error)
                    if is_gone(&error) && record.supervisor.alive() && began.elapsed() < deadlines::REPLY =>
                {
                    sleep(RETRY).await;
                }
                done => return done,
            }
        }
    }
}

/// The same error with the directory in which no supervisor replies.
fn in_directory(record: &TaskRecord, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", record.directory.display()))
}

/// Kills the task if it still runs, and has everything of it removed. Its sockets are kept as long as they would be
/// without this, unless the supervisor does not reply and is killed.
///
/// # Errors
/// When something is left.
pub async fn destroy(record: &TaskRecord) -> io::Result<()> {
    if ask_to_end(&record.directory).await.is_ok() {
        return Ok(());
    }
    // It may have been about to end when it was asked.
    let _ = timeout(deadlines::LAST_CONNECTIONS, record.supervisor.ended()).await;
    ensure_ended(record).await?;
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
