//! A connection between two processes: lines of JSON over a unix socket, with descriptors attached.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The longest message, its newline included.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How many descriptors one message may carry: `SCM_MAX_FD` of the kernel (unix(7)).
pub const DESCRIPTORS_MAX: usize = 253;
/// How long the peer may take to read a message.
const SEND_TIME: Duration = Duration::from_secs(5);
/// How many bytes are read at once.
const READ_BYTES: usize = 16 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    /// Bytes of messages that were not received yet.
    arrived: Vec<u8>,
    /// Descriptors that came with them, in order.
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// A connection over `stream`.
    pub const fn new(stream: UnixStream) -> Self {
        Self { stream, arrived: Vec::new(), descriptors: VecDeque::new() }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// `InvalidInput` when it is longer than [`MESSAGE_BYTES_MAX`], `TimedOut` when the peer does not read; else what
    /// the operating system says, such as `BrokenPipe` when the peer is gone.
    pub async fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message and duplicates of `descriptors`, which arrive before its end.
    ///
    /// # Errors
    /// As [`Channel::send`], and `InvalidInput` for more than [`DESCRIPTORS_MAX`] descriptors.
    pub async fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        if line.len() > MESSAGE_BYTES_MAX {
            let length = line.len();
            return Err(invalid_input(format!(
                "the message has {length} bytes; at most {MESSAGE_BYTES_MAX} are allowed"
            )));
        }
        if descriptors.len() > DESCRIPTORS_MAX {
            let count = descriptors.len();
            return Err(invalid_input(format!(
                "the message has {count} descriptors; at most {DESCRIPTORS_MAX} are allowed"
            )));
        }
        self.write_all(&line, descriptors, SEND_TIME).await
    }

    async fn write_all(
        &self,
        line: &[u8],
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> io::Result<()> {
        let sending = async {
            let mut sent = self.write(line, descriptors).await?;
            while sent < line.len() {
                sent += self.write(&line[sent..], &[]).await?;
            }
            Ok(())
        };
        timeout(limit, sending).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    async fn write(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let attempt = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(invalid_input("the descriptors do not fit".to_owned()));
            }
            Ok(sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
        };
        self.stream.async_io(Interest::WRITABLE, attempt).await
    }

    /// The next message; `None` when the peer has closed the connection. Cancel safe.
    ///
    /// # Errors
    /// `InvalidData` for an invalid message or one longer than [`MESSAGE_BYTES_MAX`], `UnexpectedEof` when the
    /// connection ends in the middle of one; else what the operating system says.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut seen = 0;
        loop {
            if let Some(end) = self.arrived[seen..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.arrived.drain(..=seen + end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            seen = self.arrived.len();
            if seen >= MESSAGE_BYTES_MAX {
                return Err(invalid_data(format!("a message has more than {MESSAGE_BYTES_MAX} bytes")));
            }
            if self.read().await? == 0 {
                let whole = self.arrived.is_empty();
                return if whole { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next message, which must come within `limit`.
    ///
    /// # Errors
    /// As [`Channel::receive`], `TimedOut`, and `UnexpectedEof` when the peer closes the connection instead.
    pub async fn expect<T: DeserializeOwned>(&mut self, limit: Duration) -> io::Result<T> {
        match timeout(limit, self.receive()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the peer closed the connection")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(ErrorKind::TimedOut, format!("no message within {limit:?}"))),
        }
    }

    /// The first `count` descriptors that came with the messages received so far.
    ///
    /// # Errors
    /// `InvalidData` when there are fewer.
    pub fn take_descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if self.descriptors.len() < count {
            let came = self.descriptors.len();
            return Err(invalid_data(format!("{came} descriptors instead of {count}")));
        }
        Ok(self.descriptors.drain(..count).collect())
    }

    /// Reads what has arrived and returns the number of bytes; 0 is the end.
    async fn read(&mut self) -> io::Result<usize> {
        let Self { stream, arrived, descriptors } = self;
        let attempt = || {
            let mut bytes = [0; READ_BYTES];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&*stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    descriptors.extend(came);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > DESCRIPTORS_MAX {
                return Err(invalid_data("more descriptors than can be received".to_owned()));
            }
            arrived.extend_from_slice(&bytes[..received.bytes]);
            Ok(received.bytes)
        };
        stream.async_io(Interest::READABLE, attempt).await
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn invalid_input(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, problem)
}

fn invalid_data(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use rustix::io::{FdFlags, fcntl_getfd};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    fn file_with(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order() {
        let (one, mut other) = pair();
        let long = "x".repeat(3 * READ_BYTES);
        let sending = tokio::spawn(async move {
            one.send(&"first").await.unwrap();
            one.send(&long).await.unwrap();
            one.send(&"with\na newline").await.unwrap();
        });
        assert_eq!(other.receive::<String>().await.unwrap().unwrap(), "first");
        assert_eq!(other.receive::<String>().await.unwrap().unwrap().len(), 3 * READ_BYTES);
        assert_eq!(other.receive::<String>().await.unwrap().unwrap(), "with\na newline");
        assert_eq!(other.receive::<String>().await.unwrap(), None, "the end");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_message_and_are_close_on_exec() {
        let (one, mut other) = pair();
        let files: Vec<File> = (0..3).map(|number| file_with(&number.to_string())).collect();
        let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        one.send(&"none").await.unwrap();
        one.send_with(&"two", &borrowed[..2]).await.unwrap();
        one.send_with(&"one", &borrowed[2..]).await.unwrap();
        for (word, numbers) in [("none", vec![]), ("two", vec!["0", "1"]), ("one", vec!["2"])] {
            assert_eq!(other.receive::<String>().await.unwrap().unwrap(), word);
            for (descriptor, number) in
                other.take_descriptors(numbers.len()).unwrap().into_iter().zip(numbers)
            {
                assert!(fcntl_getfd(&descriptor).unwrap().contains(FdFlags::CLOEXEC));
                let mut text = String::new();
                File::from(descriptor).read_to_string(&mut text).unwrap();
                assert_eq!(text, number);
            }
        }
        assert_eq!(other.take_descriptors(1).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn as_many_descriptors_as_the_kernel_allows_can_be_sent() {
        let (one, mut other) = pair();
        let file = file_with("");
        one.send_with(&"all", &vec![file.as_fd(); DESCRIPTORS_MAX]).await.unwrap();
        assert_eq!(other.receive::<String>().await.unwrap().unwrap(), "all");
        assert_eq!(other.take_descriptors(DESCRIPTORS_MAX).unwrap().len(), DESCRIPTORS_MAX);
        let error = one.send_with(&"more", &vec![file.as_fd(); DESCRIPTORS_MAX + 1]).await.unwrap_err();
        assert_eq!(error.to_string(), "the message has 254 descriptors; at most 253 are allowed");
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_neither_sent_nor_received() {
        let (mut one, mut other) = pair();
        let error = one.send(&"x".repeat(MESSAGE_BYTES_MAX)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let flood = tokio::spawn(async move {
            // Ends with an error when the peer hangs up.
            while one.stream.write_all(&[b'x'; READ_BYTES]).await.is_ok() {}
        });
        assert_eq!(other.receive::<String>().await.unwrap_err().kind(), ErrorKind::InvalidData);
        drop(other);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_ends_in_the_middle_of_a_message_is_an_error() {
        let (mut one, mut other) = pair();
        one.stream.write_all(b"\"half").await.unwrap();
        drop(one);
        assert_eq!(other.receive::<String>().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn sending_and_receiving_have_deadlines() {
        let (one, mut other) = pair();
        let soon = Duration::from_millis(20);
        assert_eq!(other.expect::<String>(soon).await.unwrap_err().kind(), ErrorKind::TimedOut);
        let error = loop {
            if let Err(error) = one.write_all(&[b'x'; READ_BYTES], &[], soon).await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut, "the peer does not read");
    }
}
