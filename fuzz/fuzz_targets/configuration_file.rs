//! The fuzzer `configuration_file`; ../README.md says what it reads and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pg_leader_proxy::fuzz::configuration_file(data));
