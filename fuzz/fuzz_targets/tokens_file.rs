//! Gives what libFuzzer makes up to the target `tokens_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::tokens_file(data));
