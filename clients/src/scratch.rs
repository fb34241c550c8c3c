//! A directory for one test's files, removed when dropped.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A directory of its own below the system's temporary directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory whose name starts with `pglp-` and `what`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(what: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pglp-{what}-{:016x}", random()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` inside it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The leash of a server may have removed it already, and a failing removal must not hide a test's own panic.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A number that differs between tests and between test programs; the standard library's hasher keys are random.
#[must_use]
pub fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
