//! Commands in a task, in its cgroups, environment and user: `nomad alloc exec` and script checks.
//!
//! ```text
//! plugin ── run, stream ──(socket on standard input)── exec shim ── exec(2) ── the command
//!           pipes or a terminal
//! ```
//!
//! Between fork and exec only unsafe code could join cgroups or change the user. So the plugin starts this executable
//! in the role `exec-shim`, which sets itself up and then becomes the command. It receives the [`ExecSpec`] over a
//! socket: others can read arguments and environment of a process, and the task's environment must not act on the
//! shim, which still is root.

mod output;
mod process;
mod run;
mod session;
mod shim;
mod signal_dispositions;
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
use crate::user::Account;

pub use run::run;
#[cfg(any(test, fuzzing))]
pub(crate) use shim::ExecRequest;
pub use shim::shim;
pub use stream::{Response, stream};

/// A command and everything it needs from its task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program, as a path or as a name that is looked up in `PATH` of `environment`, and its arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory: the task's directory.
    pub directory: PathBuf,
    /// The task's user. Without one, the plugin's, which is not root then.
    pub account: Option<Account>,
    /// The task's cgroups.
    pub cgroups: Cgroups,
}

/// Shows the program without its arguments, and the names of the environment's variables without their values.
impl fmt::Debug for ExecSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSpec")
            .field("program", &self.command.first())
            .field("environment", &self.environment.keys())
            .field("directory", &self.directory)
            .field("account", &self.account)
            .field("cgroups", &self.cgroups)
            .finish_non_exhaustive()
    }
}

/// The result of a command that was run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The end of standard output and standard error, in the order in which they were written.
    pub bytes: Vec<u8>,
    /// How the command exited.
    pub status: ExitStatus,
}

/// Why a command did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no program in it.
    #[error("the command is empty")]
    Empty,
    /// The message to the shim would be too long.
    #[error("the command and its environment are too large")]
    TooLarge(#[source] io::Error),
    /// A process, a pipe or a terminal could not be created.
    #[error("the command could not be started")]
    NotStarted(#[source] io::Error),
    /// It was killed, with its session.
    #[error("the command did not exit within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The operating system does not tell how it exited.
    #[error("cannot wait for the command")]
    Lost(#[source] io::Error),
}

impl From<Output> for ExecTaskResponse {
    fn from(output: Output) -> Self {
        Self::new(output.bytes, Vec::new(), exit_result(output.status))
    }
}

/// An exit status in the form of the protocol.
fn exit_result(status: ExitStatus) -> ExitResult {
    match status.signal() {
        Some(signal) => ExitResult::signalled(signal, false),
        None => ExitResult::exited(status.code().unwrap_or_default()),
    }
}
