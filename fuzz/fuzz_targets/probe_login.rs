//! The fuzzer `probe_login`; ../README.md says what it reads and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pg_leader_proxy::fuzz::probe_login(data));
