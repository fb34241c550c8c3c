//! Reads what a command writes: to the end of the stream, or until shortly after the command has exited.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long the end of the stream is waited for after the command has exited. A process in the background may keep it
/// open for ever.
const DRAIN_TIME: Duration = Duration::from_millis(100);
/// The capacity of a pipe (pipe(7)); a terminal has less. A slow client may not have read so much when the drain time
/// is over.
const STREAM_BYTES: usize = 64 * 1024;

/// Reads one output of a command.
#[derive(Debug)]
pub(super) struct OutputReader {
    source: pipe::Receiver,
    exited: watch::Receiver<bool>,
    drain: Option<Drain>,
}

/// What was read since the command exited.
#[derive(Debug)]
struct Drain {
    until: Instant,
    bytes: usize,
}

impl OutputReader {
    /// `exited` becomes true when the command has exited.
    pub(super) fn new(source: pipe::Receiver, exited: watch::Receiver<bool>) -> Self {
        Self { source, exited, drain: None }
    }

    /// The next bytes; `None` at the end. While nothing is read the command waits.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let drain = match &mut self.drain {
                None if *self.exited.borrow_and_update() => {
                    Some(&*self.drain.insert(Drain { until: Instant::now() + DRAIN_TIME, bytes: 0 }))
                }
                drain => drain.as_ref(),
            };
            if drain.is_some_and(|drain| drain.bytes >= STREAM_BYTES && Instant::now() >= drain.until) {
                return None;
            }
            let until = drain.map(|drain| drain.until);
            tokio::select! {
                biased;
                read = self.source.read(&mut chunk) => {
                    // A terminal returns EIO once nobody has its other side open.
                    let count = read.ok().filter(|count| *count > 0)?;
                    if let Some(drain) = &mut self.drain {
                        drain.bytes += count;
                    }
                    chunk.truncate(count);
                    return Some(chunk);
                }
                // The sender lives as long as the command.
                _ = self.exited.changed(), if until.is_none() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::*;

    fn reader() -> (OutputReader, io::PipeWriter, watch::Sender<bool>) {
        let (reader, writer) = io::pipe().unwrap();
        let (exited, exited_in) = watch::channel(false);
        let source = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        (OutputReader::new(source, exited_in), writer, exited)
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_the_end() {
        let (mut output, mut writer, _exited) = reader();
        writer.write_all(b"last").unwrap();
        drop(writer);
        assert_eq!(output.next().await.unwrap(), b"last");
        assert_eq!(output.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_stays_open_ends_shortly_after_the_command() {
        let (mut output, mut writer, exited) = reader();
        writer.write_all(b"before").unwrap();
        exited.send_replace(true);
        let start = Instant::now();
        assert_eq!(output.next().await.unwrap(), b"before");
        assert_eq!(output.next().await, None);
        let waited = start.elapsed();
        assert!(waited >= DRAIN_TIME && waited < 10 * DRAIN_TIME, "{waited:?}");
    }

    #[tokio::test]
    async fn a_slow_client_receives_all_that_was_written_before_the_exit() {
        let (mut output, mut writer, exited) = reader();
        writer.write_all(&[b'x'; STREAM_BYTES]).unwrap();
        exited.send_replace(true);
        let mut read = 0;
        while let Some(chunk) = output.next().await {
            read += chunk.len();
            tokio::time::sleep(DRAIN_TIME * 2).await;
        }
        assert_eq!(read, STREAM_BYTES);
    }

    #[tokio::test]
    async fn a_background_process_that_never_stops_writing_does_not_delay_the_end() {
        let (mut output, mut writer, exited) = reader();
        let writing = std::thread::spawn(move || while writer.write_all(&[b'y'; 4096]).is_ok() {});
        assert!(output.next().await.is_some());
        exited.send_replace(true);
        let rest = async {
            while output.next().await.is_some() {
                // Slower than the writer, so there is always something to read.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DRAIN_TIME * 20, rest).await.unwrap();
        drop(output);
        writing.join().unwrap();
    }
}
