//! Files of any bytes: read or refused, never a panic, and what is accepted survives the round trips.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| pollux_asm::fuzz::check_binary(file));
