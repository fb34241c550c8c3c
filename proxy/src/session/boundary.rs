//! Message boundaries: follows a server's messages, so that an error is only ever inserted between two of them.

/// The position of a session in its server's byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    position: Position,
    logged_in: bool,
    /// The type of the last message.
    last: u8,
    /// Whether it is a ReadyForQuery outside of a transaction.
    idle: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// The client asked for encryption, and the server answers with single bytes until that is negotiated.
    Negotiating,
    /// Inside the five bytes of type and length: how many of them have passed, and their values.
    Header(u8, [u8; HEADER]),
    /// Inside a message, of which this many bytes are missing.
    Body(u32),
    /// Unknown, because the bytes are encrypted or invalid.
    Unknown,
}

/// One byte of type and four of length.
const HEADER: usize = 5;
/// The type of ReadyForQuery, which ends a login.
const READY_FOR_QUERY: u8 = b'Z';
/// What ReadyForQuery says outside of a transaction. Inside it says `T`, or `E` once that has failed.
const IDLE: u8 = b'I';
/// The type of ErrorResponse.
const ERROR_RESPONSE: u8 = b'E';

impl Boundary {
    /// The start of a stream of whole messages.
    pub(crate) const fn messages() -> Self {
        Self::at(Position::message())
    }

    /// The start of a stream in which encryption is negotiated first.
    pub(crate) const fn negotiating() -> Self {
        Self::at(Position::Negotiating)
    }

    /// A stream that cannot be followed.
    pub(crate) const fn unknown() -> Self {
        Self::at(Position::Unknown)
    }

    const fn at(position: Position) -> Self {
        Self { position, logged_in: false, last: 0, idle: false }
    }

    /// Whether the bytes so far are whole messages.
    pub(crate) const fn between_messages(&self) -> bool {
        matches!(self.position, Position::Header(0, _))
    }

    /// Whether an error of the proxy may follow: after ReadyForQuery, and during the login. Elsewhere the client would take
    /// it for a result of its command. After an error nothing may follow, because it may be the server's last word.
    pub(crate) const fn takes_error(&self) -> bool {
        self.ends_with_ready() || self.between_messages() && !self.logged_in && self.last != ERROR_RESPONSE
    }

    /// Whether the client has logged in, or that cannot be known.
    pub(crate) const fn logged_in_or_unknown(&self) -> bool {
        self.logged_in || matches!(self.position, Position::Unknown)
    }

    /// Whether the last message is an ErrorResponse. Only an error that ends the session is not followed by ReadyForQuery.
    pub(crate) const fn ends_with_error(&self) -> bool {
        self.between_messages() && self.last == ERROR_RESPONSE
    }

    /// Whether the last whole message says that the server is ready for the next query.
    pub(crate) const fn ends_with_ready(&self) -> bool {
        self.between_messages() && self.last == READY_FOR_QUERY
    }

    /// Whether the last whole message says that the server is ready for the next query, and no transaction is open.
    pub(crate) const fn ends_idle(&self) -> bool {
        self.between_messages() && self.idle
    }

    /// Whether nobody can tell where a message ends.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self.position, Position::Unknown)
    }

    /// Follows the bytes that a server sent.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            if self.between_messages() {
                bytes = self.follow_messages(bytes);
            }
            let Some(first) = bytes.first() else { return };
            match &mut self.position {
                Position::Unknown => return,
                Position::Negotiating => {
                    match first {
                        // Rejected: the client may ask for the other encryption, or continue in plaintext.
                        b'N' => bytes = &bytes[1..],
                        b'S' | b'G' => self.position = Position::Unknown,
                        _ => self.position = Position::message(),
                    }
                }
                Position::Body(missing) => {
                    let passed;
                    (passed, bytes) = bytes.split_at(bytes.len().min(*missing as usize));
                    *missing -= passed.len() as u32;
                    if *missing == 0 {
                        self.position = Position::message();
                        self.record_end(passed);
                    }
                }
                Position::Header(have, header) => {
                    let missing = &mut header[usize::from(*have)..];
                    let passed = bytes.len().min(missing.len());
                    missing[..passed].copy_from_slice(&bytes[..passed]);
                    bytes = &bytes[passed..];
                    *have += passed as u8;
                    if usize::from(*have) == HEADER {
                        let header = *header;
                        self.record_header(header);
                        self.position = Position::after_header(header);
                    }
                }
            }
        }
    }

    const fn record_header(&mut self, [kind, ..]: [u8; HEADER]) {
        self.logged_in |= kind == READY_FOR_QUERY;
        self.last = kind;
        self.idle = false;
    }

    /// Records the last bytes of a message. The status of a transaction is the last byte of ReadyForQuery.
    fn record_end(&mut self, body: &[u8]) {
        self.idle = self.last == READY_FOR_QUERY && body.last() == Some(&IDLE);
    }

    /// Follows messages while their headers are complete, which is the usual case. Returns the bytes that remain.
    fn follow_messages<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some((header, body)) = bytes.split_first_chunk::<HEADER>() {
            self.record_header(*header);
            let Some(length) = body_length(*header) else {
                self.position = Position::Unknown;
                return body;
            };
            let Some((body, rest)) = body.split_at_checked(length as usize) else {
                self.position = Position::Body(length);
                return body;
            };
            self.record_end(body);
            bytes = rest;
        }
        bytes
    }
}

impl Position {
    const fn message() -> Self {
        Self::Header(0, [0; HEADER])
    }

    const fn after_header(header: [u8; HEADER]) -> Self {
        match body_length(header) {
            Some(0) => Self::message(),
            Some(length) => Self::Body(length),
            None => Self::Unknown,
        }
    }
}

/// The length of the message without its header, in bytes. The length field counts its own four bytes.
const fn body_length([_, a, b, c, d]: [u8; HEADER]) -> Option<u32> {
    u32::from_be_bytes([a, b, c, d]).checked_sub(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ReadyForQuery, then an empty NoticeResponse, then a DataRow of ten bytes.
    const STREAM: &[u8] = b"Z\0\0\0\x05IN\0\0\0\x04D\0\0\0\x0e0123456789";
    const ENDS: [usize; 4] = [0, 6, 11, 26];

    #[test]
    fn boundaries_are_found_wherever_the_stream_is_split() {
        for cut in 0..=STREAM.len() {
            let mut boundary = Boundary::messages();
            boundary.follow(&STREAM[..cut]);
            assert_eq!(boundary.between_messages(), ENDS.contains(&cut), "after {cut} bytes");
            boundary.follow(&STREAM[cut..]);
            assert!(boundary.between_messages(), "cut at {cut}");
        }
    }

    #[test]
    fn after_rejected_encryption_the_stream_continues_in_plaintext() {
        let mut boundary = Boundary::negotiating();
        boundary.follow(b"N");
        boundary.follow(b"N");
        assert!(!boundary.between_messages());
        boundary.follow(b"R\0\0\0\x08\0\0\0\0");
        assert!(boundary.between_messages());
    }

    #[test]
    fn an_error_may_replace_the_answer_to_an_encryption_request() {
        let mut boundary = Boundary::negotiating();
        boundary.follow(b"E\0\0\0\x05\0");
        assert!(boundary.between_messages());
    }

    #[test]
    fn a_login_ends_with_the_first_ready_for_query() {
        let mut boundary = Boundary::messages();
        boundary.follow(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01abcd");
        assert!(!boundary.logged_in_or_unknown());
        boundary.follow(b"Z\0\0\0\x05I");
        assert!(boundary.logged_in_or_unknown());
    }

    #[test]
    fn an_error_is_the_last_message_until_the_server_is_ready_again() {
        let mut boundary = Boundary::messages();
        boundary.follow(b"Z\0\0\0\x05IE\0\0\0");
        assert!(!boundary.ends_with_error(), "half of it");
        boundary.follow(b"\x05\0");
        assert!(boundary.ends_with_error());
        boundary.follow(b"Z\0\0\0\x05I");
        assert!(!boundary.ends_with_error());
    }

    #[test]
    fn an_error_may_follow_during_the_login_and_after_ready_for_query_only() {
        let takes_error_after = |bytes: &[u8]| {
            let mut boundary = Boundary::messages();
            boundary.follow(bytes);
            boundary.takes_error()
        };
        let ready = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        assert!(takes_error_after(b"") && takes_error_after(&ready[..9]) && takes_error_after(ready));
        assert!(!takes_error_after(b"E\0\0\0\x05\0"), "the server has rejected the login");
        for after in [&b"C\0\0\0\x0aBEGIN\0"[..], b"E\0\0\0\x05\0", b"S\0\0\0\x08a\0b\0", b"D\0\0"] {
            assert!(!takes_error_after(&[ready, after].concat()), "{after:?}");
        }
    }

    #[test]
    fn a_session_is_idle_outside_of_a_transaction_only() {
        for (status, idle) in [(b'I', true), (b'T', false), (b'E', false)] {
            let bytes = [&b"Z\0\0\0\x05IZ\0\0\0\x05"[..], &[status]].concat();
            for cut in 0..=bytes.len() {
                let mut boundary = Boundary::messages();
                boundary.follow(&bytes[..cut]);
                assert_eq!(boundary.ends_idle(), cut == 6 || cut == bytes.len() && idle, "after {cut} bytes");
                boundary.follow(&bytes[cut..]);
                assert_eq!(boundary.ends_idle(), idle, "{status}, cut at {cut}");
                assert!(boundary.ends_with_ready());
                boundary.follow(b"N\0\0\0\x05I");
                assert!(!boundary.ends_idle());
            }
        }
    }

    #[test]
    fn in_encrypted_bytes_the_position_is_unknown() {
        let mut boundary = Boundary::negotiating();
        boundary.follow(b"S");
        boundary.follow(STREAM);
        assert!(!boundary.between_messages() && boundary.logged_in_or_unknown());
    }

    #[test]
    fn after_an_invalid_length_the_position_is_unknown() {
        let mut boundary = Boundary::messages();
        boundary.follow(b"Z\0\0\0\x03");
        assert!(!boundary.between_messages() && boundary.logged_in_or_unknown());
    }
}
