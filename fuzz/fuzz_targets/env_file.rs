//! Gives what libFuzzer makes up to the target `env_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::env_file(data));
