//! Gives what libFuzzer makes up to the target `dropped_spec`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::dropped_spec(data));
