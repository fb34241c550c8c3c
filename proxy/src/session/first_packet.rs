//! The first packet of a client and the first answer of a server, before anything is relayed.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::refusal::Refusal;
use crate::net;
use crate::wire::{FirstPacket, Progress, SqlState};

/// A first packet, and every byte that the client has sent so far.
pub(super) struct Opening {
    pub(super) packet: FirstPacket,
    pub(super) bytes: Vec<u8>,
}

/// Reads a client's first packet; `None` when the client leaves before it is whole.
///
/// # Errors
/// A [`Refusal`] when the packet makes no sense or is not whole within `bound`.
pub(super) async fn read(client: &TcpStream, bound: Duration) -> Result<Option<Opening>, Refusal> {
    let deadline = Instant::now() + bound;
    // A client that sends nothing costs no buffer.
    let mut bytes = Vec::new();
    loop {
        let expired = timeout_at(deadline, client.readable()).await.is_err();
        if expired {
            // A process that was stopped finds timers expired whose bytes have come long ago: it looks once more.
            tokio::task::yield_now().await;
        }
        match client.try_read_buf(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && expired => {
                return Err(Refusal::silent(bound));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        match FirstPacket::parse(&bytes) {
            Ok(Progress::Partial) if expired => return Err(Refusal::silent(bound)),
            Ok(Progress::Partial) => {}
            Ok(Progress::Whole(packet, _)) => return Ok(Some(Opening { packet, bytes })),
            Err(error) => return Err(Refusal::bad_packet(error)),
        }
    }
}

/// Waits for the first bytes of a server's answer; none when it takes longer than `bound`, which is its right.
///
/// # Errors
/// When the connection ends before the first byte.
pub(super) async fn answer(server: &TcpStream, bound: Duration, most: usize) -> io::Result<Vec<u8>> {
    let reading = async {
        loop {
            server.readable().await?;
            let mut bytes = Vec::with_capacity(most);
            match server.try_read_buf(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    match net::within(bound, reading).await {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Vec::new()),
        outcome => outcome,
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
    fn only_a_server_that_cannot_connect_now_says_not_now() {
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
