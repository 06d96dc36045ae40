//! Feeds arbitrary bytes to `exercise::imap`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codec::exercise::imap(data));
