//! Any bytes as a bundle's plan and model: refused, or loaded and scored.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_bundle(bytes);
});
