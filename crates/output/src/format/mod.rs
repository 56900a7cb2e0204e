//! Verdicts as text.

mod csv;
mod fields;
mod json;

use crate::RecordWriter;
use serveflow_io::{Null, Sink};

pub use csv::Csv;
pub use json::JsonLines;

/// Makes a sink out of where its records go, the labels' names and the stages' names. It writes no
/// heading.
pub type OpenFormat = fn(Box<dyn RecordWriter>, &[String], &[String]) -> Box<dyn Sink>;

/// A format that an operator may name: one line of [`FORMATS`].
pub struct VerdictFormat {
    /// Short name.
    pub name: &'static str,
    /// What it is, in one line.
    pub doc: &'static str,
    /// What stands above the records of each file; nothing where the format has no heading.
    pub heading: &'static [u8],
    /// Whether a file that begins so may be one of the format.
    pub is_like: fn(&[u8]) -> bool,
    /// What names of files in this format end in.
    pub endings: &'static [&'static str],
    /// Makes one.
    pub open: OpenFormat,
}

/// The formats that an operator may name.
pub static FORMATS: &[VerdictFormat] = &[
    VerdictFormat {
        name: "json",
        doc: "one JSON object a line for each verdict",
        heading: b"",
        is_like: |start| start.starts_with(b"{"),
        endings: &["json", "jsonl", "ndjson"],
        open: |writer, labels, stages| Box::new(JsonLines::new(writer, labels, stages)),
    },
    VerdictFormat {
        name: "csv",
        doc: "a header line, then comma-separated values, one line for each verdict",
        heading: csv::HEADER,
        is_like: |start| start.starts_with(csv::HEADER),
        endings: &["csv"],
        open: |writer, labels, stages| Box::new(Csv::without_heading(writer, labels, stages)),
    },
    VerdictFormat {
        name: "null",
        doc: "nothing but a count",
        heading: b"",
        is_like: |_| true,
        endings: &[],
        open: |_, _, _| Box::new(Null::default()),
    },
];
