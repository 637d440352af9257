//! Gives what libFuzzer makes up to the target `launch_message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jobwarden::fuzzing::launch_message(data));
