//! The PROXY protocol: parses the header in which a balancer tells its client's address, of version 1 and 2.
//!
//! Source: "The PROXY protocol, Versions 1 & 2" (`doc/proxy-protocol.txt` of HAProxy), sections 2.1 and 2.2.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 1 begins with.
const LINE_START: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end, in bytes.
const LINE_MAX: usize = 107;
/// The part of version 2 that every header has, in bytes: signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// The longest header of version 2, in bytes. Addresses take at most 216 of them; the rest are TLVs, which are skipped.
const HEADER_MAX: usize = 4096;
/// How many bytes an error shows.
const SHOWN: usize = LINE_MAX;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's address. `None` if there is none: the balancer itself connects, such as for a health check (`LOCAL`), or
    /// its client has no IP address that it knows (`UNKNOWN`, `AF_UNSPEC`, `AF_UNIX`). Then the address of the connection counts.
    pub client: Option<SocketAddr>,
    /// How long the header is, in bytes. What follows is the client's.
    pub length: usize,
}

/// Bytes that no header begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader {
    problem: Problem,
    /// What was received, or the beginning of it.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NoHeader,
    Command(u8),
    Family(u8),
    TooShort(usize),
    TooLong(usize),
    EndlessLine,
    LineEnd,
    Protocol,
    Fields,
    Address,
    Port,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no PROXY protocol header"),
            Self::Command(byte) => write!(
                f,
                "byte 13 of the PROXY header is {byte:#04x}, where 0x20 (LOCAL) or 0x21 (PROXY) should be"
            ),
            Self::Family(byte) => {
                write!(f, "byte 14 of the PROXY header is {byte:#04x}, which is no family and transport")
            }
            Self::TooShort(length) => {
                write!(f, "{length} bytes are too few for the addresses of the PROXY header")
            }
            Self::TooLong(length) => {
                write!(
                    f,
                    "the PROXY header says that {length} bytes follow; at most {} may",
                    HEADER_MAX - FIXED
                )
            }
            Self::EndlessLine => write!(f, "the PROXY header's line does not end within {LINE_MAX} bytes"),
            Self::LineEnd => f.write_str("the PROXY header's line does not end with CR LF"),
            Self::Protocol => f.write_str("the PROXY header names none of TCP4, TCP6 and UNKNOWN"),
            Self::Fields => f.write_str(
                "the PROXY header's line has not two addresses and two ports, each after one space",
            ),
            Self::Address => f.write_str("the PROXY header has an invalid address"),
            Self::Port => f.write_str("the PROXY header has an invalid port"),
        }
    }
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the connection begins with \"{}\"", self.problem, self.bytes.escape_ascii())
    }
}

impl std::error::Error for BadHeader {}

impl Header {
    /// Parses the header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`BadHeader`] as soon as no further bytes can make a header of them.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, BadHeader> {
        let parsed = if begins(bytes, SIGNATURE) {
            binary(bytes)
        } else if begins(bytes, LINE_START) {
            line(bytes)
        } else {
            Err(Problem::NoHeader)
        };
        parsed.map_err(|problem| BadHeader { problem, bytes: bytes[..bytes.len().min(SHOWN)].to_owned() })
    }
}

/// Whether `bytes` begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Problem> {
    let command = bytes.get(12).copied();
    if let Some(other) = command.filter(|command| !matches!(command, 0x20 | 0x21)) {
        return Err(Problem::Command(other));
    }
    let family = bytes.get(13).copied();
    // Families 0 to 3, transports 0 to 2.
    if let Some(other) = family.filter(|family| family >> 4 > 3 || family & 0xf > 2) {
        return Err(Problem::Family(other));
    }
    let (Some(command), Some(family), Some([high, low])) = (command, family, bytes.get(14..FIXED)) else {
        return Ok(None);
    };
    let following = usize::from(u16::from_be_bytes([*high, *low]));
    if FIXED + following > HEADER_MAX {
        return Err(Problem::TooLong(following));
    }
    // The source's address, then the destination's, then the ports in the same order. Other families have no IP address.
    let address = match (command, family) {
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => 0,
    };
    if address > 0 && following < 2 * address + 4 {
        return Err(Problem::TooShort(following));
    }
    let Some(body) = bytes.get(FIXED..FIXED + following) else { return Ok(None) };
    let source = body.get(..address).unwrap_or_default();
    let ip = <[u8; 4]>::try_from(source)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(source).map(IpAddr::from));
    let port =
        body.get(2 * address..2 * address + 2).and_then(|port| port.try_into().ok()).map(u16::from_be_bytes);
    let client = ip.ok().zip(port).map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Ok(Some(Header { client, length: FIXED + following }))
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 40000 5433`, or `PROXY UNKNOWN` with anything behind it.
fn line(bytes: &[u8]) -> Result<Option<Header>, Problem> {
    let Some(end) = bytes.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_MAX { Ok(None) } else { Err(Problem::EndlessLine) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Problem::LineEnd)?;
    let mut fields = line.split(|byte| *byte == b' ').skip(1);
    let parse: fn(&[u8]) -> Result<IpAddr, Problem> = match fields.next() {
        Some(b"UNKNOWN") => return Ok(Some(Header { client: None, length: end + 1 })),
        Some(b"TCP4") => |field| value::<Ipv4Addr>(field).map(IpAddr::from).ok_or(Problem::Address),
        Some(b"TCP6") => |field| value::<Ipv6Addr>(field).map(IpAddr::from).ok_or(Problem::Address),
        _ => return Err(Problem::Protocol),
    };
    let fields: Vec<&[u8]> = fields.collect();
    let [source, destination, source_port, destination_port] = fields[..] else {
        return Err(Problem::Fields);
    };
    let (source, _) = (parse(source)?, parse(destination)?);
    let (port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Some(Header { client: Some(SocketAddr::new(source.to_canonical(), port)), length: end + 1 }))
}

fn port(field: &[u8]) -> Result<u16, Problem> {
    let digits = field.iter().all(u8::is_ascii_digit);
    value(field).filter(|_| digits).ok_or(Problem::Port)
}

fn value<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x15\x39";
    const V4_LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 5433\r\n";

    /// Version 2 with this command, family and body.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// The header that `bytes` are.
    fn header(bytes: &[u8]) -> Header {
        let header = Header::parse(bytes).unwrap().unwrap();
        assert_eq!(header.length, bytes.len());
        header
    }

    fn client(bytes: &[u8]) -> Option<SocketAddr> {
        header(bytes).client
    }

    fn error(bytes: &[u8]) -> String {
        Header::parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn both_versions_tell_the_clients_address() {
        let expected = Some("192.0.2.1:40000".parse().unwrap());
        assert_eq!([client(V4), client(V4_LINE)], [expected, expected]);
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], b"\x9c\x40\x15\x39"].concat();
        let expected = Some("[::1]:40000".parse().unwrap());
        assert_eq!(client(&v2(0x21, 0x21, &v6)), expected);
        assert_eq!(client(b"PROXY TCP6 ::1 2001:db8::2 40000 5433\r\n"), expected);
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n";
        assert_eq!(client(mapped), Some("192.0.2.1:1".parse().unwrap()), "as IPv4");
    }

    #[test]
    fn tlvs_are_skipped_and_what_follows_the_header_is_not_its_own() {
        let body = [&V4[16..], b"\x05\0\x03abc\x04\0\0"].concat();
        assert_eq!(client(&v2(0x21, 0x11, &body)), client(V4));
        for whole in [V4, V4_LINE] {
            let with_more = [whole, b"\0\0\0\x08\x04\xd2\x16\x2f"].concat();
            assert_eq!(Header::parse(&with_more).unwrap().unwrap().length, whole.len());
        }
    }

    #[test]
    fn a_header_without_an_ip_address_is_valid() {
        let none = [
            v2(0x20, 0x00, b""),
            v2(0x20, 0x11, &V4[16..]),
            v2(0x20, 0x11, b""),
            v2(0x21, 0x00, b"\x04\0\x01x"),
            v2(0x21, 0x31, &[b'/'; 216]),
            v2(0x21, 0x12, &V4[16..]),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ff:: :: 1 2 whatever\r\n".to_vec(),
        ];
        for bytes in &none {
            assert_eq!(client(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_truncation_of_a_header_is_partial() {
        for whole in [V4, V4_LINE, b"PROXY UNKNOWN\r\n"] {
            for length in 0..whole.len() {
                assert_eq!(Header::parse(&whole[..length]), Ok(None), "{length} bytes");
            }
        }
    }

    #[test]
    fn an_error_names_what_is_wrong_and_the_bytes() {
        assert_eq!(
            error(b"\0\0\0\x08\x04\xd2\x16\x2f"),
            "no PROXY protocol header: the connection begins with \"\\x00\\x00\\x00\\x08\\x04\\xd2\\x16/\""
        );
        let long = [LINE_START, &[b'x'; 200]].concat();
        for (bytes, words) in [
            (&b"PROXY\n"[..], "no PROXY protocol header"),
            (b"\r\n\r\n\0\r\nQUIT\r", "no PROXY protocol header"),
            (&v2(0x11, 0, b""), "byte 13 of the PROXY header is 0x11"),
            (&v2(0x22, 0, b""), "byte 13 of the PROXY header is 0x22"),
            (&v2(0x21, 0x41, b""), "byte 14 of the PROXY header is 0x41"),
            (&v2(0x21, 0x13, b""), "byte 14 of the PROXY header is 0x13"),
            (&v2(0x21, 0x11, &[0; 11]), "11 bytes are too few"),
            (&v2(0x21, 0x21, &[0; 35]), "35 bytes are too few"),
            (&v2(0x21, 0x11, &[0; HEADER_MAX - FIXED + 1]), "says that 4081 bytes follow; at most 4080 may"),
            (&long, "does not end within 107 bytes"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "does not end with CR LF"),
            (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "none of TCP4, TCP6 and UNKNOWN"),
            (b"PROXY \r\n", "none of TCP4, TCP6 and UNKNOWN"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "two addresses and two ports"),
            (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "two addresses and two ports"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "two addresses and two ports"),
            (b"PROXY TCP4 ::1 192.0.2.2 1 2\r\n", "invalid address"),
            (b"PROXY TCP6 ::1 192.0.2.2 1 2\r\n", "invalid address"),
            (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "invalid address"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "invalid port"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "invalid port"),
        ] {
            let told = error(bytes);
            assert!(told.contains(words), "{told}");
            assert!(told.contains(": the connection begins with \""), "{told}");
        }
        assert!(error(&long).len() < 250, "no more bytes than the longest line has");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = 1_u64;
        let mut next = || {
            // Knuth's linear congruential generator (MMIX).
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(random >> 56).unwrap()
        };
        for start in [&b""[..], SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", LINE_START, b"PROXY TCP4 1"] {
            for length in 0..600 {
                let bytes: Vec<u8> = start.iter().copied().chain((0..length).map(|_| next())).collect();
                if let Ok(Some(header)) = Header::parse(&bytes) {
                    assert!(header.length <= bytes.len());
                }
            }
        }
    }
}
