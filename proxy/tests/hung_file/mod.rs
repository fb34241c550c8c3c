//! A file whose file system hangs: a pipe that nobody writes stands for one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;

/// `O_NONBLOCK` on Linux: opening a pipe to write fails at once unless somebody reads it.
const O_NONBLOCK: i32 = 0o4000;

/// The file. Who reads it is let go when this is dropped.
pub(crate) struct HungFile(PathBuf);

impl HungFile {
    pub(crate) fn make(path: PathBuf) -> Self {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The other end, if somebody reads the file now. They hang until it is dropped.
    pub(crate) fn writer(&self) -> Option<File> {
        OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&self.0).ok()
    }
}

impl Drop for HungFile {
    fn drop(&mut self) {
        drop(self.writer());
    }
}
