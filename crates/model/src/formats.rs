//! The model formats that a stage may name.

use serveflow_core::lane::Model;
use std::sync::Arc;

/// A model, or where and why its file is refused, in words.
pub type Loaded = Result<Arc<dyn Model>, String>;

/// A model format: its name, what it is, and how to read it.
#[derive(Debug)]
pub struct FormatEntry {
    /// Name in plans.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Reads a file; the error says where and why in words.
    pub load: fn(&[u8]) -> Loaded,
}

/// All formats. A new one is one file and one line here.
pub const FORMATS: &[FormatEntry] = &[];
