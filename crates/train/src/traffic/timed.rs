//! A source that is timed.

use serveflow_io::{Batch, Source, SourceError};

/// Passes a source's packets on, and keeps how long it took to make them.
#[derive(Debug)]
pub struct Timed<'a, S: ?Sized> {
    source: &'a mut S,
    wall: fn() -> u64,
    /// Wall time that the source took so far, nanoseconds.
    pub spent_ns: u64,
}

impl<'a, S: Source + ?Sized> Timed<'a, S> {
    /// A source, and a clock that tells nanoseconds.
    pub fn new(source: &'a mut S, wall: fn() -> u64) -> Self {
        Self { source, wall, spent_ns: 0 }
    }
}

impl<S: Source + ?Sized> Source for Timed<'_, S> {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        let started_ns = (self.wall)();
        let filled = self.source.fill(batch, max_frames);
        self.spent_ns += (self.wall)().saturating_sub(started_ns);
        filled
    }

    fn name(&self) -> &str {
        self.source.name()
    }
}
