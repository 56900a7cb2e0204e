//! Memory set aside at the start.
//!
//! A vector that grows by copying stops the worker for milliseconds when it holds a million flows.
//! Memory that is asked for and not touched costs an address range and no more, so the pools ask for
//! all that they may ever need. Where that much is refused, they grow as they fill.

/// A vector with room for `most` elements, or as much as there is to be had.
pub(crate) fn room_for<T>(most: usize) -> Vec<T> {
    let mut room = Vec::new();
    // A refusal means growth by copying, which costs time and no flow.
    let _ = room.try_reserve_exact(most);
    room
}

/// Touches the memory set aside for a vector that is still empty, so that the system gives it now and
/// not while packets wait.
pub(crate) fn touch_room<T: Clone>(room: &mut Vec<T>, filler: T) {
    assert!(room.is_empty(), "what is in use was touched");
    room.resize(room.capacity(), filler);
    room.clear();
}

/// Bytes of what a vector has held at most: it never shrinks.
pub(crate) fn bytes_used<T>(used: &[T]) -> usize {
    size_of_val(used)
}
