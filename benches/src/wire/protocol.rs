//! As much of PostgreSQL's protocol as clients and stand-in of the benchmark need ("Message Formats" in its manual).

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The user of all clients, who needs no password: what a login costs is the server's and the same for all.
pub const USER: &str = "bench";
/// Its database.
pub const DATABASE: &str = "bench";
/// ReadyForQuery outside a transaction.
pub const READY: &[u8] = b"Z\0\0\0\x05I";

/// Bytes of type and length, and of an answer that is read at once.
const HEADER: usize = 5;
const CHUNK: usize = 4096;
const PROTOCOL_3: u32 = 196_608;

/// A message: its type, its length and its body.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(length(body));
    message.extend(body);
    message
}

/// The packet that begins a session of [`USER`].
#[must_use]
pub fn startup() -> Vec<u8> {
    let body =
        [&PROTOCOL_3.to_be_bytes(), format!("user\0{USER}\0database\0{DATABASE}\0\0").as_bytes()].concat();
    [&length(&body), &*body].concat()
}

/// A simple query.
#[must_use]
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// The length of a body as it goes before it, which counts its own four bytes.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes()
}

/// The message at the start of `bytes`, as its type and its body; `None` while it is not whole.
#[must_use]
pub fn first_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_be_bytes(header.get(1..)?.try_into().ok()?);
    Some((header[0], rest.get(..usize::try_from(length).ok()?.checked_sub(4)?)?))
}

/// Follows answers until the server is ready for the next query.
#[derive(Debug, Default)]
struct Answers(Vec<u8>);

impl Answers {
    /// Whether the answer is whole, after the bytes that were added.
    fn are_whole(&mut self) -> Result<bool> {
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

/// Sends bytes and reads until ReadyForQuery.
///
/// # Errors
/// When the connection ends, or the server answers with an error.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await.context("sending")?;
    let mut answers = Answers::default();
    while !answers.are_whole()? {
        answers.0.reserve(CHUNK);
        let read = stream.read_buf(&mut answers.0).await.context("reading the answer")?;
        anyhow::ensure!(read > 0, "the connection ended before the answer did");
    }
    Ok(())
}

/// The same, blocking.
///
/// # Errors
/// As [`ask`].
pub fn ask_blocking(stream: &mut (impl Read + Write), bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).context("sending")?;
    let mut answers = Answers::default();
    let mut chunk = [0; CHUNK];
    while !answers.are_whole()? {
        let read = stream.read(&mut chunk).context("reading the answer")?;
        anyhow::ensure!(read > 0, "the connection ended before the answer did");
        answers.0.extend(&chunk[..read]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_once_it_is_whole() {
        let bytes = query("x");
        assert_eq!(bytes, b"Q\0\0\0\x06x\0");
        assert_eq!(first_message(&bytes), Some((b'Q', &b"x\0"[..])));
        for end in 0..bytes.len() {
            assert_eq!(first_message(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(first_message(b"Z\0\0\0\x03"), None, "an impossible length");
    }

    #[test]
    fn an_answer_ends_with_ready_for_query_however_it_is_cut() {
        let answer = [message(b'R', b"\0\0\0\0"), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat();
        for cut in 0..answer.len() {
            let mut answers = Answers::default();
            answers.0.extend(&answer[..cut]);
            assert!(!answers.are_whole().unwrap(), "{cut} bytes");
            answers.0.extend(&answer[cut..]);
            assert!(answers.are_whole().unwrap(), "cut at {cut}");
        }
    }

    #[test]
    fn an_error_is_quoted() {
        let mut answers = Answers(message(b'E', b"SFATAL\0C57P03\0\0"));
        assert!(answers.are_whole().unwrap_err().to_string().contains("57P03"));
    }
}
