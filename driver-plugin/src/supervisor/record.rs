//! What is known of a task outside its supervisor's memory: who runs it, and how it exited.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::launch::TaskName;
use crate::clock;
use crate::process_id::ProcessId;
use crate::resources::Cgroups;

/// The socket on which a supervisor answers, in its directory.
pub(super) const CONTROL_SOCKET: &str = "control.sock";
const EXIT_FILE: &str = "exit.json";
const EXIT_FILE_TEMPORARY: &str = "exit.json.new";
const HOLDER_FILE: &str = "holder.json";
const HOLDER_FILE_TEMPORARY: &str = "holder.json.new";
/// How much of a file is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Reserved for the record of an exit, which must not fail because the disk is full.
const EXIT_BYTES: u64 = 4096;
/// A process that was killed by signal N counts as exited with 128 + N, as in a shell.
const SIGNALLED: i32 = 128;

/// Where to find a task again. It contains nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The supervisor.
    pub supervisor: ProcessId,
    /// The proxy process with which the task began. Its supervisor may have started another one since.
    pub proxy: ProcessId,
    /// The supervisor's directory.
    pub directory: PathBuf,
    /// The task's cgroups.
    pub cgroups: Cgroups,
    /// When the proxy began to listen.
    pub started_at: SystemTime,
}

/// How a task exited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskExit {
    /// The exit code; 128 + N after signal N.
    pub code: i32,
    /// The signal that killed the process, or 0.
    pub signal: i32,
    /// Whether the kernel killed it for lack of memory.
    pub oom_killed: bool,
    /// When the exit was noticed.
    pub at: SystemTime,
    /// Why code and signal are not known, or what was left behind.
    pub error: Option<String>,
}

impl TaskExit {
    /// The exit of a process with this status, now.
    pub(super) fn of(status: ExitStatus, oom_killed: bool) -> Self {
        let signal = status.signal().unwrap_or(0);
        let code = status.code().unwrap_or(SIGNALLED + signal);
        Self { code, signal, oom_killed, at: clock::now(), error: None }
    }

    /// An exit whose status is lost, with the reason.
    pub(super) fn unknown(error: String) -> Self {
        Self { code: 1, signal: 0, oom_killed: false, at: clock::now(), error: Some(error) }
    }

    /// The exit that the supervisor in `directory` has recorded, if it has.
    ///
    /// # Errors
    /// When the file cannot be read or is not valid.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        read(&directory.join(EXIT_FILE))
    }

    /// Reserves the space that [`TaskExit::write`] needs.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn reserve(directory: &Path) -> io::Result<()> {
        let file = open_reserved(&directory.join(EXIT_FILE_TEMPORARY))?;
        match fallocate(&file, FallocateFlags::empty(), 0, EXIT_BYTES) {
            // The file system cannot reserve.
            Err(Errno::OPNOTSUPP) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    /// Records the exit in `directory`, durably and as a whole or not at all.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let temporary = directory.join(EXIT_FILE_TEMPORARY);
        let mut file = open_reserved(&temporary)?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(EXIT_FILE))?;
        File::open(directory)?.sync_all()
    }
}

/// Who runs in a supervisor's directory, for when the supervisor does not reply. It contains nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The task.
    pub(super) task: TaskName,
    /// The supervisor.
    pub(super) supervisor: ProcessId,
    /// The proxy process, once there is one.
    pub(super) proxy: Option<ProcessId>,
}

impl Holder {
    /// Who runs in `directory`, if anybody has been recorded.
    ///
    /// # Errors
    /// When the file cannot be read or is not valid.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        read(&directory.join(HOLDER_FILE))
    }

    /// Records the holder, as a whole or not at all.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join(HOLDER_FILE_TEMPORARY);
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(&temporary, directory.join(HOLDER_FILE))
    }
}

/// Opens a file that may have reserved space. Truncating it would give the space away.
fn open_reserved(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

/// Reads a file of JSON, if it exists.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Removes a supervisor's directory with the files that a supervisor creates, and no others.
///
/// # Errors
/// What the operating system says. A directory that does not exist is no error.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    for file in [CONTROL_SOCKET, EXIT_FILE, EXIT_FILE_TEMPORARY, HOLDER_FILE, HOLDER_FILE_TEMPORARY] {
        ignore_missing(fs::remove_file(directory.join(file)))?;
    }
    ignore_missing(fs::remove_dir(directory))
}

fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_has_code_and_signal() {
        let exited = TaskExit::of(ExitStatus::from_raw(78 << 8), false);
        assert_eq!((exited.code, exited.signal), (78, 0));
        let killed = TaskExit::of(ExitStatus::from_raw(9), true);
        assert_eq!((killed.code, killed.signal, killed.oom_killed), (137, 9, true));
    }

    #[test]
    fn an_exit_is_read_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(TaskExit::read(directory.path()).unwrap(), None);
        let exit = TaskExit::of(ExitStatus::from_raw(15), false);
        exit.write(directory.path()).unwrap();
        assert_eq!(TaskExit::read(directory.path()).unwrap(), Some(exit));
        fs::write(directory.path().join(EXIT_FILE), "{").unwrap();
        assert!(TaskExit::read(directory.path()).is_err(), "half a file is an error");
    }

    #[test]
    fn an_exit_fits_into_the_space_that_was_reserved_for_it() {
        let directory = tempfile::tempdir().unwrap();
        TaskExit::reserve(directory.path()).unwrap();
        let reserved = directory.path().join(EXIT_FILE_TEMPORARY).metadata().unwrap();
        assert_eq!(reserved.len(), EXIT_BYTES);
        let exit = TaskExit::unknown("x".repeat(1000));
        exit.write(directory.path()).unwrap();
        assert_eq!(TaskExit::read(directory.path()).unwrap(), Some(exit));
    }

    #[test]
    fn only_the_supervisors_own_files_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("task");
        fs::create_dir(&directory).unwrap();
        TaskExit::unknown(String::new()).write(&directory).unwrap();
        fs::write(directory.join("foreign"), "").unwrap();
        assert!(remove_directory(&directory).is_err());
        assert!(directory.join("foreign").exists());
        fs::remove_file(directory.join("foreign")).unwrap();
        remove_directory(&directory).unwrap();
        assert!(!directory.exists());
        remove_directory(&directory).unwrap();
    }
}
