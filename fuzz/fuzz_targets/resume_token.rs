//! Gives what libFuzzer makes up to the target `resume_token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::resume_token(data));
