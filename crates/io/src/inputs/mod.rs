//! Captures as one input: which files they are, and their packets in the order of time.
//!
//! The law: the flows of a set of captures are those of its packets in the order of their time
//! stamps, whatever the files are called, in which order they are named, and whether they are one
//! or many.
//!
//! [`InputSet`] finds the captures, by what is in them and not by their names. [`FileSource`] reads
//! them: each as a stream whose stray time stamps are mended (`stream`, `stray`), all of them
//! merged by time (`merge`), and what was stored late put back in its place (`window`). Where
//! captures are in order and follow each other, batches pass all of this as they were read.

mod find;
mod left_out;
mod merge;
mod names;
mod pipe;
mod rules;
mod source;
mod stray;
mod stream;
mod window;

pub use find::InputSet;
pub use left_out::{LeftOut, Why, told_left_out};
pub use merge::MOST_OPEN;
pub use names::{capture_name, is_named_as_capture, natural_order};
pub use pipe::is_pipe;
pub use rules::{CHUNK, LIVE_NS, OrderRules, PipeTime, Tables};
pub use source::{FileSource, InputCounts};

use crate::batch::Batch;
use crate::capture::CaptureReader;
use crate::error::SourceError;
use pipe::Pipe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use stream::Stream;

/// What each step of reading goes by.
struct Reading<'a> {
    rules: &'a OrderRules,
    /// Most frames of a batch.
    frames: usize,
    spare: &'a mut Spare,
    /// Set when pipes are to end.
    stop: &'a Arc<AtomicBool>,
}

/// Empty batches whose memory is used again.
#[derive(Debug, Default)]
struct Spare(Vec<Batch>);

impl Spare {
    fn take(&mut self) -> Batch {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, mut batch: Batch) {
        batch.clear();
        self.0.push(batch);
    }
}

/// Opens a capture, with the buffer of another one. A pipe ends as soon as `stop` is set.
fn open(
    path: &Path,
    rank: usize,
    buffer: Vec<u8>,
    stop: &Arc<AtomicBool>,
) -> Result<Stream, SourceError> {
    let is_pipe = is_pipe(path);
    let reader = if is_pipe {
        let failed = |error| SourceError::Open { path: path.into(), error };
        CaptureReader::new(path, Pipe::open(path, Arc::clone(stop)).map_err(failed)?)?
    } else {
        CaptureReader::open_reusing(path, buffer)?
    };
    Ok(Stream::new(reader, rank, is_pipe))
}
