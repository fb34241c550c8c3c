//! What a supervisor writes down in its directory, for when it does not reply or is gone.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use tokio::time::timeout;

use super::state::{Phase, State};
use crate::process_id::ProcessId;
use crate::supervisor::record::{Holder, TaskExit};
use crate::supervisor::{deadlines, state_dir};

/// The records of one moment.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// The supervisor's directory.
    pub(super) directory: PathBuf,
    /// Who runs here, once somebody does.
    holder: Option<Holder>,
    /// How the task exited, if it has.
    exit: Option<TaskExit>,
}

impl Records {
    pub(super) fn of(state: &State) -> Self {
        let exit = match &*state.phase.borrow() {
            Phase::Exited(_, exit) => Some(exit.clone()),
            Phase::Starting | Phase::Running(_) | Phase::StartFailed => None,
        };
        let holder = state.launch.get().and_then(|launch| {
            let supervisor = ProcessId::of_this_process().ok()?;
            Some(Holder { task: launch.task.clone(), supervisor, proxy: state.proxy.borrow().clone() })
        });
        Self { directory: state.directory.clone(), holder, exit }
    }

    /// The records of a task that has just exited in this way.
    pub(super) fn of_exit(state: &State, exit: &TaskExit) -> Self {
        Self { directory: state.directory.clone(), holder: None, exit: Some(exit.clone()) }
    }

    /// Writes them. The disk may hang, and the supervisor's only thread must not.
    ///
    /// # Errors
    /// `TimedOut`, or what the operating system says.
    pub(super) async fn save(self) -> io::Result<()> {
        let saving = tokio::task::spawn_blocking(move || {
            self.create_directory()?;
            self.write()
        });
        timeout(deadlines::WRITE, saving).await?.map_err(io::Error::other)?
    }

    /// Creates the directory if it is lost. Blocks.
    ///
    /// # Errors
    /// As [`state_dir::prepare`].
    pub(super) fn create_directory(&self) -> io::Result<()> {
        if self.directory.try_exists()? {
            return Ok(());
        }
        self.directory.parent().map_or(Ok(()), state_dir::prepare)?;
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    /// Writes the files, and reserves the space for an exit that is to come. Blocks.
    ///
    /// # Errors
    /// What the operating system says. The exit comes first: there may be space for one of them only.
    pub(super) fn write(&self) -> io::Result<()> {
        match &self.exit {
            Some(exit) => exit.write(&self.directory)?,
            None => TaskExit::reserve(&self.directory)?,
        }
        self.holder.as_ref().map_or(Ok(()), |holder| holder.write(&self.directory))
    }
}
