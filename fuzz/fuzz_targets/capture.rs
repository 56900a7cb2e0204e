//! Any bytes as a capture file: frames, and how it ended.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_capture(bytes);
});
