//! Opens the task's log files: usually FIFOs of Nomad's log collector, else plain files or `/dev/null`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use crate::user::Account;

/// The pause between two attempts to open a FIFO that has no reader yet.
const RETRY: Duration = Duration::from_millis(10);

/// Opens a log file for writing. A FIFO needs a reader, which is waited for up to `limit`, and becomes the property
/// of `owner`: the task's user may open it again as `/dev/stderr`.
///
/// # Errors
/// `TimedOut` when the FIFO has no reader; else what the operating system says.
pub(super) async fn open(path: &Path, owner: Option<&Account>, limit: Duration) -> io::Result<File> {
    let deadline = Instant::now() + limit;
    let file = loop {
        match attempt(path) {
            // No reader yet (fifo(7)). A blocking `open` would wait for one without a bound.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                if Instant::now() >= deadline {
                    let problem = format!("the FIFO had no reader within {limit:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
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

fn attempt(path: &Path) -> io::Result<File> {
    // NOCTTY: the supervisor leads a session and must not get a controlling terminal. A plain file may have lines of
    // an earlier run, hence append.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().append(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;
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
        let (_directory, path) = fifo();
        let reading = path.clone();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(5 * RETRY);
            let mut text = String::new();
            File::open(reading).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        let mut file = open(&path, None, SOON).await.unwrap();
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
        file.write_all(b"a line\n").unwrap();
        drop(file);
        assert_eq!(reader.join().unwrap(), "a line\n", "the reader sees the end");
    }

    #[tokio::test]
    async fn a_fifo_without_a_reader_is_an_error() {
        let (_directory, path) = fifo();
        let error = open(&path, None, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.to_string(), "the FIFO had no reader within 30ms");
    }

    #[tokio::test]
    async fn the_user_owns_the_fifo_but_not_a_file() {
        let (directory, path) = fifo();
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let owner = Account { uid: 65_534, gid: 65_533, name: None };
        open(&path, Some(&owner), SOON).await.unwrap();
        let metadata = reader.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_533));
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "earlier\n").unwrap();
        open(&plain, Some(&owner), SOON).await.unwrap().write_all(b"later\n").unwrap();
        assert_eq!(std::fs::read_to_string(&plain).unwrap(), "earlier\nlater\n");
        assert_eq!(plain.metadata().unwrap().uid(), directory.path().metadata().unwrap().uid());
        open(Path::new("/dev/null"), Some(&owner), SOON).await.unwrap();
        assert_eq!(Path::new("/dev/null").metadata().unwrap().uid(), 0);
    }

    #[tokio::test]
    async fn a_missing_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(&directory.path().join("missing"), None, SOON).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
