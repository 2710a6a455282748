//! `packets` of mizar-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (mizar_fuzz::PACKETS.run)(bytes));
