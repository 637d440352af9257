//! Gives what libFuzzer makes up to the target `state_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::state_record(data));
