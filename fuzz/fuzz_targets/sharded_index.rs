//! See the function of this name in src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clipzoo_fuzz::sharded_index(data));
