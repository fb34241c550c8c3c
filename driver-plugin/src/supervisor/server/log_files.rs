//! Opens the task's log files: usually FIFOs of Nomad's log collector, else plain files or `/dev/null`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, fchown};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::time::{Instant, sleep, timeout};

use crate::safe_open;
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError};
use crate::user::Account;

/// The pause between two attempts to open a FIFO that has no reader yet.
const RETRY: Duration = Duration::from_millis(10);

/// The log files of a task, open for writing. They stay open while the task may be started again: Nomad's log collector
/// reads a FIFO until its last writer has closed it, and then no more.
#[derive(Debug)]
pub(super) struct LogFiles {
    pub(super) stdout: File,
    pub(super) stderr: File,
}

impl LogFiles {
    /// Opens both.
    ///
    /// # Errors
    /// When a file cannot be opened, or a FIFO has no reader in time.
    pub(super) async fn open(launch: &LaunchSpec) -> Result<Self, StartError> {
        let open = async |path: &Path| {
            let owner = launch.account.as_ref();
            let opened = open(&launch.alloc_dir, path, owner, deadlines::LOG_READER).await;
            opened.map_err(|error| {
                StartError::Transient(format!("cannot open the log {}: {error}", path.display()))
            })
        };
        let (stdout, stderr) = tokio::try_join!(open(&launch.stdout), open(&launch.stderr))?;
        Ok(Self { stdout, stderr })
    }

    /// Duplicates for a process.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { stdout: self.stdout.try_clone()?, stderr: self.stderr.try_clone()? })
    }
}

/// Opens a log file below `alloc_dir`, where the task's user may have put a symbolic link: none is followed. A FIFO
/// needs a reader, which is waited for up to `limit`, and becomes the property of `owner`: the task's user may open it
/// again as `/dev/stderr`.
///
/// # Errors
/// `TimedOut` when the FIFO has no reader; else what the operating system says.
async fn open(alloc_dir: &Path, path: &Path, owner: Option<&Account>, limit: Duration) -> io::Result<File> {
    let deadline = Instant::now() + limit;
    let file = loop {
        let (alloc_dir, path) = (alloc_dir.to_owned(), path.to_owned());
        // A file system on another machine may block.
        let attempt = tokio::task::spawn_blocking(move || attempt(&alloc_dir, &path));
        let opened = timeout(limit, attempt).await.map_err(|_| late("it could not be opened", limit))?;
        match opened.map_err(io::Error::other)? {
            // No reader yet (fifo(7)). A blocking `open` would wait for one without a bound.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                if Instant::now() >= deadline {
                    return Err(late("the FIFO had no reader", limit));
                }
                sleep(RETRY).await;
            }
            opened => break opened?,
        }
    };
    if let Some(owner) = owner
        && file.metadata()?.file_type().is_fifo()
    {
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    // The flag belongs to the open file, so the proxy would inherit it and lose log lines when the collector is slow.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

fn late(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {limit:?}"))
}

fn attempt(alloc_dir: &Path, path: &Path) -> io::Result<File> {
    // NOCTTY: the supervisor leads a session and must not get a controlling terminal. A plain file may have lines of
    // an earlier run, hence append.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(safe_open::open(alloc_dir, path, flags)?);
    let metadata = file.metadata()?;
    // A second name can be that of a file elsewhere, to which the task's user has no access.
    if !metadata.file_type().is_char_device() && metadata.nlink() != 1 {
        let text = "the file has several names (hard links); root writes to no such file";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::{OpenOptionsExt as _, symlink};
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn fifo() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stderr.fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        (directory, path)
    }

    #[tokio::test]
    async fn a_fifo_is_opened_once_it_has_a_reader_and_is_blocking() {
        let (directory, path) = fifo();
        let reading = path.clone();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(5 * RETRY);
            let mut text = String::new();
            File::open(reading).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        let mut file = open(directory.path(), &path, None, SOON).await.unwrap();
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
        file.write_all(b"a line\n").unwrap();
        drop(file);
        assert_eq!(reader.join().unwrap(), "a line\n", "the reader sees the end");
    }

    #[tokio::test]
    async fn a_fifo_without_a_reader_is_an_error() {
        let (directory, path) = fifo();
        let error = open(directory.path(), &path, None, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.to_string(), "the FIFO had no reader within 30ms");
    }

    #[tokio::test]
    async fn the_user_owns_the_fifo_but_not_a_file() {
        let (directory, path) = fifo();
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let owner = Account::find("65534").unwrap();
        let owner = Account { gid: 65_533, ..owner };
        open(directory.path(), &path, Some(&owner), SOON).await.unwrap();
        let metadata = reader.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_533));
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "earlier\n").unwrap();
        let mut file = open(directory.path(), &plain, Some(&owner), SOON).await.unwrap();
        file.write_all(b"later\n").unwrap();
        assert_eq!(std::fs::read_to_string(&plain).unwrap(), "earlier\nlater\n");
        assert_eq!(plain.metadata().unwrap().uid(), directory.path().metadata().unwrap().uid());
        open(directory.path(), Path::new("/dev/null"), Some(&owner), SOON).await.unwrap();
        assert_eq!(Path::new("/dev/null").metadata().unwrap().uid(), 0);
    }

    #[tokio::test]
    async fn a_missing_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = open(directory.path(), &missing, None, SOON).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn neither_a_symbolic_nor_a_hard_link_to_a_foreign_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("alloc")).unwrap();
        std::fs::write(path("foreign"), "").unwrap();
        symlink("../foreign", path("alloc/symbolic")).unwrap();
        symlink("..", path("alloc/logs")).unwrap();
        std::fs::hard_link(path("foreign"), path("alloc/hard")).unwrap();
        for name in ["alloc/symbolic", "alloc/logs/foreign", "alloc/hard"] {
            let error = open(&path("alloc"), &path(name), None, SOON).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
        }
    }
}
