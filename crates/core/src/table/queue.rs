//! Who leaves next when the table is full.
//!
//! The wheel knows this to within a slot, and in a flood of new flows one slot holds most of the
//! table. So the first slot with anyone due in it is put in order once, and serves until it is used
//! up. Meanwhile packets move entries later, which is found when their turn comes, and entries that
//! are filed to leave before the last one of the queue are added to it. Every entry that leaves
//! before that one thus stands here, under its true place or an earlier one.

use crate::key::FlowKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// When an entry leaves; ties go by age and key, so that the order depends on traffic alone.
pub(super) type Place = (u64, u64, FlowKey);

#[derive(Debug, Default)]
pub(super) struct LeaveQueue {
    heap: BinaryHeap<Reverse<(Place, u32)>>,
    /// When the last one leaves.
    limit_ns: u64,
}

impl LeaveQueue {
    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(Place, u32)>>()
    }

    /// Whether it has anyone to compare a newcomer with.
    pub(super) fn is_used(&self) -> bool {
        !self.heap.is_empty()
    }

    /// Takes note of an entry that was filed; `entries` is how many there are in the table.
    pub(super) fn note(&mut self, place: Place, id: u32, entries: usize) {
        if !self.is_used() || place.0 > self.limit_ns {
            return;
        }
        if self.heap.len() > 2 * entries + 64 {
            // Nobody was evicted for long, and most of these are gone: start anew when needed.
            self.heap.clear();
        } else {
            self.heap.push(Reverse((place, id)));
        }
    }

    /// The next to leave, given the true place of each entry that is still in the table.
    pub(super) fn first(&mut self, place: impl Fn(u32) -> Option<Place>) -> Option<u32> {
        while let Some(mut top) = self.heap.peek_mut() {
            let (noted, id) = top.0;
            match place(id) {
                Some(now) if now == noted => return Some(id),
                Some(now) if now.0 <= self.limit_ns => top.0.0 = now,
                _ => drop(PeekMut::pop(top)),
            }
        }
        None
    }

    /// Starts anew with the entries that leave first.
    pub(super) fn fill(&mut self, entries: impl Iterator<Item = (Place, u32)>) {
        self.heap.clear();
        self.heap.extend(entries.map(Reverse));
        self.limit_ns = self.heap.iter().map(|entry| entry.0.0.0).max().unwrap_or(0);
    }
}
