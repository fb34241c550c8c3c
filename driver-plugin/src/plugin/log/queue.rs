//! The queue before standard error: whoever logs puts a line into it and goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use serde_json::Map;
use tracing::Level;

use super::line;

/// How many lines may wait while the host does not read.
const LINES_MAX: usize = 1024;

/// The way to the host. When it is full, lines are lost and counted: after the agent's death nobody reads any more,
/// and no task may wait for a reader.
#[derive(Clone, Debug)]
pub(in crate::plugin) struct Queue {
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before this has been written.
    Flushed(SyncSender<()>),
}

impl Queue {
    /// Starts the thread that writes to `host`. It ends with the last queue.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(host: impl Write + Send + 'static) -> io::Result<Self> {
        let (entries, waiting) = mpsc::sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("log".into()).spawn(move || write(host, &waiting, &counted))?;
        Ok(Self { entries, lost })
    }

    /// Puts a line into the queue, if there is room.
    pub(in crate::plugin) fn push(&self, line: Vec<u8>) {
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was pushed before has been written, for as long as `patience`.
    pub(in crate::plugin) fn flush(&self, patience: Duration) {
        let (written, all) = mpsc::sync_channel(1);
        match self.entries.try_send(Entry::Flushed(written)) {
            // Late or never: there is nobody who could be told.
            Ok(()) => drop(all.recv_timeout(patience)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

fn write(mut host: impl Write, waiting: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = waiting.recv() {
        match entry {
            // After the agent's death this is a broken pipe, for ever.
            Entry::Line(line) => drop(host.write_all(&line)),
            Entry::Flushed(written) => drop(written.try_send(())),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} log lines were lost: nobody read them in time");
            drop(host.write_all(&line(Level::WARN, module_path!(), &text, Map::new())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    /// A host that reads when it is let.
    struct Host {
        reading: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Host {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without the sender the host reads everything.
            let _ = self.reading.recv();
            self.read.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_host_that_does_not_read_costs_lines_and_no_time() {
        let (read_on, reading) = mpsc::channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let queue = Queue::start(Host { reading, read: Arc::clone(&read) }).unwrap();
        let start = Instant::now();
        for _ in 0..2 * LINES_MAX {
            queue.push(b"x\n".to_vec());
        }
        queue.flush(Duration::from_millis(1));
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(read_on);
        // The first flush may find no room; once the host reads there is some.
        while !read.lock().unwrap().ends_with(b"x\nx\n") {
            queue.flush(Duration::from_millis(10));
        }
        queue.flush(Duration::from_secs(5));
        let text = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        assert!(text.contains("log lines were lost"), "{text}");
        assert!(text.matches("x\n").count() >= LINES_MAX);
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pitfall_03_a_dead_agent_makes_nobody_panic() {
        let queue = Queue::start(Gone).unwrap();
        queue.push(b"x\n".to_vec());
        queue.flush(Duration::from_secs(5));
        queue.push(b"y\n".to_vec());
        queue.flush(Duration::from_secs(5));
        assert_eq!(queue.lost.load(Ordering::Relaxed), 0, "the thread lives and takes lines");
    }
}
