//! The part of PostgreSQL's protocol that the benchmark's clients and mock server need ("Message Formats" in its manual).

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The user of all clients. It needs no password: the cost of checking one is the server's, and the same for all setups.
pub(crate) const USER: &str = "bench";
/// Its database.
pub(crate) const DATABASE: &str = "bench";
/// ReadyForQuery outside a transaction.
pub(crate) const READY: &[u8] = b"Z\0\0\0\x05I";

/// Bytes of type and length.
const HEADER: usize = 5;
/// Bytes per read.
const CHUNK: usize = 4096;
const PROTOCOL_3_0: u32 = 3 << 16;

/// A message with this type and body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &length(body)[..], body].concat()
}

/// A StartupMessage of [`USER`].
pub(crate) fn startup() -> Vec<u8> {
    startup_of(USER, DATABASE)
}

/// A StartupMessage.
pub(crate) fn startup_of(user: &str, database: &str) -> Vec<u8> {
    let parameters = format!("user\0{user}\0database\0{database}\0\0");
    let body = [&PROTOCOL_3_0.to_be_bytes(), parameters.as_bytes()].concat();
    [&length(&body), &*body].concat()
}

/// A Query message.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// The length field of a body. It counts its own four bytes.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes()
}

/// The type and body of the message at the start of `bytes`; `None` while it is incomplete.
pub(crate) fn first_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_be_bytes(header.get(1..)?.try_into().ok()?);
    Some((header[0], rest.get(..usize::try_from(length).ok()?.checked_sub(4)?)?))
}

/// An answer of the server, up to ReadyForQuery.
#[derive(Debug, Default)]
struct Answer(Vec<u8>);

impl Answer {
    /// Whether ReadyForQuery has arrived. Fails if an ErrorResponse has.
    fn is_complete(&mut self) -> Result<bool> {
        loop {
            let Some((kind, body)) = first_message(&self.0) else { return Ok(false) };
            let size = HEADER + body.len();
            match kind {
                b'Z' => return Ok(true),
                b'E' => bail!("the server says {}", String::from_utf8_lossy(body).replace('\0', " ")),
                _ => drop(self.0.drain(..size)),
            }
        }
    }
}

/// Sends a message and reads up to ReadyForQuery.
pub(crate) async fn query_async(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<()> {
    stream.write_all(bytes).await.context("sending")?;
    let mut answer = Answer::default();
    while !answer.is_complete()? {
        answer.0.reserve(CHUNK);
        let read = stream.read_buf(&mut answer.0).await.context("reading the answer")?;
        ensure!(read > 0, "the connection ended before the answer did");
    }
    Ok(())
}

/// The same, blocking.
pub(crate) fn query_blocking(stream: &mut (impl Read + Write), bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).context("sending")?;
    let mut answer = Answer::default();
    let mut chunk = [0; CHUNK];
    while !answer.is_complete()? {
        let read = stream.read(&mut chunk).context("reading the answer")?;
        ensure!(read > 0, "the connection ended before the answer did");
        answer.0.extend(&chunk[..read]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_when_it_is_complete() {
        let bytes = query("x");
        assert_eq!(bytes, b"Q\0\0\0\x06x\0");
        assert_eq!(first_message(&bytes), Some((b'Q', &b"x\0"[..])));
        for end in 0..bytes.len() {
            assert_eq!(first_message(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(first_message(b"Z\0\0\0\x03"), None, "an impossible length");
    }

    #[test]
    fn an_answer_ends_with_ready_for_query_wherever_it_is_split() {
        let bytes = [message(b'R', b"\0\0\0\0"), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat();
        for split in 0..bytes.len() {
            let mut answer = Answer::default();
            answer.0.extend(&bytes[..split]);
            assert!(!answer.is_complete().unwrap(), "{split} bytes");
            answer.0.extend(&bytes[split..]);
            assert!(answer.is_complete().unwrap(), "split at {split}");
        }
    }

    #[test]
    fn an_error_response_is_an_error() {
        let mut answer = Answer(message(b'E', b"SFATAL\0C57P03\0\0"));
        assert!(answer.is_complete().unwrap_err().to_string().contains("57P03"));
    }
}
