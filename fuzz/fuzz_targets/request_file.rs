//! Gives what libFuzzer makes up to the target `request_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::request_file(data));
