//! Gives what libFuzzer makes up to the target `certificate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::certificate(data));
