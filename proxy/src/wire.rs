//! The wire: a client's first packet, and the one message that the proxy itself sends, bytes to types and back.
//!
//! Facts: "Message Formats" and "Message Flow" in the PostgreSQL manual, `src/include/libpq/pqcomm.h`, and
//! `ProcessStartupPacket` in `src/backend/tcop/backend_startup.c`.

use std::fmt;

/// The longest start-up packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`), in bytes.
const STARTUP_MAX: usize = 10_000;
/// The longest cancel key of protocol 3.2, in bytes; up to 3.0 it has exactly 4.
const CANCEL_KEY_MAX: usize = 256;
/// Length, code and process id: what a cancel request has before its key.
const CANCEL_HEADER: usize = 12;

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSSENC_CODE: u32 = 80_877_104;
/// The first byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client asks for first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// A session in plaintext.
    StartupMessage(StartupMessage),
    /// TLS, if the server has it.
    SslRequest,
    /// GSSAPI encryption, if the server has it.
    GssEncRequest,
    /// An end to the query of another session.
    CancelRequest,
    /// TLS without asking first (PostgreSQL 17, `sslnegotiation=direct`).
    DirectTls,
}

/// What a plaintext start-up message says of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupMessage {
    /// The `user` parameter.
    pub user: Option<String>,
    /// The `database` parameter.
    pub database: Option<String>,
    /// The `application_name` parameter.
    pub application_name: Option<String>,
}

/// How far a first packet has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The packet is whole and takes up this many bytes.
    Complete(FirstPacket, usize),
}

/// A first packet that PostgreSQL would not take either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// The length field is impossible.
    Length(u32),
    /// A protocol that is not version 3.
    Protocol(u32),
    /// The parameters are not pairs of zero-terminated strings with an empty one at the end.
    Parameters,
}

impl fmt::Display for BadPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "invalid length of startup packet: {length}"),
            Self::Protocol(code) => {
                write!(
                    f,
                    "unsupported frontend protocol {}.{}: only 3 is supported",
                    code >> 16,
                    code & 0xFFFF
                )
            }
            Self::Parameters => {
                f.write_str("invalid startup packet layout: expected terminator as last byte")
            }
        }
    }
}

impl std::error::Error for BadPacket {}

impl FirstPacket {
    /// Reads the packet at the start of `bytes`.
    ///
    /// # Errors
    /// [`BadPacket`] as soon as the bytes cannot become a packet.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, BadPacket> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Ok(Parsed::Complete(Self::DirectTls, bytes.len()));
        }
        let Some(length) = read_u32(bytes, 0) else { return Ok(Parsed::Partial) };
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if !(8..=STARTUP_MAX).contains(&size) {
            return Err(BadPacket::Length(length));
        }
        let Some(code) = read_u32(bytes, 4) else { return Ok(Parsed::Partial) };
        if code >> 16 != 3 && ![SSL_CODE, GSSENC_CODE, CANCEL_CODE].contains(&code) {
            return Err(BadPacket::Protocol(code));
        }
        if !size_fits(code, size) {
            return Err(BadPacket::Length(length));
        }
        if bytes.len() < size {
            return Ok(Parsed::Partial);
        }
        let packet = match code {
            SSL_CODE => Self::SslRequest,
            GSSENC_CODE => Self::GssEncRequest,
            CANCEL_CODE => Self::CancelRequest,
            _ => Self::StartupMessage(StartupMessage::parse(&bytes[8..size])?),
        };
        Ok(Parsed::Complete(packet, size))
    }
}

/// Whether a packet with this code can have this size.
fn size_fits(code: u32, size: usize) -> bool {
    match code {
        SSL_CODE | GSSENC_CODE => size == 8,
        CANCEL_CODE => (CANCEL_HEADER + 4..=CANCEL_HEADER + CANCEL_KEY_MAX).contains(&size),
        _ => true,
    }
}

impl StartupMessage {
    fn parse(parameters: &[u8]) -> Result<Self, BadPacket> {
        let mut startup = Self::default();
        let mut rest = parameters;
        loop {
            let name = take_string(&mut rest)?;
            if name.is_empty() {
                return if rest.is_empty() { Ok(startup) } else { Err(BadPacket::Parameters) };
            }
            let value = take_string(&mut rest)?;
            let field = match name {
                b"user" => &mut startup.user,
                b"database" => &mut startup.database,
                b"application_name" => &mut startup.application_name,
                _ => continue,
            };
            *field = Some(String::from_utf8_lossy(value).into_owned());
        }
    }
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadPacket> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(BadPacket::Parameters)?;
    let (string, after) = rest.split_at(end);
    *rest = &after[1..];
    Ok(string)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// SQLSTATEs that the proxy sends; the names are PostgreSQL's (`errcodes.txt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlState {
    /// 57P03: nobody to connect to at the moment; drivers try again.
    CannotConnectNow,
    /// 57P01: this session is over; pools throw the connection away.
    AdminShutdown,
    /// 53300: the proxy's own limit is reached.
    TooManyConnections,
    /// 08P01: the first packet made no sense.
    ProtocolViolation,
    /// 0A000: a protocol that nobody here speaks.
    FeatureNotSupported,
}

impl SqlState {
    /// The five characters.
    pub const fn code(self) -> &'static str {
        match self {
            Self::CannotConnectNow => "57P03",
            Self::AdminShutdown => "57P01",
            Self::TooManyConnections => "53300",
            Self::ProtocolViolation => "08P01",
            Self::FeatureNotSupported => "0A000",
        }
    }
}

/// An `ErrorResponse` with severity FATAL, which tells the client that the session is over.
pub fn fatal(state: SqlState, message: &str, detail: &str) -> Vec<u8> {
    let mut packet = vec![b'E', 0, 0, 0, 0];
    for (field, value) in
        [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', state.code()), (b'M', message), (b'D', detail)]
    {
        if !value.is_empty() {
            packet.push(field);
            packet.extend(value.bytes().filter(|byte| *byte != 0));
            packet.push(0);
        }
    }
    packet.push(0);
    // The length counts itself but not the type byte. A detail is a sentence: it cannot overflow.
    let length = u32::try_from(packet.len() - 1).unwrap_or(u32::MAX);
    packet[1..5].copy_from_slice(&length.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + body.len()).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_startup_message_tells_who_the_client_is() {
        let bytes = packet(196_608, b"user\0anna\0database\0shop\0application_name\0psql\0\0");
        let startup = StartupMessage {
            user: Some("anna".to_owned()),
            database: Some("shop".to_owned()),
            application_name: Some("psql".to_owned()),
        };
        assert_eq!(
            FirstPacket::parse(&bytes),
            Ok(Parsed::Complete(FirstPacket::StartupMessage(startup), bytes.len()))
        );
    }

    #[test]
    fn every_request_is_told_apart() {
        assert_eq!(
            FirstPacket::parse(&packet(SSL_CODE, b"")),
            Ok(Parsed::Complete(FirstPacket::SslRequest, 8))
        );
        assert_eq!(
            FirstPacket::parse(&packet(GSSENC_CODE, b"")),
            Ok(Parsed::Complete(FirstPacket::GssEncRequest, 8))
        );
        assert_eq!(FirstPacket::parse(&[0x16, 3, 1]), Ok(Parsed::Complete(FirstPacket::DirectTls, 3)));
    }

    #[test]
    fn cancel_keys_have_4_to_256_bytes() {
        for key in [4, 32, 256] {
            let bytes = packet(CANCEL_CODE, &vec![7; 4 + key]);
            assert_eq!(
                FirstPacket::parse(&bytes),
                Ok(Parsed::Complete(FirstPacket::CancelRequest, bytes.len()))
            );
        }
        for key in [0, 3, 257] {
            let bytes = packet(CANCEL_CODE, &vec![7; 4 + key]);
            assert!(matches!(FirstPacket::parse(&bytes), Err(BadPacket::Length(_))), "a key of {key} bytes");
        }
    }

    #[test]
    fn every_truncation_of_a_packet_is_partial() {
        for whole in [
            packet(196_608, b"user\0anna\0\0"),
            packet(SSL_CODE, b""),
            packet(CANCEL_CODE, b"\0\0\0\x01abcd"),
        ] {
            for length in 0..whole.len() {
                assert_eq!(FirstPacket::parse(&whole[..length]), Ok(Parsed::Partial), "{length} bytes");
            }
        }
    }

    #[test]
    fn what_cannot_become_a_packet_is_refused_at_once() {
        assert_eq!(FirstPacket::parse(b"GET / HT"), Err(BadPacket::Length(0x4745_5420)));
        assert_eq!(FirstPacket::parse(&[0, 0, 0, 7]), Err(BadPacket::Length(7)));
        assert_eq!(FirstPacket::parse(&10_001_u32.to_be_bytes()), Err(BadPacket::Length(10_001)));
        assert_eq!(FirstPacket::parse(&packet(131_072, b"x")), Err(BadPacket::Protocol(131_072)));
        assert_eq!(FirstPacket::parse(&packet(196_608, b"user\0anna")), Err(BadPacket::Parameters));
        assert_eq!(FirstPacket::parse(&packet(196_608, b"user\0anna\0\0more")), Err(BadPacket::Parameters));
    }

    #[test]
    fn an_error_response_is_one_whole_message() {
        let bytes = fatal(SqlState::CannotConnectNow, "no leader", "a is silent");
        assert_eq!(bytes[0], b'E');
        assert_eq!(read_u32(&bytes, 1), u32::try_from(bytes.len() - 1).ok());
        assert!(bytes.ends_with(b"C57P03\0Mno leader\0Da is silent\0\0"));
    }
}
