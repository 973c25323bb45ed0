//! Assembly text of any kind: assembled or refused, never a panic, and what is accepted survives the round trips.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pollux_asm::fuzz::check_text(text));
