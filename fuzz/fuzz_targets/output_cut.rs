//! Gives what libFuzzer makes up to the target `output_cut`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::output_cut(data));
