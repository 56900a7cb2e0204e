//! Any bytes as a frame of any link type: parsed or refused, and written.
#![no_main]

#[path = "../../crates/core/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_parse(bytes);
});
