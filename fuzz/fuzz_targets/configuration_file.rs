#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pg_leader_proxy::fuzz::configuration_file(data));
