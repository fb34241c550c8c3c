//! Reading a client's first packet.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::read_buffer::ReadBuffer;
use super::rejection::Rejection;
use crate::wire::{ENCRYPTION_REQUEST_LENGTH, FirstPacket, Parsed};

/// The answer of a server that refuses encryption, of one byte. The client goes on in plaintext, or asks for the other kind.
pub(super) const ENCRYPTION_REFUSED: u8 = b'N';

/// A first packet, and all bytes that the client has sent so far.
pub(super) struct ReceivedPacket {
    pub(super) packet: FirstPacket,
    pub(super) bytes: Vec<u8>,
    /// How many of them go to a server before it has answered.
    length: usize,
}

impl ReceivedPacket {
    /// A packet of this length, and the bytes that came with it.
    ///
    /// A server gets the packet alone, so that what follows it happens once at most. A request for encryption goes with all of
    /// them: PostgreSQL refuses clear text that somebody put behind it (CVE-2021-23214), for which it has to see both at once.
    fn new(packet: FirstPacket, bytes: Vec<u8>, length: usize) -> Self {
        let length = if packet.asks_for_encryption() { bytes.len() } else { length };
        Self { packet, bytes, length }
    }

    /// What a server gets before it has answered.
    pub(super) fn opening_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What a server gets afterwards.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.split_off(self.length)
    }

    /// Whether it asks for encryption, and this answer refuses it. A client that has sent more than the question did not
    /// wait for the answer.
    pub(super) fn is_refused_encryption(&self, answer: &[u8]) -> bool {
        self.packet.asks_for_encryption()
            && self.bytes.len() == ENCRYPTION_REQUEST_LENGTH
            && *answer == [ENCRYPTION_REFUSED]
    }
}

/// Reads a client's first packet; `None` if the client disconnects before the packet is complete.
///
/// # Errors
/// A [`Rejection`] if the packet is invalid, or not complete within `bound`.
pub(super) async fn read(
    client: &mut TcpStream,
    read_buffer: &ReadBuffer,
    bound: Duration,
) -> Result<Option<ReceivedPacket>, Rejection> {
    let deadline = Instant::now() + bound;
    // No buffer is allocated for a client that sends nothing.
    let mut bytes = Vec::new();
    loop {
        let read = timeout_at(deadline, read_buffer.read(client, &mut bytes)).await;
        let expired = read.is_err();
        let read = match read {
            Ok(read) => read,
            // After the process was stopped (SIGSTOP), timers may have expired although the bytes arrived in time. So
            // read from the socket itself once more.
            Err(_) => match read_buffer.read_now(client, &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Rejection::silent(bound));
                }
                read => read,
            },
        };
        if !read.is_ok_and(|read| read > 0) {
            return Ok(None);
        }
        match FirstPacket::parse(&bytes) {
            Ok(Parsed::Partial) if expired => return Err(Rejection::silent(bound)),
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete(packet, length)) => {
                return Ok(Some(ReceivedPacket::new(packet, bytes, length)));
            }
            Err(error) => return Err(Rejection::bad_packet(error)),
        }
    }
}
