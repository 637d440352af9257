//! Gives what libFuzzer makes up to the target `journal_event`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::journal_event(data));
