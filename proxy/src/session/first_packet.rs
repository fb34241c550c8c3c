//! Reading a client's first packet.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::read_buffer::{ReadBuffer, Received};
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

/// How long a client may take until its first packet is complete, from its beginning on.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) bound: Duration,
}

impl Deadline {
    pub(super) fn after(bound: Duration) -> Self {
        Self { at: Instant::now() + bound, bound }
    }
}

/// Reads a client's first packet, of which `bytes` are there already; `None` if the client disconnects before the packet is
/// complete.
///
/// # Errors
/// A [`Rejection`] if the packet is invalid, or not complete in time.
pub(super) async fn read(
    client: &mut TcpStream,
    read_buffer: &ReadBuffer,
    mut bytes: Vec<u8>,
    deadline: Deadline,
) -> Result<Option<ReceivedPacket>, Rejection> {
    let parse = |bytes: &[u8]| {
        FirstPacket::parse(bytes).map(|parsed| match parsed {
            Parsed::Partial => None,
            Parsed::Complete(packet, length) => Some((packet, length)),
        })
    };
    let received = read_buffer.receive(client, &mut bytes, deadline.at, parse).await;
    match received.map_err(Rejection::bad_packet)? {
        Received::Complete((packet, length)) => Ok(Some(ReceivedPacket::new(packet, bytes, length))),
        Received::Closed => Ok(None),
        Received::Late => Err(Rejection::silent(deadline.bound)),
    }
}
