//! Any bytes as an ONNX file: refused, or read and scored.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_net(bytes);
});
