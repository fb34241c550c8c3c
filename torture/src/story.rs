//! What happened when, as a timeline that a person reads: faults, changes of leader, anomalies.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// One line of the story.
#[derive(Clone, Debug)]
struct Entry {
    at: Duration,
    who: String,
    what: String,
}

/// A timeline. Everybody who notices something adds to it.
#[derive(Debug)]
pub(crate) struct Story {
    origin: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Story {
    /// An empty one. Its times count from `origin`.
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, entries: Mutex::default() }
    }

    /// When the run began.
    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// Adds what has just happened.
    pub(crate) fn tell(&self, who: &str, what: impl Into<String>) {
        self.tell_at(self.origin.elapsed(), who, what);
    }

    /// Adds what happened at that time of the run.
    pub(crate) fn tell_at(&self, at: Duration, who: &str, what: impl Into<String>) {
        self.entries.lock().push(Entry { at, who: who.to_owned(), what: what.into() });
    }

    /// Writes it in the order of time.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut entries = self.entries.lock().clone();
        entries.sort_by_key(|entry| entry.at);
        for Entry { at, who, what } in entries {
            writeln!(out, "{:9.3}  {who:<12}  {what}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
