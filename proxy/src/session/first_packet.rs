//! Reading a client's first packet and a server's first answer, before anything is relayed.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::read_buffer::ReadBuffer;
use super::rejection::Rejection;

use crate::net;
use crate::wire::{FirstPacket, Parsed, SqlState};

/// A first packet, and all bytes that the client has sent so far.
pub(super) struct ReceivedPacket {
    pub(super) packet: FirstPacket,
    pub(super) bytes: Vec<u8>,
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
            Ok(Parsed::Complete(packet, _)) => return Ok(Some(ReceivedPacket { packet, bytes })),
            Err(error) => return Err(Rejection::bad_packet(error)),
        }
    }
}

/// Waits for the first bytes of a server's answer. After `bound` it returns no bytes: a server may take longer.
///
/// # Errors
/// If the connection ends before the first byte.
pub(super) async fn answer(
    server: &mut TcpStream,
    read_buffer: &ReadBuffer,
    bound: Duration,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match net::within(bound, read_buffer.read(server, &mut bytes)).await {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
        Ok(_) | Err(_) => Ok(bytes),
    }
}

/// Whether a server's first answer is an error with SQLSTATE 57P03: it is starting up or shutting down.
pub(super) fn is_not_now(answer: &[u8]) -> bool {
    let code = [b"\0C", SqlState::CannotConnectNow.code().as_bytes(), b"\0"].concat();
    answer.first() == Some(&b'E') && answer.windows(code.len()).any(|window| window == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fatal;

    #[test]
    fn only_sqlstate_57p03_means_not_now() {
        assert!(is_not_now(&fatal(SqlState::CannotConnectNow, "the database system is starting up", "")));
        assert!(!is_not_now(&fatal(
            SqlState::TooManyConnections,
            "sorry, too many clients already",
            "57P03"
        )));
        assert!(!is_not_now(b"R\0\0\0\x08\0\0\0\0"));
        assert!(!is_not_now(b"S"));
        assert!(!is_not_now(b""));
    }
}
