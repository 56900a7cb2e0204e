//! The trait behind everything that brings packets.

use crate::batch::Batch;
use crate::error::SourceError;

/// Brings captured frames, a batch at a time.
///
/// # Contract
///
/// - A fill clears the batch first: what the batch holds afterwards is what this fill brought.
/// - `Ok(n)` with `n > 0`: the batch holds `n` frames. `n` may be anything up to `max_frames`,
///   since a source returns what it has rather than wait for more.
/// - `Ok(0)`: the end of everything. Every later fill says so again. Two exceptions: a share of a
///   source may have nothing to bring but that time starts over ([`Batch::restart`]), and a live
///   source that nothing came for a while ([`Batch::quiet_until`]); neither is at its end then
///   ([`Batch::is_over`]).
/// - `Err`: the batch is empty and no frame of the input that the error names is left, but there
///   may be another error about it. Call again: a source over several inputs goes on with the next
///   one, any other answers `Ok(0)`.
/// - Frames that stand before damage come first: the fill that meets the damage returns them, and
///   only the next fill returns the error.
/// - How frames fall into batches carries no meaning and never changes a verdict.
pub trait Source: Send {
    /// Replaces the batch's frames by the next ones, at most `max_frames` (0 is taken as 1).
    ///
    /// # Errors
    /// When an input cannot be opened or read, or is damaged.
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError>;

    /// Says whether whoever fills has other things to come back to, so that a live source should
    /// wait no longer than a moment for a frame. Sources that never wait do nothing.
    fn hurry(&mut self, _hurried: bool) {}

    /// Name of the input that the last fill read, for messages and metrics.
    fn name(&self) -> &str;
}
