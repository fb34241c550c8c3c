//! A server's first answer to a client, before anything of it is relayed.

use std::io;

use tokio::net::TcpStream;

use super::read_buffer::ReadBuffer;
use crate::wire;

/// The longest error that is waited for to be complete, in bytes of its body. Servers before PostgreSQL 7.4 sent errors
/// without a length, and a postmaster that cannot fork still does.
const ERROR_MAX: usize = 16 * 1024;

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstAnswer {
    /// An answer that is the client's business.
    ForClient,
    /// The server is starting up or shutting down, or lost a process: it did nothing for the client.
    NotNow,
}

/// Reads until it is clear what the server answered. The bytes are appended to `answer`. It is cancel safe.
///
/// # Errors
/// If the connection breaks or ends before that.
pub(super) async fn read(
    server: &mut TcpStream,
    read_buffer: &ReadBuffer,
    answer: &mut Vec<u8>,
) -> io::Result<FirstAnswer> {
    loop {
        if let Some(answered) = classify(answer) {
            return Ok(answered);
        }
        if read_buffer.read(server, answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What these bytes answer; `None` if that takes more of them: there are none, or an error is incomplete.
///
/// PostgreSQL does not send AuthenticationOk and what follows it before the login is complete or has failed
/// (`sendAuthRequest` in `src/backend/libpq/auth.c`), nor NegotiateProtocolVersion (`v`) before what follows that
/// (`SendNegotiateProtocolVersion` in `src/backend/tcop/backend_startup.c`). So an error may stand behind them.
pub(crate) fn classify(mut bytes: &[u8]) -> Option<FirstAnswer> {
    bytes.first()?;
    while let Some((&kind, rest)) = bytes.split_first() {
        if !matches!(kind, b'E' | b'R' | b'S' | b'K' | b'N' | b'v') {
            break;
        }
        let is_error = kind == b'E';
        let Some((length, body)) = rest.split_first_chunk() else {
            return (!is_error).then_some(FirstAnswer::ForClient);
        };
        // The length counts itself.
        let Some(length) = (u32::from_be_bytes(*length) as usize).checked_sub(4) else { break };
        match body.split_at_checked(length) {
            Some((body, _)) if is_error && wire::is_server_unavailable(body) => {
                return Some(FirstAnswer::NotNow);
            }
            Some((_, after)) if !is_error => bytes = after,
            None if is_error && length <= ERROR_MAX => return None,
            Some(_) | None => break,
        }
    }
    Some(FirstAnswer::ForClient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{SqlState, fatal};

    const LOGGED_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0K\0\0\0\x0c\0\0\0\x01abcd";

    #[test]
    fn only_an_error_that_says_so_means_not_now() {
        for state in [SqlState::CannotConnectNow, SqlState::AdminShutdown] {
            assert_eq!(classify(&fatal(state, "shutting down", "")), Some(FirstAnswer::NotNow));
        }
        for bytes in [
            &fatal(SqlState::TooManyConnections, "sorry, too many clients already", "C57P03")[..],
            b"R\0\0\0\x0c\0\0\0\x05salt",
            LOGGED_IN,
            &LOGGED_IN[..12],
            b"S",
            b"N",
            b"\x15\x03\x01",
            b"Ecould not fork new process for connection: out of memory\n\0",
        ] {
            assert_eq!(classify(bytes), Some(FirstAnswer::ForClient), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_error_is_waited_for_to_its_end() {
        let error = fatal(SqlState::CannotConnectNow, "the database system is starting up", "");
        for length in 0..error.len() {
            assert_eq!(classify(&error[..length]), None, "after {length} bytes");
        }
    }

    #[test]
    fn an_error_may_follow_the_negotiation_of_the_protocol_version() {
        // Protocol 3.0, and one option that the server does not know.
        let negotiation = b"v\0\0\0\x15\0\x03\0\0\0\0\0\x01_pq_.abc\0";
        let error = fatal(SqlState::CannotConnectNow, "the database system is shutting down", "");
        assert_eq!(classify(&[negotiation, &error[..]].concat()), Some(FirstAnswer::NotNow));
        assert_eq!(classify(&[negotiation, &error[..20]].concat()), None, "the error is incomplete");
        assert_eq!(classify(&[negotiation, LOGGED_IN].concat()), Some(FirstAnswer::ForClient));
    }

    #[test]
    fn an_error_may_follow_what_postgresql_keeps_until_the_login_is_complete() {
        let error = fatal(SqlState::AdminShutdown, "terminating connection", "");
        assert_eq!(classify(&[LOGGED_IN, &error].concat()), Some(FirstAnswer::NotNow));
        let ready = [LOGGED_IN, b"Z\0\0\0\x05I", &error].concat();
        assert_eq!(classify(&ready), Some(FirstAnswer::ForClient), "the login was complete");
    }
}
