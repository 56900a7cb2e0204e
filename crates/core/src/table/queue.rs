//! Who leaves next when the table is full.
//!
//! The wheel knows this to within a slot, and in a flood of new flows one slot holds most of the
//! table. So the first slots with anyone due in them are put in order once, and serve until they
//! are used up. Meanwhile packets move entries later, which is found when their turn comes, and
//! entries that come to leave before the last one of the queue are added to it. Every entry that
//! leaves before that one thus stands here, under its true place or an earlier one.

use crate::key::FlowKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// When an entry leaves; ties go by age and key, so that the order depends on traffic alone.
pub(super) type Place = (u64, u64, FlowKey);

#[derive(Debug, Default)]
pub(super) struct LeaveQueue {
    heap: BinaryHeap<Reverse<(Place, u32)>>,
    /// Everybody stands here who leaves no later; `None` while it says nothing of anybody.
    limit_ns: Option<u64>,
}

impl LeaveQueue {
    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(Place, u32)>>()
    }

    /// Whether newcomers are to be noted.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.limit_ns.is_some()
    }

    /// Whether everybody is in it: where it has nobody to give, there is nobody.
    pub(super) fn is_whole(&self) -> bool {
        self.limit_ns == Some(u64::MAX)
    }

    /// Takes note of a newcomer; `entries` is how many there are in the table.
    pub(super) fn note(&mut self, place: Place, id: u32, entries: usize) {
        if self.limit_ns.is_none_or(|limit_ns| place.0 > limit_ns) {
            return;
        }
        let is_stale = self.heap.len() > 2 * entries + 64;
        // Nobody was evicted for long, and most of these are gone; or there is no memory for more:
        // start anew when needed.
        if is_stale || self.heap.try_reserve(1).is_err() {
            self.stop();
        } else {
            self.heap.push(Reverse((place, id)));
        }
    }

    fn stop(&mut self) {
        self.heap.clear();
        self.limit_ns = None;
    }

    /// The next to leave, given the true place of each entry that is still one to leave.
    pub(super) fn first(&mut self, place: impl Fn(u32) -> Option<Place>) -> Option<u32> {
        let limit_ns = self.limit_ns?;
        while let Some(mut top) = self.heap.peek_mut() {
            let (noted, id) = top.0;
            match place(id) {
                Some(now) if now == noted => return Some(id),
                Some(now) if now.0 <= limit_ns => top.0.0 = now,
                _ => drop(PeekMut::pop(top)),
            }
        }
        if !self.is_whole() {
            self.limit_ns = None;
        }
        None
    }

    /// Starts anew with the entries that leave first, which are all there are where `is_whole`.
    /// Where there is no memory to put them in order, the first of them alone.
    pub(super) fn fill(
        &mut self,
        entries: impl ExactSizeIterator<Item = (Place, u32)>,
        is_whole: bool,
    ) {
        self.stop();
        if self.heap.try_reserve(entries.len()).is_err() {
            let first = entries.min();
            let room = first.filter(|_| self.heap.try_reserve(1).is_ok());
            self.limit_ns = room.map(|(place, _)| place.0);
            self.heap.extend(room.map(Reverse));
            return;
        }
        self.heap.extend(entries.map(Reverse));
        let last = self.heap.iter().map(|entry| entry.0.0.0).max();
        self.limit_ns = if is_whole { Some(u64::MAX) } else { last };
    }
}
