//! Feeds arbitrary bytes to `exercise::message`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codec::exercise::message(data));
