//! Any bytes as a label table: refused, or a book.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_labels(bytes);
});
