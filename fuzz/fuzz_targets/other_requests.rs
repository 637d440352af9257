//! Gives what libFuzzer makes up to the target `other_requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::other_requests(data));
