//! What a command writes, until it is over: at the end of the stream, or shortly after the command's own end.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// How long the end of the stream is waited for after the command's own end: something that it left in the background
/// may hold the stream open for ever.
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// What a pipe holds (pipe(7)), and a terminal less: so much may have been written before the command ended and be
/// unread when the drain time is over, if whoever reads it is slow.
const STREAM_BYTES: usize = 64 * 1024;

/// One output of a command.
#[derive(Debug)]
pub(super) struct Outlet {
    source: pipe::Receiver,
    ended: watch::Receiver<bool>,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    until: Instant,
    bytes: usize,
}

impl Outlet {
    /// `ended` becomes true when the command has ended.
    pub(super) fn new(source: pipe::Receiver, ended: watch::Receiver<bool>) -> Self {
        Self { source, ended, drain: None }
    }

    /// The next bytes; None when no more will come. What is not asked for stays where it is, and the command waits.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let drain = match &mut self.drain {
                None if *self.ended.borrow_and_update() => {
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
                    // A terminal whose other side is closed says EIO, which is its end.
                    let count = read.ok().filter(|count| *count > 0)?;
                    if let Some(drain) = &mut self.drain {
                        drain.bytes += count;
                    }
                    chunk.truncate(count);
                    return Some(chunk);
                }
                // Its sender is gone only together with the command.
                _ = self.ended.changed(), if until.is_none() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::*;

    fn outlet() -> (Outlet, io::PipeWriter, watch::Sender<bool>) {
        let (reader, writer) = io::pipe().unwrap();
        let (over, ended) = watch::channel(false);
        let source = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        (Outlet::new(source, ended), writer, over)
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_the_end() {
        let (mut outlet, mut writer, _over) = outlet();
        writer.write_all(b"last").unwrap();
        drop(writer);
        assert_eq!(outlet.next().await.unwrap(), b"last");
        assert_eq!(outlet.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_stays_open_ends_shortly_after_the_command() {
        let (mut outlet, mut writer, over) = outlet();
        writer.write_all(b"before").unwrap();
        over.send_replace(true);
        let start = Instant::now();
        assert_eq!(outlet.next().await.unwrap(), b"before");
        assert_eq!(outlet.next().await, None);
        let waited = start.elapsed();
        assert!(waited >= DRAIN_TIME && waited < 10 * DRAIN_TIME, "{waited:?}");
    }

    #[tokio::test]
    async fn a_slow_reader_gets_all_that_the_command_wrote_before_it_ended() {
        let (mut outlet, mut writer, over) = outlet();
        writer.write_all(&[b'x'; STREAM_BYTES]).unwrap();
        over.send_replace(true);
        let mut read = 0;
        while let Some(chunk) = outlet.next().await {
            read += chunk.len();
            tokio::time::sleep(DRAIN_TIME * 2).await;
        }
        assert_eq!(read, STREAM_BYTES);
    }

    #[tokio::test]
    async fn a_background_process_that_never_stops_writing_holds_nobody_up() {
        let (mut outlet, mut writer, over) = outlet();
        let writing = std::thread::spawn(move || while writer.write_all(&[b'y'; 4096]).is_ok() {});
        assert!(outlet.next().await.is_some());
        over.send_replace(true);
        let all = async {
            while outlet.next().await.is_some() {
                // Slower than the writer: there is always something to read.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DRAIN_TIME * 20, all).await.unwrap();
        drop(outlet);
        writing.join().unwrap();
    }
}
