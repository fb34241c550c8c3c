//! The role `exec-shim`: becomes what a command needs to be, and then the command.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fchown, fstat};
use rustix::process::{fchdir, geteuid, ioctl_tiocsctty, setsid, umask};
use rustix::stdio::dup2_stdin;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::runtime;

use super::{ExecSpec, signal_dispositions};
use crate::channel::Channel;
use crate::roles::close_inherited_descriptors;
use crate::safe_open;
use crate::user::Account;

/// How long the plugin may take to send the request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// A shell's exit code for a program that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// A shell's exit code for a program that does not exist.
const NOT_FOUND: u8 = 127;

/// What the plugin sends its shim. The command's standard input comes with it as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub(super) spec: ExecSpec,
    /// Whether standard input is a terminal, which becomes the controlling terminal.
    pub(super) terminal: bool,
}

/// Why the shim did not become the command.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("{0}: {1}")]
    Step(&'static str, #[source] io::Error),
    #[error("commands in a task do not run as root, and the task has no user")]
    Root,
    #[error("cannot run `{0}`: {1}")]
    Command(String, #[source] io::Error),
}

/// Becomes the command that arrives over standard input, which is a socket. Returns only after a failure, with the
/// exit code of a shell: 127 for a program that does not exist, else 126. The reason is on standard error.
#[must_use]
pub fn shim() -> ExitCode {
    let Err(error) = become_command();
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::from(match error {
        ShimError::Command(_, error) if error.kind() == ErrorKind::NotFound => NOT_FOUND,
        ShimError::Command(..) | ShimError::Step(..) | ShimError::Root => NOT_EXECUTABLE,
    })
}

fn become_command() -> Result<Infallible, ShimError> {
    step("cannot close inherited descriptors", close_inherited_descriptors())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = step("cannot start the runtime", runtime)?;
    let _entered = runtime.enter();
    let (ExecRequest { spec, terminal }, stdin) =
        step("cannot receive the command", runtime.block_on(receive()))?;
    step("cannot join the task's cgroup", spec.cgroups.join())?;
    step("cannot replace standard input", dup2_stdin(stdin).map_err(io::Error::from))?;
    step("cannot start a session", start_session(terminal))?;
    step("cannot reset the signals", signal_dispositions::reset())?;
    umask(Mode::WGRP | Mode::WOTH);
    // The agent may be protected from the OOM killer; a command in a task is not.
    step("cannot reset oom_score_adj", fs::write("/proc/self/oom_score_adj", "0"))?;
    // Before the user changes: the task's user may not be allowed to enter Nomad's data directory.
    step("cannot change to the task's directory", enter(&spec.directory))?;
    let mut environment = spec.environment;
    if let Some(account) = &spec.account {
        environment.extend(login_variables(account));
        chown_streams(account);
        step("cannot change to the task's user", account.assume())?;
    } else if geteuid().is_root() {
        return Err(ShimError::Root);
    }
    let (program, arguments) = spec.command.split_first().ok_or_else(|| {
        ShimError::Command(String::new(), io::Error::new(ErrorKind::InvalidInput, "the command is empty"))
    })?;
    // The program is looked up in the PATH of this environment.
    let error = Command::new(program).args(arguments).env_clear().envs(&environment).exec();
    Err(ShimError::Command(program.clone(), error))
}

fn step<T>(what: &'static str, done: io::Result<T>) -> Result<T, ShimError> {
    done.map_err(|error| ShimError::Step(what, error))
}

async fn receive() -> io::Result<(ExecRequest, OwnedFd)> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let mut channel = Channel::new(UnixStream::from_std(stream)?);
    let request = Box::pin(channel.expect(REQUEST_TIME)).await?;
    let stdin = channel.take_descriptors(1)?.pop().ok_or(ErrorKind::InvalidData)?;
    Ok((request, stdin))
}

/// Leaves the agent's terminal and process group, and takes the command's terminal if it has one.
fn start_session(terminal: bool) -> io::Result<()> {
    setsid()?;
    if terminal {
        ioctl_tiocsctty(io::stdin())?;
    }
    Ok(())
}

/// Root follows no symbolic link here. The path's parents are those of the allocation, which only root can write.
fn enter(directory: &Path) -> io::Result<()> {
    let parent = directory.parent().unwrap_or(directory);
    Ok(fchdir(safe_open::open(parent, directory, OFlags::PATH | OFlags::DIRECTORY)?)?)
}

/// What a login sets.
fn login_variables(account: &Account) -> [(String, String); 3] {
    let name = account.label();
    let home = account.home.to_string_lossy().into_owned();
    [("HOME", home), ("USER", name.clone()), ("LOGNAME", name)]
        .map(|(variable, value)| (variable.to_owned(), value))
}

/// Gives the pipes or the terminal to the user: they were created by root, and a command may open them again, as
/// `/dev/stderr` or by the terminal's name. A failure matters to such commands only.
fn chown_streams(account: &Account) {
    let uid = rustix::fs::Uid::from_raw(account.uid);
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if is_pipe_or_terminal(stream) {
            let _ = fchown(stream, Some(uid), None);
        }
    }
}

/// Anything else, such as `/dev/null`, belongs to others too.
fn is_pipe_or_terminal(stream: BorrowedFd<'_>) -> bool {
    match fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Fifo) => true,
        Ok(FileType::CharacterDevice) => rustix::termios::isatty(stream),
        Ok(_) | Err(_) => false,
    }
}
