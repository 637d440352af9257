//! Gives what libFuzzer makes up to the target `output_index`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::output_index(data));
