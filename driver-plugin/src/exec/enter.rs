//! The role `enter`: becomes what a command is to be, and then the command.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::unistd::{Uid, User};
use rustix::fs::{FileType, Mode, fchown, fstat};
use rustix::process::{ioctl_tiocsctty, setsid, umask};
use rustix::stdio::dup2_stdin;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::runtime;

use super::{Entry, NOT_EXECUTABLE, NOT_FOUND, dispositions};
use crate::supervisor::channel::Channel;
use crate::supervisor::close_inherited;
use crate::user::{Account, UnknownUser};

/// How long the plugin may take to say what to run.
const ENTRY_TIME: Duration = Duration::from_secs(10);

/// What the plugin tells its trampoline; the command's standard input comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Passage {
    pub(super) entry: Entry,
    /// Whether the standard streams are a terminal that is to be the session's own.
    pub(super) terminal: bool,
}

/// Why there is no command to be.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}: {1}")]
    Step(&'static str, #[source] io::Error),
    #[error(transparent)]
    User(#[from] UnknownUser),
    #[error("cannot run `{0}`: {1}")]
    Command(String, #[source] io::Error),
}

/// Becomes the command that comes over the standard input, which must be a socket. Returns only when it cannot: with a
/// shell's exit code, 127 when there is no such command, else 126, and the reason on standard error.
#[must_use]
pub fn enter() -> ExitCode {
    let Err(failure) = settle();
    // Whoever asked for the command may be gone.
    let _ = writeln!(io::stderr(), "{failure}");
    ExitCode::from(match failure {
        Failure::Command(_, error) if error.kind() == ErrorKind::NotFound => NOT_FOUND,
        Failure::Command(..) | Failure::Step(..) | Failure::User(_) => NOT_EXECUTABLE,
    })
}

fn settle() -> Result<Infallible, Failure> {
    step("cannot close what was inherited", close_inherited())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = step("cannot start", runtime)?;
    let _inside = runtime.enter();
    let (Passage { entry, terminal }, stdin) = step("cannot learn what to run", runtime.block_on(receive()))?;
    step("cannot join the task's cgroup", entry.cgroups.join())?;
    step("cannot take the standard input", dup2_stdin(stdin).map_err(io::Error::from))?;
    step("cannot begin a session", begin_session(terminal))?;
    step("cannot reset the signals", dispositions::reset())?;
    umask(Mode::WGRP | Mode::WOTH);
    // The agent may be protected from the want of memory; what operators run beside a task must not be.
    step("cannot reset the OOM score", fs::write("/proc/self/oom_score_adj", "0"))?;
    // Still as root, as the relay does it: where Nomad keeps its data may be closed to the task's user.
    step("cannot enter the task's directory", env::set_current_dir(&entry.directory))?;
    let account = entry.user.as_deref().map(Account::find).transpose()?;
    let mut environment = entry.environment;
    if let Some(account) = account {
        environment.extend(home(&account));
        give_streams(&account);
        step("cannot become the task's user", account.assume())?;
    }
    let (program, arguments) = entry.command.split_first().ok_or_else(|| {
        Failure::Command(String::new(), io::Error::new(ErrorKind::InvalidInput, "the command is empty"))
    })?;
    // Looks the program up in the PATH of this environment.
    let error = Command::new(program).args(arguments).env_clear().envs(&environment).exec();
    Err(Failure::Command(program.clone(), error))
}

fn step<T>(what: &'static str, done: io::Result<T>) -> Result<T, Failure> {
    done.map_err(|error| Failure::Step(what, error))
}

async fn receive() -> io::Result<(Passage, OwnedFd)> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let mut channel = Channel::new(UnixStream::from_std(stream)?);
    let passage = Box::pin(channel.expect(ENTRY_TIME)).await?;
    let mut descriptors = channel.take_descriptors(1)?;
    let stdin = descriptors.pop().ok_or(ErrorKind::InvalidData)?;
    Ok((passage, stdin))
}

/// Away from the agent's terminal and from signals to its group; with a terminal of its own where there is one.
fn begin_session(terminal: bool) -> io::Result<()> {
    setsid()?;
    if terminal {
        ioctl_tiocsctty(io::stdin())?;
    }
    Ok(())
}

/// What a login would set. One of Nomad's dynamic users has no home.
fn home(account: &Account) -> Vec<(String, String)> {
    let known = User::from_uid(Uid::from_raw(account.uid)).ok().flatten();
    let home =
        known.map_or_else(|| "/nonexistent".to_owned(), |user| user.dir.to_string_lossy().into_owned());
    let name = account.name.clone().unwrap_or_else(|| account.uid.to_string());
    let variables = [("HOME", home), ("USER", name.clone()), ("LOGNAME", name)];
    variables.map(|(variable, value)| (variable.to_owned(), value)).into()
}

/// Pipes and the terminal were made for this command by root. Who opens them once more, as `/dev/stderr` or by the
/// terminal's name, must be their owner. Where that does not succeed only such commands suffer.
fn give_streams(account: &Account) {
    let uid = rustix::fs::Uid::from_raw(account.uid);
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if is_own(stream) {
            let _ = fchown(stream, Some(uid), None);
        }
    }
}

fn is_own(stream: BorrowedFd<'_>) -> bool {
    let kind = fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::Fifo) => true,
        Ok(FileType::CharacterDevice) => rustix::termios::isatty(stream),
        Ok(_) | Err(_) => false,
    }
}
