//! The fuzzer `task_config`; ../README.md says what it reads and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nomad_driver_pg_leader_proxy::fuzz::task_config(data));
