//! Gives what libFuzzer makes up to the target `matches`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::matches(data));
