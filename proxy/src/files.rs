//! Reading files whose file system may hang: which one a thread waits for can be told by another thread.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io, thread};

use pg_leader_proxy_core::display::HumanDuration;

/// How long the configuration and the files that it names may take to be read. A file system that answers takes
/// milliseconds.
pub(crate) const READ_TIME: Duration = Duration::from_secs(10);

/// A file was not read in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} cannot be read within {}: its file system does not answer", HumanDuration(READ_TIME))]
pub struct FileHangs {
    /// Which one.
    pub file: String,
}

/// Reads files one after another. Clones tell of the same file.
#[derive(Clone, Debug, Default)]
pub struct FileReader(Arc<Mutex<Option<PathBuf>>>);

impl FileReader {
    /// What the file holds. Blocks for as long as its file system does.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.told(path, || fs::read(path))
    }

    /// The names in a directory, in their order. Blocks for as long as its file system does.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.told(directory, || {
            let entries = fs::read_dir(directory)?;
            let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort_unstable();
            Ok(paths)
        })
    }

    /// The same for a file of text.
    ///
    /// # Errors
    /// If it cannot be read, or is not UTF-8.
    pub fn read_to_string(&self, path: &Path) -> io::Result<String> {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8");
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// Runs `read`, which reads files with this reader, on another thread, and waits for it for ten seconds. A thread that
    /// hangs then is left to itself.
    ///
    /// # Errors
    /// If it takes longer.
    pub fn in_time<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FileHangs> {
        let (done, result) = sync_channel(1);
        let reading = thread::spawn(move || {
            // Nobody waits any more if it is late.
            let _ = done.send(read());
        });
        match result.recv_timeout(READ_TIME) {
            Ok(read) => Ok(read),
            Err(RecvTimeoutError::Timeout) => Err(self.hangs()),
            Err(RecvTimeoutError::Disconnected) => match reading.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => unreachable!("it has sent its result"),
            },
        }
    }

    /// The error for a reading that has taken too long.
    pub fn hangs(&self) -> FileHangs {
        FileHangs { file: self.waits_for() }
    }

    /// The file that is being read now, in words: whoever waits for it names it.
    pub fn waits_for(&self) -> String {
        self.present().as_ref().map_or_else(|| "a file".to_owned(), |path| path.display().to_string())
    }

    fn told<T>(&self, path: &Path, read: impl FnOnce() -> T) -> T {
        *self.present() = Some(path.to_owned());
        let read = read();
        *self.present() = None;
        read
    }

    fn present(&self) -> MutexGuard<'_, Option<PathBuf>> {
        // A panic under the lock cannot leave it inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
