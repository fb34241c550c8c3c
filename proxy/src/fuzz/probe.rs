//! What a server answers to a probe.

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use super::pieces;
use crate::config::{AuthMethod, RequireAuth};
use crate::sources::probe::login_watch::LoginWatch;
use crate::sources::probe::query::{of_fields, parse_lsn};

const FIELDS: [&str; 8] =
    ["recovers", "system_id", "started", "timeline", "written", "received", "replayed", "streaming"];

/// A reply is read or refused by naming the field.
///
/// # Panics
/// If that is not so.
pub fn probe_reply(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let values: Vec<&str> = text.split('\n').collect();
    let field = |name: &str| {
        let at = FIELDS.iter().position(|known| *known == name).unwrap();
        values.get(at).copied().filter(|value| !value.is_empty())
    };
    match of_fields(field) {
        Ok(reply) => assert_eq!(reply.is_primary(), field("recovers") == Some("false")),
        Err(error) => assert!(FIELDS.iter().any(|name| error.starts_with(name)), "{error}"),
    }
    if let Some(lsn) = parse_lsn(&text) {
        let shown = format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF);
        assert_eq!(parse_lsn(&shown), Some(lsn));
    }
}

/// Before the probe's own client could answer a request that is not allowed, the watch has stopped it, however the stream is
/// cut into pieces.
///
/// # Panics
/// If that is not so.
pub fn probe_login(data: &[u8]) {
    let Some((&head, stream)) = data.split_first() else { return };
    let words = ["scram-sha-256", "md5", "none", "password", "!password", "!none,!md5"];
    let encrypted = head & 128 != 0;
    let allowed = RequireAuth::parse(words[usize::from(head) % words.len()]).unwrap();
    let watch = || LoginWatch::new(allowed.clone(), encrypted);
    let verdict = watch().read(stream);
    let mut in_pieces = watch();
    assert_eq!(
        pieces(stream, head).try_for_each(|piece| in_pieces.read(piece)),
        verdict,
        "the pieces matter"
    );
    if let Some((end, method)) = first_request(stream)
        && !allowed.allows(method, encrypted)
    {
        assert!(watch().read(&stream[..end]).is_err(), "{method} passes at byte {end}");
    }
}

/// The request that tokio-postgres answers, as its own parser reads it, and the byte at which it ends.
fn first_request(stream: &[u8]) -> Option<(usize, AuthMethod)> {
    let mut buffer = BytesMut::from(stream);
    while let Ok(Some(message)) = Message::parse(&mut buffer) {
        let end = stream.len() - buffer.len();
        let requests = [
            (matches!(message, Message::AuthenticationOk), AuthMethod::None),
            (matches!(message, Message::AuthenticationCleartextPassword), AuthMethod::Password),
            (matches!(message, Message::AuthenticationMd5Password(_)), AuthMethod::Md5),
            (matches!(message, Message::AuthenticationSasl(_)), AuthMethod::ScramSha256),
        ];
        if let Some((_, method)) = requests.into_iter().find(|(is, _)| *is) {
            return Some((end, method));
        }
        // It skips these, and fails on all others.
        if !matches!(message, Message::NoticeResponse(_) | Message::ParameterStatus(_)) {
            return None;
        }
    }
    None
}
