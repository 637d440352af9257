//! Gives what libFuzzer makes up to the target `page_token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::page_token(data));
