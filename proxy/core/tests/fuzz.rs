//! The decision under the histories that the fuzzer has kept.

#![allow(clippy::unwrap_used)]

mod decision;
mod histories;
mod judged;
mod oracle;
#[path = "../../../fuzz/replay.rs"]
mod replay;
mod script;

#[test]
fn decisions() {
    replay::replay("decision", decision::decision);
}
