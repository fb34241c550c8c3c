//! What is known of a task outside its supervisor's memory: who runs it, and how it ended.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::identity::Identity;
use crate::resources::Cgroups;

/// The socket on which a supervisor answers, in its directory.
pub(super) const SOCKET: &str = "control.sock";
const EXIT: &str = "exit.json";
const EXIT_UNFINISHED: &str = "exit.json.new";
/// What is read of an exit file.
const EXIT_BYTES_MAX: u64 = 64 * 1024;
/// A process that was ended by signal N counts as one that exited with this plus N, as shells have it.
const SIGNALLED: i32 = 128;

/// Where to find a task again. It holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The supervisor.
    pub supervisor: Identity,
    /// The relay.
    pub relay: Identity,
    /// The supervisor's directory.
    pub directory: PathBuf,
    /// Where the relay belongs.
    pub cgroups: Cgroups,
    /// When the relay was up.
    pub started_at: SystemTime,
}

/// How a relay ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What it exited with; 128 + N when signal N ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed it for lack of memory.
    pub oom_killed: bool,
    /// When it was seen to have ended.
    pub at: SystemTime,
    /// Why nothing better is known than that it has ended.
    pub error: Option<String>,
}

impl Exit {
    /// The end of a process with this status, now.
    pub(super) fn of(status: ExitStatus, oom_killed: bool) -> Self {
        let signal = status.signal().unwrap_or(0);
        let code = status.code().unwrap_or(SIGNALLED + signal);
        Self { code, signal, oom_killed, at: clock::now(), error: None }
    }

    /// An end that nobody saw.
    pub(super) fn unseen(error: String) -> Self {
        Self { code: 1, signal: 0, oom_killed: false, at: clock::now(), error: Some(error) }
    }

    /// The exit that the supervisor in `directory` has written down, if it has.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(directory.join(EXIT)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(EXIT_BYTES_MAX).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Writes it down in `directory`, so that it is there whole or not at all, and stays.
    ///
    /// # Errors
    /// What the operating system says, such as that there is no space.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(EXIT_UNFINISHED);
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, directory.join(EXIT))?;
        File::open(directory)?.sync_all()
    }
}

/// Removes the directory of a supervisor: the files that one makes there, and nothing that is not ours.
///
/// # Errors
/// What the operating system says; no error if the directory is gone already.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    for file in [SOCKET, EXIT, EXIT_UNFINISHED] {
        gone(fs::remove_file(directory.join(file)))?;
    }
    gone(fs::remove_dir(directory))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_tells_code_and_signal() {
        let exited = Exit::of(ExitStatus::from_raw(78 << 8), false);
        assert_eq!((exited.code, exited.signal), (78, 0));
        let killed = Exit::of(ExitStatus::from_raw(9), true);
        assert_eq!((killed.code, killed.signal, killed.oom_killed), (137, 9, true));
    }

    #[test]
    fn an_exit_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Exit::read(directory.path()).unwrap(), None);
        let exit = Exit::of(ExitStatus::from_raw(15), false);
        exit.write(directory.path()).unwrap();
        assert_eq!(Exit::read(directory.path()).unwrap(), Some(exit));
        fs::write(directory.path().join(EXIT), "{").unwrap();
        assert!(Exit::read(directory.path()).is_err(), "half a file is not taken for an exit");
    }

    #[test]
    fn only_our_own_files_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("task");
        fs::create_dir(&directory).unwrap();
        Exit::unseen(String::new()).write(&directory).unwrap();
        fs::write(directory.join("theirs"), "").unwrap();
        assert!(remove_directory(&directory).is_err());
        assert!(directory.join("theirs").exists());
        fs::remove_file(directory.join("theirs")).unwrap();
        remove_directory(&directory).unwrap();
        assert!(!directory.exists());
        remove_directory(&directory).unwrap();
    }
}
