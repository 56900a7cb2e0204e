//! Any bytes as a sequence of packets: accounts balance, and each flow has its verdict.
#![no_main]

#[path = "../../crates/core/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_engine(bytes);
});
