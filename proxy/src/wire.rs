//! The wire protocol: parses a client's first packet, and builds the only message that the proxy itself sends.
//!
//! Sources: "Message Formats" and "Message Flow" in the PostgreSQL manual, `src/include/libpq/pqcomm.h`, and
//! `ProcessStartupPacket` in `src/backend/tcop/backend_startup.c`.

use std::fmt;

/// The longest start-up packet that PostgreSQL accepts (`MAX_STARTUP_PACKET_LENGTH`), in bytes.
const STARTUP_MAX: usize = 10_000;
/// The longest cancel key of protocol 3.2, in bytes; in protocol 3.0 it has exactly 4.
const CANCEL_KEY_MAX: usize = 256;
/// The length of a cancel request without its key, in bytes: length, code and process ID.
const CANCEL_HEADER: usize = 12;

/// The length of an SSLRequest and of a GSSENCRequest, in bytes: length and code.
pub const ENCRYPTION_REQUEST_LENGTH: usize = 8;

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSSENC_CODE: u32 = 80_877_104;
/// The first byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A client's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// StartupMessage: begins a plaintext session.
    StartupMessage(StartupMessage),
    /// SSLRequest: asks for TLS.
    SslRequest,
    /// GSSENCRequest: asks for GSSAPI encryption.
    GssEncRequest,
    /// CancelRequest: cancels the query of another session.
    CancelRequest,
    /// A TLS ClientHello without an SSLRequest (`sslnegotiation=direct`, PostgreSQL 17).
    DirectTls,
}

/// The parameters of a StartupMessage that the proxy logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupMessage {
    /// The `user` parameter.
    pub user: Option<String>,
    /// The `database` parameter.
    pub database: Option<String>,
    /// The `application_name` parameter.
    pub application_name: Option<String>,
}

/// The result of parsing the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The packet is complete and has this many bytes.
    Complete(FirstPacket, usize),
}

/// Why a first packet is invalid. PostgreSQL would reject it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// The length field is invalid.
    Length(u32),
    /// The major protocol version is not 3.
    Protocol(u32),
    /// The parameters are not pairs of zero-terminated strings, followed by an empty string.
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
    /// Whether the client begins with encryption, or asks for it.
    pub const fn asks_for_encryption(&self) -> bool {
        match self {
            Self::SslRequest | Self::GssEncRequest | Self::DirectTls => true,
            Self::StartupMessage(_) | Self::CancelRequest => false,
        }
    }

    /// Parses the packet at the start of `bytes`.
    ///
    /// # Errors
    /// [`BadPacket`] as soon as no further bytes can make the packet valid.
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
        SSL_CODE | GSSENC_CODE => size == ENCRYPTION_REQUEST_LENGTH,
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

/// The SQLSTATEs that the proxy sends, named as in PostgreSQL's `errcodes.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlState {
    /// 57P03: there is no server at the moment; clients may try again.
    CannotConnectNow,
    /// 57P01: the session is terminated; pools discard the connection.
    AdminShutdown,
    /// 28000: the client's address may not connect.
    InvalidAuthorizationSpecification,
    /// 53300: a limit of sessions or connections is reached.
    TooManyConnections,
    /// 08P01: the first packet is invalid.
    ProtocolViolation,
    /// 0A000: the protocol version is not supported.
    FeatureNotSupported,
}

impl SqlState {
    /// The five characters of the code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::CannotConnectNow => "57P03",
            Self::AdminShutdown => "57P01",
            Self::InvalidAuthorizationSpecification => "28000",
            Self::TooManyConnections => "53300",
            Self::ProtocolViolation => "08P01",
            Self::FeatureNotSupported => "0A000",
        }
    }
}

/// An ErrorResponse with severity FATAL, which ends the session. An empty `detail` is left out.
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
    // The length counts itself but not the type byte. The texts are short, so it cannot overflow.
    let length = u32::try_from(packet.len() - 1).unwrap_or(u32::MAX);
    packet[1..5].copy_from_slice(&length.to_be_bytes());
    packet
}

/// Whether the body of an ErrorResponse says that the server cannot be used now: SQLSTATE 57P01 (admin_shutdown), 57P02
/// (crash_shutdown) or 57P03 (cannot_connect_now).
pub fn is_server_unavailable(body: &[u8]) -> bool {
    body.split(|byte| *byte == 0).any(|field| matches!(field, b"C57P01" | b"C57P02" | b"C57P03"))
}

/// Whether `bytes` are one whole ErrorResponse that ends the session. The field `V` is the severity that is never
/// translated; PostgreSQL sends it from 9.6 on.
pub fn is_fatal(bytes: &[u8]) -> bool {
    let whole = read_u32(bytes, 1).is_some_and(|length| bytes.len() - 1 == length as usize);
    let says = |severity: &[u8]| bytes.windows(severity.len()).any(|window| window == severity);
    bytes.first() == Some(&b'E') && whole && (says(b"\0VFATAL\0") || says(b"\0VPANIC\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + body.len()).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_startup_message_has_the_names_of_user_database_and_application() {
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
    fn every_request_is_recognized() {
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
    fn an_invalid_packet_is_rejected_at_once() {
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
        assert!(is_fatal(&bytes));
    }

    #[test]
    fn an_error_that_ends_the_session_is_told_from_others() {
        let bytes = fatal(SqlState::AdminShutdown, "terminating connection", "");
        assert!(!is_fatal(&bytes[..bytes.len() - 1]) && !is_fatal(&[&bytes[..], b"Z"].concat()));
        assert!(!is_fatal(b"E\0\0\0\x10SERROR\0VERROR\0\0") && !is_fatal(b"") && !is_fatal(b"E"));
    }
}
