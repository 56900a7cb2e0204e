//! Any bytes as a model file: refused, or read, written and scored.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_forest(bytes);
});
