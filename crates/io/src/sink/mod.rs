//! Where verdicts go.

mod csv;
mod fields;
mod json;

use std::io;

use serveflow_core::verdict::Verdict;

use crate::output::RecordWriter;

pub use csv::Csv;
pub use json::JsonLines;

/// Takes verdicts, a batch at a time.
pub trait Sink: Send {
    /// Takes verdicts in the order in which they came.
    ///
    /// # Errors
    /// When what lies behind the sink fails; how many of the verdicts it took is then unknown.
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()>;

    /// Says what the labels and stages of a plan are called, for verdicts that come from now on. Those of plan
    /// 0 were told when the sink was made. Sinks that name nothing do nothing.
    fn name_plan(&mut self, _plan: u8, _labels: &[String], _stages: &[String]) {}

    /// Makes sure that what was written has left the process.
    ///
    /// # Errors
    /// When what lies behind the sink fails.
    fn flush(&mut self) -> io::Result<()>;
}

/// Makes a sink out of where its records go, the labels' names and the stages' names. It writes no heading.
pub type OpenSink = fn(Box<dyn RecordWriter>, &[String], &[String]) -> Box<dyn Sink>;

/// A sink that an operator may name: one line of [`SINKS`].
pub struct SinkKind {
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
    pub open: OpenSink,
}

/// The sinks that an operator may name.
pub static SINKS: &[SinkKind] = &[
    SinkKind {
        name: "json",
        doc: "one JSON object a line for each verdict",
        heading: b"",
        is_like: |start| start.starts_with(b"{"),
        endings: &["json", "jsonl", "ndjson"],
        open: |writer, labels, stages| Box::new(JsonLines::new(writer, labels, stages)),
    },
    SinkKind {
        name: "csv",
        doc: "a header line, then comma-separated values, one line for each verdict",
        heading: csv::HEADER,
        is_like: |start| start.starts_with(csv::HEADER),
        endings: &["csv"],
        open: |writer, labels, stages| Box::new(Csv::without_heading(writer, labels, stages)),
    },
    SinkKind {
        name: "null",
        doc: "nothing but a count",
        heading: b"",
        is_like: |_| true,
        endings: &[],
        open: |_, _, _| Box::new(Null::default()),
    },
];

/// Counts verdicts and forgets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Null {
    /// Verdicts so far.
    pub count: u64,
}

impl Sink for Null {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.count += verdicts.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps verdicts, for tests and for callers that want them all.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Verdicts so far.
    pub verdicts: Vec<Verdict>,
}

impl Sink for Memory {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.verdicts.extend_from_slice(verdicts);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
