//! The log writer: a thread that writes the lines of a bounded queue, so that a log that nobody reads stops nothing else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines may wait to be written. Further ones are dropped.
const LINES: usize = 4096;

/// Writes what still waits when it is dropped, for about a second at most.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct LogFlush {
    _writer: WorkerGuard,
}

/// How many lines were dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct DroppedLines {
    /// Set once the queue exists, which needs its writer first.
    queue: Arc<OnceLock<ErrorCounter>>,
    unwritable: Arc<AtomicU64>,
}

impl DroppedLines {
    /// Those for which the queue had no room, and those that could not be written.
    pub(super) fn count(&self) -> u64 {
        let queue = self.queue.get().map_or(0, |queue| queue.dropped_lines() as u64);
        queue + self.unwritable.load(Relaxed)
    }
}

/// Starts a thread that writes to `out`. It calls `tell` with the number of dropped lines once lines are written again.
pub(super) fn start(
    out: impl Write + Send + 'static,
    tell: impl Fn(u64) + Send + 'static,
) -> (NonBlocking, DroppedLines, LogFlush) {
    let dropped = DroppedLines::default();
    let lines = Lines { out, tell, dropped: dropped.clone(), told: 0 };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).thread_name("log");
    let (queue, writer) = builder.finish(lines);
    // It is empty until now.
    let _ = dropped.queue.set(queue.error_counter());
    (queue, dropped, LogFlush { _writer: writer })
}

/// What the thread writes with. It flushes whenever the queue is empty.
struct Lines<W, T> {
    out: W,
    tell: T,
    dropped: DroppedLines,
    told: u64,
}

impl<W: Write, T: Fn(u64)> Write for Lines<W, T> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The next line may be writable again, such as after an interruption of a terminal.
        if self.out.write_all(line).is_err() {
            self.dropped.unwritable.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.count();
        if dropped > self.told {
            (self.tell)(dropped - self.told);
            self.told = dropped;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    /// Blocks until it is allowed to write.
    struct Blocked(Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Once the sender is gone, everything is written.
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_blocks_costs_lines_and_tells_how_many_once_it_goes_on() {
        let (allow, allowed) = channel();
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let (mut queue, dropped, flush) =
            start(Blocked(allowed), move |count| telling.lock().unwrap().push(count));
        for _ in 0..LINES + 100 {
            queue.write_all(b"line\n").unwrap();
        }
        // One may be in the hands of the writer.
        assert!((99..=100).contains(&dropped.count()), "{}", dropped.count());
        assert!(told.lock().unwrap().is_empty(), "nothing is written yet");
        let lost = dropped.count();
        drop(allow);
        let began = Instant::now();
        while told.lock().unwrap().is_empty() && began.elapsed() < BOUND {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(*told.lock().unwrap(), [lost]);
        drop(flush);
    }

    #[test]
    fn the_end_does_not_wait_for_a_writer_that_blocks() {
        let (_allow, allowed) = channel();
        let (mut queue, _, flush) = start(Blocked(allowed), |_| {});
        queue.write_all(b"line\n").unwrap();
        let began = Instant::now();
        drop(flush);
        assert!(began.elapsed() < BOUND);
    }

    #[test]
    fn a_line_that_cannot_be_written_counts_as_dropped() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut queue, dropped, flush) = start(Closed, |_| {});
        (0..3).for_each(|_| queue.write_all(b"line\n").unwrap());
        drop(flush);
        assert_eq!(dropped.count(), 3);
    }
}
