//! Records out: a bounded buffer, and behind it a thread of its own that writes to a file, a pipe
//! or standard output.
//!
//! Whoever makes records hands whole ones over, many at a time, and never touches the output
//! itself:
//!
//! - an output that must lose nothing ([`OutputLimits::is_lossless`]) makes its callers wait while
//!   the buffer is full, and ends with the first error;
//! - any other output never makes a caller wait. What finds the buffer full is lost, and counted by
//!   reason. The thread tries again after an error, so the output resumes by itself.
//!
//! At any moment, to the unit: records made = written + buffered + lost ([`OutputStatus`]).
//!
//! Only whole records are written, in order. What an error leaves of a record is cut off again
//! where that can be done (files), or cannot occur (writes of at most `PIPE_BUF` bytes to pipes).

//!
//! # Formats
//!
//! What an operator may name ([`FORMATS`]):
//!
//! - `json`: one JSON object a line, [`JsonLines`];
//! - `csv`: a header line and one line a verdict, [`Csv`];
//! - `null`: nothing but a count, [`Null`](serveflow_io::Null).
#![forbid(unsafe_code)]

mod buffer;
mod delivery;
mod file;
pub mod format;
mod lines;
mod pipe;
mod rotation;
mod standard;
#[cfg(test)]
mod tests;
mod thread;

pub use buffer::{LossReason, OutputStatus};
pub use delivery::Transport;
pub use file::{Existing, FileOptions, OutputError, OutputFile, Refusal};
pub use format::{Csv, FORMATS, JsonLines};
pub use lines::{Lines, RecordWriter};
pub use rotation::Rotation;
pub use standard::StandardStream;
pub use thread::{Output, OutputLimits};
