//! Memory set aside at the start.
//!
//! A vector that grows by copying stops the worker for milliseconds when it holds a million flows.
//! Memory that is asked for and not touched costs an address range and no more, so the pools ask
//! for all that they may ever need. Where there is no such plenty, they grow as they fill: an
//! address range set aside for flows that may never come must not be what a model or a batch then
//! lacks.

use std::fmt;

/// There is plenty when as much as is asked for could be had so many times, and this much more: the
/// system's allocator sets 128 MiB aside for each thread.
const PLENTY: usize = 4;
const PLENTY_BYTES: usize = 1 << 30;

/// A vector with room for `most` elements, or for none yet where that much is not easily had.
pub(crate) fn room_for<T>(most: usize) -> Vec<T> {
    let mut room = Vec::new();
    if is_plenty(most.saturating_mul(size_of::<T>())) {
        // A refusal means growth by copying, which costs time and no flow.
        let _ = room.try_reserve_exact(most);
    }
    room
}

/// Whether much more than so many bytes could be had: asked for, and given back untouched.
fn is_plenty(bytes: usize) -> bool {
    let much = bytes.saturating_mul(PLENTY).saturating_add(PLENTY_BYTES);
    Vec::<u8>::new().try_reserve_exact(much).is_ok()
}

/// Memory that is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What it was for.
    pub what: &'static str,
    /// Bytes that were asked for.
    pub bytes: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes.div_ceil(1 << 20);
        write!(f, "expected {mib} MiB of address space for {}, found less", self.what)
    }
}

impl std::error::Error for Shortage {}

/// Sets memory aside for `most` elements in all, touched or not. What a vector has room for it
/// never asks the system for again.
pub(crate) fn reserve<T>(
    room: &mut Vec<T>,
    most: usize,
    what: &'static str,
) -> Result<(), Shortage> {
    let bytes = most.saturating_mul(size_of::<T>());
    let more = most.saturating_sub(room.len());
    room.try_reserve_exact(more).map_err(|_| Shortage { what, bytes })
}

/// Makes room for one more element: that there is, or more of it, as a push would; false where the
/// system gives no more.
#[inline]
pub(crate) fn has_room<T>(room: &mut Vec<T>) -> bool {
    room.len() < room.capacity() || room.try_reserve(1).is_ok()
}

/// Touches memory for `most` elements of a vector that is still empty, so that the system gives it
/// now and not while packets wait; less where that much is not to be had.
pub(crate) fn touch_room<T: Clone>(room: &mut Vec<T>, most: usize, filler: T) {
    assert!(room.is_empty(), "what is in use was touched");
    let _ = room.try_reserve_exact(most);
    room.resize(room.capacity(), filler);
    room.clear();
}

/// Bytes of what a vector has held at most: it never shrinks.
pub(crate) fn bytes_used<T>(used: &[T]) -> usize {
    size_of_val(used)
}
