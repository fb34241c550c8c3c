//! The read buffer for first packets and first answers, before a relay begins.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How much to read at once, in bytes.
const READ_MAX: usize = 4 * 1024;

/// What came of waiting for something to be complete.
pub(super) enum Received<T> {
    /// It is complete.
    Complete(T),
    /// The other side closed the connection before.
    Closed,
    /// It was not complete in time.
    Late,
}

/// A buffer that all start-ups of a worker share. One system call reads all available bytes, and each client only
/// allocates as much as it needs.
#[derive(Debug)]
pub(super) struct ReadBuffer(RefCell<[u8; READ_MAX]>);

impl Default for ReadBuffer {
    fn default() -> Self {
        Self(RefCell::new([0; READ_MAX]))
    }
}

impl ReadBuffer {
    /// Waits for bytes, appends at most [`READ_MAX`] of them to `bytes`, and returns how many; 0 at the end of the stream.
    /// It is cancel safe.
    pub(super) async fn read(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut buffer = self.0.borrow_mut();
            let mut read = ReadBuf::new(&mut *buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            Poll::Ready(Ok(append(bytes, read.filled())))
        })
        .await
    }

    /// Appends bytes to `bytes` until `parse` makes something of them.
    ///
    /// # Errors
    /// The error of `parse`.
    pub(super) async fn receive<T, E>(
        &self,
        stream: &mut TcpStream,
        bytes: &mut Vec<u8>,
        deadline: Instant,
        parse: impl Fn(&[u8]) -> Result<Option<T>, E>,
    ) -> Result<Received<T>, E> {
        let mut expired = false;
        loop {
            match parse(bytes)? {
                Some(complete) => return Ok(Received::Complete(complete)),
                None if expired => return Ok(Received::Late),
                None => {}
            }
            let read = timeout_at(deadline, self.read(stream, bytes)).await;
            expired = read.is_err();
            let read = match read {
                Ok(read) => read,
                // After the process was stopped (SIGSTOP), timers may have expired although the bytes arrived in time. So
                // read from the socket itself once more.
                Err(_) => match self.read_now(stream, bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Late),
                    read => read,
                },
            };
            if !read.is_ok_and(|read| read > 0) {
                return Ok(Received::Closed);
            }
        }
    }

    /// Like [`read`](Self::read) without waiting, and without asking the runtime whether the stream is readable.
    ///
    /// # Errors
    /// `WouldBlock` if there are no bytes.
    pub(super) fn read_now(&self, stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = self.0.borrow_mut();
        let (_, read) = recv(stream, &mut buffer[..], RecvFlags::DONTWAIT)?;
        Ok(append(bytes, &buffer[..read]))
    }
}

fn append(bytes: &mut Vec<u8>, read: &[u8]) -> usize {
    bytes.reserve_exact(read.len());
    bytes.extend_from_slice(read);
    read.len()
}
