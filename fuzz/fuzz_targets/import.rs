//! A byte that names a foreign format, and a file of it: refused, or read, bound and scored.
#![no_main]

#[path = "../../crates/train/tests/common/entry.rs"]
mod entry;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    entry::fuzz_import(bytes);
});
