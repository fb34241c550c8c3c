//! What a check found, line by line.

use std::io::{self, Write};

/// Prints each finding as it comes, and remembers whether something was wrong.
pub(super) struct Findings<'a> {
    out: &'a mut dyn Write,
    wrong: bool,
}

impl<'a> Findings<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, wrong: false }
    }

    /// Whether nothing was wrong. Doubts do not count.
    pub(super) const fn all_fine(&self) -> bool {
        !self.wrong
    }

    /// It is as it should be.
    pub(super) fn fine(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.line("ok", subject, found)
    }

    /// It works, but somebody should know.
    pub(super) fn doubtful(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.line("warning", subject, found)
    }

    /// It does not work.
    pub(super) fn wrong(&mut self, subject: &str, found: &str) -> io::Result<()> {
        self.wrong = true;
        self.line("WRONG", subject, found)
    }

    fn line(&mut self, verdict: &str, subject: &str, found: &str) -> io::Result<()> {
        writeln!(self.out, "{verdict:<8} {subject}: {found}")
    }
}
