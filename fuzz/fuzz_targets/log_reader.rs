//! Gives what libFuzzer makes up to the target `log_reader`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::log_reader(data));
