//! Reading of what is kept whole before the relay begins: first packets, and first answers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// How much is read at once, in bytes.
const READ_MAX: usize = 4 * 1024;

/// What all arrivals read into, so that one system call reads what there is and nobody keeps more room than that needs.
#[derive(Debug)]
pub(super) struct ReadBuffer(RefCell<[u8; READ_MAX]>);

impl Default for ReadBuffer {
    fn default() -> Self {
        Self(RefCell::new([0; READ_MAX]))
    }
}

impl ReadBuffer {
    /// Waits for bytes of `stream`, appends at most [`READ_MAX`] of them to `bytes`, and tells how many; none at its end.
    /// When it is dropped half way, nothing was read.
    pub(super) async fn read(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut buffer = self.0.borrow_mut();
            let mut read = ReadBuf::new(&mut *buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            Poll::Ready(Ok(append(bytes, read.filled())))
        })
        .await
    }

    /// The same without waiting, and whatever the runtime believes of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when there are no bytes.
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
