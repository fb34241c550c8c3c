//! A bounded queue before standard error, so that nobody waits for a host that does not read.
//!
//! `tracing-appender` does the same, but prints to standard output when it cannot end in time. Nothing may follow the
//! handshake there.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

/// How many lines may wait for the host. Further lines are dropped: after the death of the agent nobody reads any more.
const LINES_MAX: usize = 1024;

/// The way to the host. What is written to it at once is one line. Clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct LogQueue(SyncSender<Entry>);

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before this was written.
    Flush(SyncSender<()>),
}

impl LogQueue {
    /// Starts the thread that writes to `host`. It ends with the last clone of the queue.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(host: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(LINES_MAX);
        thread::Builder::new().name("log".into()).spawn(move || write(host, &entries))?;
        Ok(Self(queue))
    }

    /// Waits until everything before was written, up to `limit`. A full queue is not waited for.
    pub(super) fn flush(&self, limit: Duration) {
        let (written, flushed) = mpsc::sync_channel(1);
        if self.0.try_send(Entry::Flush(written)).is_ok() {
            let _ = flushed.recv_timeout(limit);
        }
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Entry::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut host: impl Write, entries: &Receiver<Entry>) {
    while let Ok(entry) = entries.recv() {
        match entry {
            // After the death of the agent this fails with a broken pipe every time.
            Entry::Line(line) => drop(host.write_all(&line)),
            Entry::Flush(written) => drop(written.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    /// A host that reads nothing until the sender is dropped.
    struct BlockedHost {
        blocked: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for BlockedHost {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.blocked.recv();
            self.read.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_host_that_does_not_read_costs_lines_and_no_time() {
        let (unblock, blocked) = mpsc::channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let mut queue = LogQueue::start(BlockedHost { blocked, read: Arc::clone(&read) }).unwrap();
        let start = Instant::now();
        for _ in 0..2 * LINES_MAX {
            queue.write_all(b"x\n").unwrap();
        }
        queue.flush(Duration::from_millis(1));
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(unblock);
        // The queue was full, so the first lines are read sooner or later, and not all of them were kept.
        let lines = || read.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
        while lines() < LINES_MAX {
            queue.flush(Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        queue.flush(Duration::from_secs(5));
        assert!(lines() < 2 * LINES_MAX, "{}", lines());
    }

    struct ClosedHost;

    impl Write for ClosedHost {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pitfall_03_after_the_death_of_the_agent_the_thread_still_takes_lines() {
        let mut queue = LogQueue::start(ClosedHost).unwrap();
        for _ in 0..2 * LINES_MAX {
            queue.write_all(b"x\n").unwrap();
            queue.flush(Duration::from_secs(5));
        }
        let (written, flushed) = mpsc::sync_channel(1);
        queue.0.try_send(Entry::Flush(written)).unwrap();
        flushed.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}
