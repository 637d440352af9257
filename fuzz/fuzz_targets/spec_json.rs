//! Gives what libFuzzer makes up to the target `spec_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::spec_json(data));
