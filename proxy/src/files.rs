//! Reading files whose file system may hang: which one a thread waits for can be told by another thread.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

/// Reads files one after another. Clones tell of the same file.
#[derive(Clone, Debug, Default)]
pub struct FileReader(Arc<Mutex<Option<PathBuf>>>);

impl FileReader {
    /// What the file holds. Blocks for as long as its file system does.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        *self.present() = Some(path.to_owned());
        let read = fs::read(path);
        *self.present() = None;
        read
    }

    /// The same for a file of text.
    ///
    /// # Errors
    /// If it cannot be read, or is not UTF-8.
    pub fn read_to_string(&self, path: &Path) -> io::Result<String> {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8");
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// The file that is being read now, in words: whoever waits for it names it.
    pub fn waits_for(&self) -> String {
        self.present().as_ref().map_or_else(|| "a file".to_owned(), |path| path.display().to_string())
    }

    fn present(&self) -> MutexGuard<'_, Option<PathBuf>> {
        // A panic under the lock cannot leave it inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
