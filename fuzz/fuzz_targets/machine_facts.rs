//! Gives what libFuzzer makes up to the target `machine_facts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::machine_facts(data));
