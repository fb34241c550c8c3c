//! What a check finds, line by line.

use std::io::{self, Write};

/// Prints each finding as it comes, and remembers whether there was an error.
pub(super) struct Findings<'a> {
    out: &'a mut dyn Write,
    failed: bool,
}

impl<'a> Findings<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, failed: false }
    }

    /// Whether there was no error. Warnings do not count.
    pub(super) const fn passed(&self) -> bool {
        !self.failed
    }

    /// It is as it should be.
    pub(super) fn ok(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.line("ok", subject, found)
    }

    /// It works, but somebody should know.
    pub(super) fn warning(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.line("warning", subject, found)
    }

    /// It does not work.
    pub(super) fn error(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.failed = true;
        self.line("error", subject, found)
    }

    fn line(&mut self, level: &str, subject: &str, found: &str) -> io::Result<()> {
        writeln!(self.out, "{level:<8} {subject}: {found}")
    }
}
