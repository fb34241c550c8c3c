//! Fuzz targets: what this crate's parsers promise, judged on any bytes.
//!
//! `fuzz/` feeds them with libFuzzer, and the tests below with what it has kept. Only these two are built with this module.

#![allow(clippy::unwrap_used, reason = "a panic is the verdict")]

mod configuration;
mod control;
mod etcd;
mod messages;
mod patroni;
mod probe;
mod startup;

pub use configuration::{configuration_file, values};
pub use control::control_messages;
pub use etcd::etcd_events;
pub use messages::message_boundaries;
pub use patroni::patroni_values;
pub use probe::{probe_login, probe_reply};
pub use startup::{first_answer, first_packet};

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// Cuts bytes into pieces whose lengths follow from `seed`.
fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed));
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (1 + (state >> 24) as usize % 24).min(rest.len());
        let piece;
        (piece, rest) = rest.split_at(length);
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn first_packets() {
        replay("first_packet", super::first_packet);
    }

    #[test]
    fn first_answers() {
        replay("first_answer", super::first_answer);
    }

    #[test]
    fn message_boundaries() {
        replay("message_boundaries", super::message_boundaries);
    }

    #[test]
    fn patroni_values() {
        replay("patroni_values", super::patroni_values);
    }

    #[test]
    fn etcd_events() {
        replay("etcd_events", super::etcd_events);
    }

    #[test]
    fn probe_logins() {
        replay("probe_login", super::probe_login);
    }

    #[test]
    fn probe_replies() {
        replay("probe_reply", super::probe_reply);
    }

    #[test]
    fn configuration_files() {
        replay("configuration_file", super::configuration_file);
    }

    #[test]
    fn values() {
        replay("values", super::values);
    }

    #[test]
    fn control_messages() {
        replay("control_messages", super::control_messages);
    }
}
