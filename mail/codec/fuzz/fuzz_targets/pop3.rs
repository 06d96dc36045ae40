//! Feeds arbitrary bytes to `exercise::pop3`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codec::exercise::pop3(data));
