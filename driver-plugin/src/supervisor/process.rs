//! The relay's process, as its supervisor sees it: born, brought up, accompanied, and seen to its end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::channel::Channel;
use super::launch::{Launch, StartError};
use super::protocol::{Order, Report, Settlement};
use super::record::{Exit, Record};
use super::state::State;
use super::{PROGRAM, logs, sockets};
use crate::clock;
use crate::identity::Identity;
use crate::relay;
use crate::resources::Cgroups;
use crate::signal::Signal;
use crate::user::Account;

/// The program that this process runs, even if its file has been replaced since.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long the log collector may take to open its end of a FIFO.
const READER_TIME: Duration = Duration::from_secs(8);
/// How long a relay may take to end by itself after it said that it does, and its last words to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A relay's process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    child: Child,
    identity: Identity,
    channel: Channel,
    cgroups: Cgroups,
    oom_kills_before: u64,
}

impl Relay {
    /// Starts the process.
    ///
    /// # Errors
    /// When its log cannot be opened, its user does not exist, or there can be no more processes.
    pub(super) async fn start(launch: &Launch) -> Result<Self, StartError> {
        let owner = launch.user.as_deref().map(Account::find).transpose();
        let owner = owner.map_err(|error| StartError::Fatal(error.to_string()))?;
        let (stdout, stderr) = tokio::try_join!(
            open_log(&launch.stdout, owner.as_ref()),
            open_log(&launch.stderr, owner.as_ref())
        )?;
        let oom_kills_before = launch.cgroups.oom_kills();
        let (child, channel) = spawn(launch, stdout, stderr)
            .map_err(|error| StartError::Transient(format!("cannot start the relay: {error}")))?;
        // Nobody has waited for it yet, so it has a number, which still means it.
        let identity = Identity::of_child(child.id().unwrap_or_default()).map_err(|error| unready(&error))?;
        let cgroups = launch.cgroups.clone();
        Ok(Self { child, identity, channel, cgroups, oom_kills_before })
    }

    /// Tells it what to be, gives it its sockets, and waits until it is up.
    ///
    /// # Errors
    /// Why it did not come up.
    pub(super) async fn come_up(&mut self, launch: &Launch, state: &State) -> Result<Record, StartError> {
        match self.converse(launch, state).await {
            Ok(Ok(())) => Ok(Record {
                supervisor: Identity::of_this_process().map_err(|error| unready(&error))?,
                relay: self.identity.clone(),
                directory: state.directory.clone(),
                cgroups: self.cgroups.clone(),
                started_at: clock::now(),
            }),
            Ok(Err(error)) => Err(error),
            // As a rule the conversation breaks off because the process has ended, which says more.
            Err(error) => match timeout(LAST_WORDS, self.child.wait()).await {
                Ok(Ok(status)) => {
                    Err(StartError::Transient(format!("the relay ended before it was up: {status}")))
                }
                Ok(Err(error)) => Err(unready(&error)),
                Err(_) => Err(unready(&error)),
            },
        }
    }

    /// The outer error is one of the conversation itself, the inner one what the relay says.
    async fn converse(&mut self, launch: &Launch, state: &State) -> io::Result<Result<(), StartError>> {
        let settlement = Settlement {
            settings: launch.settings.clone(),
            directory: launch.directory.clone(),
            user: launch.user.clone(),
            cgroups: launch.cgroups.clone(),
            oom_score_adj: launch.oom_score_adj,
        };
        self.channel.send(&Order::Settle(Box::new(settlement))).await?;
        loop {
            match self.channel.receive().await? {
                Some(Report::Wants(addresses)) => {
                    let obtained = sockets::obtain(&state.shelf, &addresses, &state.directory).await;
                    if let Err(error) = obtained {
                        return Ok(Err(error));
                    }
                    sockets::lend(&self.channel, &state.shelf, Order::Sockets).await?;
                }
                Some(Report::NotStarted(error)) => return Ok(Err(error)),
                Some(Report::News(news)) => state.board.send_modify(|board| board.post(news)),
                Some(Report::Up) => return Ok(Ok(())),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Passes orders and news until the process has ended, and tells how it did.
    pub(super) async fn accompany(mut self, state: &State, orders: &mut mpsc::Receiver<Order>) -> Exit {
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                report = self.channel.receive(), if open => open = heard(report, state),
                Some(order) = orders.recv() => {
                    // One that does not read its orders is killed when its time is over.
                    let _ = self.channel.send(&order).await;
                }
            }
        };
        // It has ended, but what it said last may not have been read.
        while open {
            let report = timeout(LAST_WORDS, self.channel.receive()).await;
            open = report.is_ok_and(|report| heard(report, state));
        }
        let grown = self.cgroups.oom_kills() > self.oom_kills_before;
        // Whatever ran beside it must not live on in groups that the next task gets.
        let cgroups = self.cgroups.clone();
        let killed = tokio::task::spawn_blocking(move || cgroups.kill_all()).await;
        let mut exit = match status {
            Ok(status) => {
                let exit = Exit::of(status, false);
                Exit { oom_killed: grown && exit.signal == Signal::KILL.number(), ..exit }
            }
            Err(error) => Exit::unseen(format!("cannot wait for the relay: {error}")),
        };
        if let Ok(Err(error)) = killed {
            exit.error.get_or_insert_with(|| format!("processes of the task are left: {error}"));
        }
        exit
    }

    /// Ends the process: by itself, if it is about to, or else at once.
    pub(super) async fn end(mut self) {
        if timeout(LAST_WORDS, self.child.wait()).await.is_err() {
            // It is there until somebody has waited for it, so it can be killed.
            let _ = self.child.kill().await;
        }
    }
}

/// Takes a report in, and tells whether there can be more.
fn heard(report: io::Result<Option<Report>>, state: &State) -> bool {
    match report {
        Ok(Some(Report::News(news))) => {
            state.board.send_modify(|board| board.post(news));
            true
        }
        // It is up already, and has its sockets.
        Ok(Some(Report::Up | Report::Wants(_) | Report::NotStarted(_))) => true,
        Ok(None) | Err(_) => false,
    }
}

async fn open_log(path: &Path, owner: Option<&Account>) -> Result<File, StartError> {
    let opened = logs::open(path, owner, READER_TIME).await;
    opened.map_err(|error| StartError::Transient(format!("cannot open the log {}: {error}", path.display())))
}

/// Our copies of its standard streams are closed when the command is dropped: the last writer's close is how the log
/// collector sees the end.
fn spawn(launch: &Launch, stdout: File, stderr: File) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(THIS_PROGRAM)
        .arg0(PROGRAM)
        .arg(relay::ROLE)
        .env_clear()
        .envs(&launch.environment)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, Channel::new(UnixStream::from_std(ours)?)))
}

fn unready(error: &io::Error) -> StartError {
    StartError::Transient(format!("the relay did not come up: {error}"))
}
