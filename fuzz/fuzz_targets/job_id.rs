//! Gives what libFuzzer makes up to the target `job_id`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::job_id(data));
