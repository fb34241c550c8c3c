//! The boundaries between a server's messages.

use super::pieces;
use crate::session::boundary::Boundary;

/// However a stream is cut into pieces, its position is what a slow reader of the whole stream says.
///
/// # Panics
/// If that is not so.
pub fn message_boundaries(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let start = if seed & 1 == 0 { Boundary::messages() } else { Boundary::negotiating() };
    let mut whole = start.clone();
    whole.follow(stream);
    let mut in_pieces = start.clone();
    pieces(stream, seed).for_each(|piece| in_pieces.follow(piece));
    assert_eq!(in_pieces, whole, "the pieces change the position");
    let mut byte_by_byte = start;
    for (index, byte) in stream.iter().enumerate() {
        byte_by_byte.follow(&[*byte]);
        // The slow reader begins anew for each, so only for the first.
        if index < 256 {
            assert_eq!(
                facts(&byte_by_byte),
                read(&stream[..=index], seed & 1 == 1),
                "after {} bytes",
                index + 1
            );
        }
    }
    assert_eq!(byte_by_byte, whole, "single bytes change the position");
    assert_eq!(facts(&whole), read(stream, seed & 1 == 1));
}

/// What a session asks of its position.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    between: bool,
    takes_error: bool,
    logged_in_or_unknown: bool,
    ends_with_error: bool,
    ends_with_ready: bool,
    ends_idle: bool,
    unknown: bool,
}

const fn facts(boundary: &Boundary) -> Facts {
    Facts {
        between: boundary.between_messages(),
        takes_error: boundary.takes_error(),
        logged_in_or_unknown: boundary.logged_in_or_unknown(),
        ends_with_error: boundary.ends_with_error(),
        ends_with_ready: boundary.ends_with_ready(),
        ends_idle: boundary.ends_idle(),
        unknown: boundary.is_unknown(),
    }
}

/// The same from the whole stream, by "Message Formats" of the manual.
fn read(stream: &[u8], negotiates: bool) -> Facts {
    let unknown = || Facts { logged_in_or_unknown: true, unknown: true, ..Facts::default() };
    let mut rest = stream;
    if negotiates {
        // Each request for encryption is answered by one byte.
        rest = &rest[rest.iter().take_while(|byte| **byte == b'N').count()..];
        match rest.first() {
            None => return Facts::default(),
            Some(b'S' | b'G') => return unknown(),
            Some(_) => {}
        }
    }
    let (mut logged_in, mut last) = (false, None);
    while let Some((&kind, after)) = rest.split_first() {
        let inside = |logged_in| Facts { logged_in_or_unknown: logged_in, ..Facts::default() };
        let Some((length, body)) = after.split_first_chunk() else { return inside(logged_in) };
        logged_in |= kind == b'Z';
        let Some(length) = (u32::from_be_bytes(*length) as usize).checked_sub(4) else { return unknown() };
        let Some((body, after)) = body.split_at_checked(length) else { return inside(logged_in) };
        last = Some((kind, body.last() == Some(&b'I')));
        rest = after;
    }
    let ready = matches!(last, Some((b'Z', _)));
    let error = matches!(last, Some((b'E', _)));
    Facts {
        between: true,
        takes_error: ready || !logged_in && !error,
        logged_in_or_unknown: logged_in,
        ends_with_error: error,
        ends_with_ready: ready,
        ends_idle: matches!(last, Some((b'Z', true))),
        unknown: false,
    }
}
