//! LoginWatch: reads along while a server authenticates the probe, and stops what `require_auth` forbids.
//!
//! tokio-postgres answers whatever the server asks for. It reads through this watch, so it never sees a forbidden request
//! and cannot answer it.

use std::fmt;

use crate::config::{AuthMethod, RequireAuth};

/// Type, length and code of an authentication request.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const REQUEST: usize = 9;

/// What the server has sent of the login so far.
pub(crate) struct LoginWatch {
    allowed: RequireAuth,
    encrypted: bool,
    /// The beginning of the present message.
    head: [u8; REQUEST],
    filled: usize,
    /// How many bytes of the present message are still to come, after its head.
    rest: u64,
    /// Whether the server has asked for anything.
    asked: bool,
    done: bool,
}

/// A server asked for something that is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forbidden {
    pub(crate) method: AuthMethod,
    pub(crate) encrypted: bool,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.method, self.encrypted) {
            (AuthMethod::Password, false) => f.write_str(
                "the server wants the password itself, without TLS; if it may have it, set probe.require_auth to \
                 \"password\"",
            ),
            (AuthMethod::None, _) => {
                f.write_str("the server asks for no password, which probe.require_auth does not allow (\"none\")")
            }
            (AuthMethod::Password | AuthMethod::Md5 | AuthMethod::ScramSha256, _) => {
                write!(f, "the server asks for \"{}\", which probe.require_auth does not allow", self.method)
            }
        }
    }
}

impl std::error::Error for Forbidden {}

impl LoginWatch {
    pub(crate) const fn new(allowed: RequireAuth, encrypted: bool) -> Self {
        Self { allowed, encrypted, head: [0; REQUEST], filled: 0, rest: 0, asked: false, done: false }
    }

    /// Reads what the server has sent. After an error the bytes must not be used.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Forbidden> {
        for byte in bytes {
            if self.done {
                break;
            }
            self.read_byte(*byte)?;
        }
        Ok(())
    }

    fn read_byte(&mut self, byte: u8) -> Result<(), Forbidden> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(());
        }
        self.head[self.filled] = byte;
        self.filled += 1;
        let [kind, length @ .., _, _, _, _] = self.head;
        // The length counts itself.
        let body = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
        if self.filled == REQUEST {
            self.filled = 0;
            self.rest = body.saturating_sub(4);
            return self.request();
        }
        if self.filled == REQUEST - 4 && kind != b'R' {
            self.filled = 0;
            self.rest = body;
        }
        Ok(())
    }

    fn request(&mut self) -> Result<(), Forbidden> {
        let [.., a, b, c, d] = self.head;
        let method = match u32::from_be_bytes([a, b, c, d]) {
            0 => {
                self.done = true;
                if self.asked {
                    return Ok(());
                }
                AuthMethod::None
            }
            3 => AuthMethod::Password,
            5 => AuthMethod::Md5,
            // SASL. tokio-postgres knows SCRAM-SHA-256 and nothing else.
            10 => AuthMethod::ScramSha256,
            // The further steps of SASL, and what tokio-postgres rejects.
            _ => return Ok(()),
        };
        self.asked = true;
        if self.allowed.allows(method, self.encrypted) {
            Ok(())
        } else {
            Err(Forbidden { method, encrypted: self.encrypted })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    const CLEARTEXT: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
    const SASL: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    const SASL_CONTINUE: &[u8] = b"R\0\0\0\x0b\0\0\0\x0br=x";
    const NOTICE: &[u8] = b"N\0\0\0\x0aR\0\0\0\x08\x03";

    /// What the watch says to `messages`, however they are cut into pieces.
    fn verdict(allowed: &RequireAuth, encrypted: bool, messages: &[&[u8]]) -> Result<(), AuthMethod> {
        let stream = messages.concat();
        let verdicts = [1, 3, stream.len()].map(|size| {
            let mut watch = LoginWatch::new(allowed.clone(), encrypted);
            stream.chunks(size).try_for_each(|piece| watch.read(piece)).map_err(|forbidden| forbidden.method)
        });
        assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
        verdicts[0]
    }

    #[test]
    fn a_password_in_the_clear_is_stopped_by_default() {
        let default = RequireAuth::default();
        assert_eq!(verdict(&default, false, &[CLEARTEXT]), Err(AuthMethod::Password));
        assert_eq!(verdict(&default, true, &[CLEARTEXT, OK]), Ok(()));
        assert_eq!(verdict(&default, false, &[NOTICE, MD5, OK]), Ok(()));
        assert_eq!(verdict(&default, false, &[OK]), Ok(()));
        assert_eq!(verdict(&default, false, &[NOTICE, CLEARTEXT]), Err(AuthMethod::Password));
    }

    #[test]
    fn only_what_is_allowed_passes() {
        let scram = RequireAuth::parse("scram-sha-256").unwrap();
        assert_eq!(verdict(&scram, false, &[SASL, SASL_CONTINUE, OK]), Ok(()));
        assert_eq!(verdict(&scram, true, &[OK]), Err(AuthMethod::None));
        assert_eq!(verdict(&scram, true, &[MD5]), Err(AuthMethod::Md5));
        let none = RequireAuth::parse("none").unwrap();
        assert_eq!(verdict(&none, true, &[OK]), Ok(()));
        assert_eq!(verdict(&none, true, &[SASL]), Err(AuthMethod::ScramSha256));
    }

    #[test]
    fn nothing_is_read_as_a_request_after_the_login() {
        let default = RequireAuth::default();
        assert_eq!(verdict(&default, false, &[OK, CLEARTEXT]), Ok(()));
    }
}
