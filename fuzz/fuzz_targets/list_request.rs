//! Gives what libFuzzer makes up to the target `list_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::list_request(data));
