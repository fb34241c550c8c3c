//! Commands beside the relay, in the task's cgroup, environment and user: `nomad alloc exec`, script checks.
//!
//! ```text
//! plugin ── run, stream ──(socket on its standard input)── enter ── exec ── the command
//!           pipes or a terminal                            settles itself,
//!                                                          then becomes it
//! ```
//!
//! Between its start and the command's, the process has to become what the command is to be: in the cgroups, leader of a
//! session, of the task's user. That takes this program itself in the role `enter`, since nothing of it can be done
//! safely between fork and exec. What it needs comes over a socket, because arguments and environment can be
//! read by others, and the environment of a task would already act on the program that has not settled yet.

mod dispositions;
mod enter;
mod output;
mod process;
mod run;
mod stdin;
mod stream;
mod terminal;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nomad_plugin_proto::driver::{ExecTaskResponse, ExitResult};
use serde::{Deserialize, Serialize};

use crate::resources::Cgroups;

pub use enter::enter;
pub use run::run;
pub use stream::{Response, stream};

/// The argument that makes this program the trampoline of a command.
pub const ROLE: &str = "enter";

/// The program of a shell's exit code "cannot be executed".
const NOT_EXECUTABLE: u8 = 126;
/// A shell's exit code "no such command".
const NOT_FOUND: u8 = 127;

/// A command and everything that it is to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The program, by path or by its name in the `PATH` of the environment, and its arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it works: the task's directory.
    pub directory: PathBuf,
    /// Whom it runs as: a name, a number or `nomad-<number>`; as the plugin without one.
    pub user: Option<String>,
    /// Where it belongs.
    pub cgroups: Cgroups,
}

/// Without what may be secret: of the environment only the names are shown, of the command only the program.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("program", &self.command.first())
            .field("environment", &self.environment.keys())
            .field("directory", &self.directory)
            .field("user", &self.user)
            .field("cgroups", &self.cgroups)
            .finish_non_exhaustive()
    }
}

/// What a command wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The end of both its outputs, in the order in which it wrote them.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// Why a command was not seen to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There was no word in it.
    #[error("the command is empty")]
    Empty,
    /// Its environment is too large to be passed on.
    #[error("the command and its environment are too large")]
    TooLarge(#[source] io::Error),
    /// No process, pipe or terminal could be had.
    #[error("the command could not be started")]
    NotStarted(#[source] io::Error),
    /// It was killed, with everything that it had started.
    #[error("the command did not end within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The kernel does not tell how it ended.
    #[error("the command was lost")]
    Lost(#[source] io::Error),
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            // Stopped and continued are not waited for.
            (None, None) => Self::Exited(i32::from(NOT_EXECUTABLE)),
        }
    }
}

impl From<Ending> for ExitResult {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Exited(code) => Self::exited(code),
            Ending::Signalled(signal) => Self::signalled(signal, false),
        }
    }
}

impl From<Output> for ExecTaskResponse {
    fn from(output: Output) -> Self {
        Self::new(output.bytes, Vec::new(), output.ending.into())
    }
}
