//! The fuzzer `decision`; ../README.md says what it reads and what must hold.
#![no_main]
// The same laws as in the tests of the core, whose modules these are.

#[path = "../../proxy/core/tests/decision/mod.rs"]
mod decision;
#[path = "../../proxy/core/tests/histories/mod.rs"]
mod histories;
#[path = "../../proxy/core/tests/judged/mod.rs"]
mod judged;
#[path = "../../proxy/core/tests/oracle/mod.rs"]
mod oracle;
#[path = "../../proxy/core/tests/script/mod.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decision::decision(data));
