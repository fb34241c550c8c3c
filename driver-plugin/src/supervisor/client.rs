//! The plugin's side of a supervisor: what can be asked of a task that runs, or ran.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::channel::Channel;
use super::launch::Launch;
use super::protocol::{Description, Dispatch, Reply, Request};
use super::record::{Exit, Record, SOCKET, remove_directory};
use super::start::is_nobody;
use super::state::STOP_GRACE;
use crate::signal::Signal;

/// How long a supervisor may take for an answer that needs no waiting.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How much longer than the relay was given a stop may take before the supervisor counts as stuck.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long a relay may take to notice that its supervisor is gone, and to be gone after it was killed.
const ORPHAN_TIME: Duration = Duration::from_secs(5);
/// After how long a supervisor that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// How often one is asked again before it counts as silent.
const ATTEMPTS: u32 = 2;

/// A task that was up, by way of its supervisor. Clones mean the same task.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<Known>);

#[derive(Debug)]
struct Known {
    record: Record,
    exit: OnceCell<Exit>,
}

/// What became of a task.
#[derive(Clone, Debug)]
pub enum Found {
    /// It runs.
    Running(Supervisor),
    /// It has ended.
    Ended(Exit),
}

/// Why a task cannot be found again.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Its supervisor is gone and has left no exit; so is its relay by now.
    #[error("the supervisor of the task is gone and has not written down how the task ended")]
    Lost,
    /// Another task is where it should be.
    #[error("the supervisor in {0} has another task")]
    Mistaken(String),
    /// Its supervisor is there and does not answer.
    #[error("the supervisor of the task does not answer")]
    Silent(#[source] io::Error),
    /// It may run or not.
    #[error("what is left of the task cannot be read")]
    Unreadable(#[source] io::Error),
}

impl Supervisor {
    pub(super) fn of(record: Record) -> Self {
        Self(Arc::new(Known { record, exit: OnceCell::new() }))
    }

    /// Where to find the task again.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// Finds a task again that an earlier plugin had started.
    ///
    /// # Errors
    /// When neither the task nor its exit can be found.
    pub async fn reconnect(record: &Record) -> Result<Found, RecoverError> {
        let mut attempts = 1..=ATTEMPTS;
        loop {
            match describe(&record.directory).await {
                Ok(Description { record: Some(found), exit, .. }) if found == *record => {
                    return Ok(exit.map_or_else(|| Found::Running(Self::of(found)), Found::Ended));
                }
                Ok(_) => return Err(RecoverError::Mistaken(record.directory.display().to_string())),
                Err(error) if is_nobody(&error) || !record.supervisor.alive() => break,
                Err(error) if attempts.next().is_none() => return Err(RecoverError::Silent(error)),
                // One that is just ending breaks off its conversations first.
                Err(_) => sleep(RETRY).await,
            }
        }
        // The exit is written before the supervisor ceases to answer.
        match Exit::read(&record.directory).map_err(RecoverError::Unreadable)? {
            Some(exit) => Ok(Found::Ended(exit)),
            None => {
                bury(record).await.map_err(RecoverError::Unreadable)?;
                Err(RecoverError::Lost)
            }
        }
    }

    /// Ends the task, and returns when it has ended.
    ///
    /// Without a signal, and for SIGTERM and SIGINT, the relay accepts nobody any more, lets the sessions go on for
    /// `patience`, and severs the rest; any other signal is sent as it is. Two seconds after `patience` the relay is
    /// killed; at once if `patience` is zero.
    ///
    /// # Errors
    /// When the relay cannot be killed: the operating system does not let go of it.
    pub async fn stop(&self, patience: Duration, signal: Option<Signal>) -> io::Result<Exit> {
        if let Some(exit) = self.0.exit.get() {
            return Ok(exit.clone());
        }
        let request = Request::Stop { patience, signal };
        let limit = patience.saturating_add(STOP_GRACE + STOP_MARGIN);
        let stopping = async { self.ask(&request).await?.expect(limit).await };
        if let Ok(Reply::Ended(exit)) = stopping.await {
            return Ok(self.0.exit.get_or_init(async || exit).await.clone());
        }
        // The supervisor has ended, and the relay with it; or it is stuck, and then nobody else can do it.
        bury(&self.0.record).await?;
        let exit = timeout(ANSWER_TIME, self.exited()).await;
        Ok(exit.unwrap_or_else(|_| Exit::unseen("the supervisor does not answer".to_owned())))
    }

    /// Sends the relay a signal; SIGHUP makes it read its configuration again.
    ///
    /// # Errors
    /// When the task has ended, or the operating system does not take the signal.
    pub async fn signal(&self, signal: Signal) -> io::Result<()> {
        let reply = self.ask(&Request::Signal(signal)).await?.expect(ANSWER_TIME).await?;
        if let Reply::Failed(problem) = reply {
            return Err(io::Error::other(problem));
        }
        if matches!(reply, Reply::Done) { Ok(()) } else { Err(out_of_place(&reply)) }
    }

    /// How the task ended, when it has. Any number may wait.
    pub async fn exited(&self) -> Exit {
        self.0.exit.get_or_init(|| self.await_exit()).await.clone()
    }

    async fn await_exit(&self) -> Exit {
        let record = &self.0.record;
        loop {
            if let Ok(mut channel) = self.ask(&Request::Wait).await
                && let Ok(Some(Reply::Ended(exit))) = channel.receive().await
            {
                return exit;
            }
            // Asked first: what a supervisor leaves behind is complete once it has ended.
            let alive = record.supervisor.alive();
            match Exit::read(&record.directory) {
                Ok(Some(exit)) => return exit,
                Ok(None) | Err(_) if alive => sleep(RETRY).await,
                Ok(None) => return Self::unseen(record, "it has left no word of how the task ended").await,
                Err(error) => return Self::unseen(record, &error.to_string()).await,
            }
        }
    }

    async fn unseen(record: &Record, problem: &str) -> Exit {
        let buried = bury(record).await;
        let left = buried.err().map(|error| format!("; the relay is left: {error}")).unwrap_or_default();
        Exit::unseen(format!("the supervisor ended early: {problem}{left}"))
    }

    /// The news, from the first that no plugin has passed on yet.
    ///
    /// # Errors
    /// When the supervisor cannot be reached.
    pub async fn news(&self) -> io::Result<NewsStream> {
        Ok(NewsStream { channel: self.ask(&Request::Follow).await?, passed_on: None })
    }

    /// What the task was started with.
    ///
    /// # Errors
    /// When the supervisor cannot be reached: it has ended, some time after the task.
    pub async fn launch(&self) -> io::Result<Launch> {
        let launch = describe(&self.0.record.directory).await?.launch;
        launch.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Ends the task if it still runs, and has everything of it removed. The sockets are kept as long as they would be.
    ///
    /// # Errors
    /// When something is left.
    pub async fn destroy(&self) -> io::Result<()> {
        self.0.record.destroy().await
    }

    async fn ask(&self, request: &Request) -> io::Result<Channel> {
        ask(&self.0.record.directory, request).await
    }
}

impl Record {
    /// As [`Supervisor::destroy`], for a task that has ended.
    ///
    /// # Errors
    /// When something is left.
    pub async fn destroy(&self) -> io::Result<()> {
        let asking = async { ask(&self.directory, &Request::Destroy).await?.expect(ANSWER_TIME).await };
        let error = match asking.await {
            Ok(Reply::Done) => return Ok(()),
            Ok(other) => out_of_place(&other),
            Err(error) => error,
        };
        // It may just be ending, without having heard of this.
        if timeout(ANSWER_TIME, self.supervisor.ended()).await.is_err() {
            return Err(error);
        }
        bury(self).await?;
        remove_directory(&self.directory)
    }
}

/// The news of a task, one after the other.
#[derive(Debug)]
pub struct NewsStream {
    channel: Channel,
    passed_on: Option<u64>,
}

impl NewsStream {
    /// The next piece of news; `None` when there will be no more. To ask for it says that the one before has been passed
    /// on: if nobody asks, the next plugin gets that one again.
    pub async fn next(&mut self) -> Option<Dispatch> {
        if let Some(number) = self.passed_on {
            self.channel.send(&Request::Delivered(number)).await.ok()?;
            self.passed_on = None;
        }
        match self.channel.receive().await {
            Ok(Some(Reply::News(dispatch))) => {
                self.passed_on = Some(dispatch.number);
                Some(dispatch)
            }
            _ => None,
        }
    }
}

/// Makes sure that the relay of a supervisor that has ended has ended too: it does so by itself, or is killed.
async fn bury(record: &Record) -> io::Result<()> {
    if !record.supervisor.alive() && timeout(ORPHAN_TIME, record.relay.ended()).await.is_ok() {
        return Ok(());
    }
    match record.relay.signal(Signal::KILL.raw()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(timeout(ORPHAN_TIME, record.relay.ended()).await?),
    }
}

/// What the supervisor in `directory` has.
pub(super) async fn describe(directory: &Path) -> io::Result<Description> {
    let reply = ask(directory, &Request::Describe).await?.expect(ANSWER_TIME).await?;
    if let Reply::Description(description) = reply { Ok(*description) } else { Err(out_of_place(&reply)) }
}

/// Begins a conversation with the supervisor in `directory`.
pub(super) async fn ask(directory: &Path, request: &Request) -> io::Result<Channel> {
    let channel = connect(directory).await?;
    channel.send(request).await?;
    Ok(channel)
}

pub(super) async fn connect(directory: &Path) -> io::Result<Channel> {
    // By way of a descriptor, since the path itself may be too long for a socket's address (unix(7): 108 bytes).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok(Channel::new(UnixStream::connect(path).await?))
}

pub(super) fn out_of_place(reply: &Reply) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the supervisor answered out of place: {reply:?}"))
}
