//! A client's first packet and a server's first answer.

use crate::session::first_answer::{FirstAnswer, classify};
use crate::wire::{BadPacket, FirstPacket, Parsed, SqlState, StartupMessage, fatal, is_fatal};

/// No more is kept of an answer that is not complete, in bytes: what may stand before an error, and the error.
const KEPT_MAX: usize = 64 * 1024;

/// A packet is recognized as soon as it is whole, and whatever follows it changes nothing.
///
/// # Panics
/// If that is not so.
pub fn first_packet(data: &[u8]) {
    let whole = FirstPacket::parse(data);
    let decided = (0..=data.len()).map(|length| (length, FirstPacket::parse(&data[..length])));
    let first = decided.into_iter().find(|(_, parsed)| *parsed != Ok(Parsed::Partial));
    match (&whole, first) {
        (Ok(Parsed::Partial), first) => assert_eq!(first, None, "it was decided before"),
        (Ok(Parsed::Complete(FirstPacket::DirectTls, length)), Some((1, _))) => {
            assert_eq!(*length, data.len(), "everything is TLS");
        }
        (Ok(Parsed::Complete(_, length)), Some((at, early))) => {
            assert_eq!((*length, &whole), (at, &early), "what follows the packet changes it");
        }
        (Err(_), Some((_, early))) => assert_eq!(whole, early, "what follows an invalid packet changes it"),
        (Ok(Parsed::Complete(..)) | Err(_), None) => panic!("it is decided and is not"),
    }
    if let Ok(Parsed::Complete(FirstPacket::StartupMessage(startup), _)) = &whole {
        let again = FirstPacket::parse(&encoded(startup));
        let known =
            matches!(&again, Ok(Parsed::Complete(FirstPacket::StartupMessage(read), _)) if read == startup);
        // A name that is not UTF-8 is longer once it is shown, and may no longer fit.
        assert!(known || matches!(again, Err(BadPacket::Length(_))), "{startup:?} is read as {again:?}");
    }
    let text = String::from_utf8_lossy(data);
    assert!(is_fatal(&fatal(SqlState::CannotConnectNow, &text, &text)), "an error of the proxy is not one");
}

/// A start-up packet with these parameters.
fn encoded(startup: &StartupMessage) -> Vec<u8> {
    let StartupMessage { user, database, application_name } = startup;
    let parameters = [("user", user), ("database", database), ("application_name", application_name)];
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        packet.extend([name, value].map(|text| [text.as_bytes(), &[0]].concat()).concat());
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).unwrap();
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// A server that goes on sending is understood in the end, and a refusal that was understood stays one.
///
/// # Panics
/// If that is not so.
pub fn first_answer(data: &[u8]) {
    let answer = classify(data);
    match answer {
        Some(FirstAnswer::ForClient) => assert!(!data.is_empty(), "nothing is no answer"),
        Some(FirstAnswer::NotNow) => {
            assert_eq!(classify(&[data, b"more"].concat()), answer, "more bytes take back a refusal");
        }
        None => {
            let waits = [data, &vec![b'x'; KEPT_MAX]].concat();
            assert!(classify(&waits).is_some(), "{} bytes are kept and not understood", waits.len());
        }
    }
}
