//! The waiting room: what is kept of a flow until it is decided.

use super::cascade::Requirement;
use crate::prealloc::{Shortage, bytes_used, has_room, reserve, room_for, touch_room};
use crate::record::NONE;
use crate::table::Wheel;
use crate::verdict::{Answer, Reason};
use std::ops::{Index, IndexMut};

/// Why and when a flow's record closed: nothing that comes later is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordEnd {
    pub(super) reason: Reason,
    pub(super) at: u64,
    /// Whether it is the end of the flow's window, and the flow may go on.
    pub(super) is_window: bool,
}

impl RecordEnd {
    /// The end of the flow.
    pub(super) fn new(reason: Reason, at: u64) -> Self {
        Self { reason, at, is_window: false }
    }
}

/// What an undecided flow is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its next step is being found.
    Between,
    /// It waits, and its deadline is noted.
    Waiting,
    /// Its features are with a model.
    Asked,
}

/// An undecided flow: two cache lines, of which a packet that is merely kept touches the first.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Pending {
    /// When its last recorded packet arrived.
    pub(super) tail_at: u64,
    pub(super) cut: Option<RecordEnd>,
    /// When its first packet arrived.
    pub(super) first_at: u64,
    /// When its window ends; `u64::MAX` when the flow is not cut into windows.
    pub(super) window_end: u64,
    /// Cell of its last packet.
    pub(super) tail: u32,
    /// Its entry in the flow table.
    pub(super) entry: u32,
    /// Recorded packets.
    pub(super) count: u16,
    /// The stage it waits for or has asked.
    pub(super) stage: u8,
    /// What it is at.
    place: Place,
    /// Number of the plan that it began with.
    pub(super) plan: u8,
    /// Packets, reason and times of the question that is open; the reason is `None` when the stage
    /// had all its packets.
    pub(super) short: Option<Reason>,
    pub(super) used: u16,
    pub(super) asked_at: u64,
    pub(super) asked_wall_ns: u64,
    /// Capture time of the last packet that the question rests on.
    pub(super) question_ns: u64,
    /// Capture times of the first packet and of the last that the best answer rests on.
    pub(super) first_ns: u64,
    pub(super) deciding_ns: u64,
    pub(super) compute_ns: u64,
    /// Number of the flow, in order of appearance.
    pub(super) id: u64,
    /// The best answer so far.
    pub(super) answer: Option<Answer>,
}

const _: () = assert!(size_of::<Pending>() == 128, "an undecided flow is two cache lines");

impl Pending {
    pub(super) fn new(id: u64, plan: u8) -> Self {
        Self {
            tail_at: 0,
            cut: None,
            first_at: 0,
            window_end: u64::MAX,
            tail: NONE,
            entry: NONE,
            count: 0,
            stage: 0,
            place: Place::Between,
            plan,
            short: None,
            used: 0,
            asked_at: 0,
            asked_wall_ns: 0,
            question_ns: 0,
            first_ns: 0,
            deciding_ns: 0,
            compute_ns: 0,
            id,
            answer: None,
        }
    }

    /// Whether its features are with a model.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.place == Place::Asked
    }

    /// Its features are with a model, or no longer.
    pub(super) fn set_asked(&mut self, asked: bool) {
        self.place = if asked { Place::Asked } else { Place::Between };
    }

    /// Whether there is nothing to do but to wait on: the deadline is noted and not over.
    #[inline]
    pub(super) fn waits_on(&self, want: Requirement, now: u64) -> bool {
        self.place == Place::Waiting
            && self.cut.is_none()
            && self.count < want.packets
            && now <= self.first_at.saturating_add(want.wait_ns)
    }
}

/// Deadlines are answered to within 8.4 ms of packet time; 4096 slots span 34 s.
const WAIT_SHIFT: u32 = 23;

/// All undecided flows, and who waits until when.
#[derive(Debug)]
pub(super) struct PendingTable {
    slots: Vec<Pending>,
    free: Vec<u32>,
    wheel: Wheel,
}

impl Index<u32> for PendingTable {
    type Output = Pending;
    fn index(&self, ticket: u32) -> &Pending {
        &self.slots[ticket as usize]
    }
}

impl IndexMut<u32> for PendingTable {
    fn index_mut(&mut self, ticket: u32) -> &mut Pending {
        &mut self.slots[ticket as usize]
    }
}

impl PendingTable {
    /// A room that may hold this many flows, and grows beyond.
    pub(super) fn new(flows: usize) -> Self {
        Self { slots: room_for(flows), free: Vec::new(), wheel: Wheel::new(WAIT_SHIFT, flows) }
    }

    /// Sets memory aside for so many flows.
    pub(super) fn reserve(&mut self, flows: usize) -> Result<(), Shortage> {
        reserve(&mut self.slots, flows, "undecided flows")?;
        reserve(&mut self.free, flows, "free places of undecided flows")?;
        self.wheel.reserve(flows)
    }

    /// Whether there is memory for another flow.
    #[inline]
    pub(super) fn has_memory(&mut self) -> bool {
        let ticket = self.slots.len();
        !self.free.is_empty()
            || has_room(&mut self.slots)
                && self.wheel.has_room(ticket)
                && (self.free.capacity() > ticket || self.free.try_reserve(ticket + 1).is_ok())
    }

    /// Tickets of the flows whose features are with a model.
    pub(super) fn asked(&self) -> Vec<u32> {
        let asked = self.slots.iter().zip(0..).filter(|(pending, _)| pending.is_asked());
        asked.map(|(_, ticket)| ticket).collect()
    }

    /// Touches the memory for so many flows.
    pub(super) fn prefault(&mut self, flows: usize) {
        touch_room(&mut self.slots, flows, Pending::new(0, 0));
        self.wheel.prefault(flows);
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        bytes_used(&self.slots) + self.free.capacity() * 4 + self.wheel.bytes()
    }

    pub(super) fn add(&mut self, id: u64, plan: u8) -> u32 {
        let pending = Pending::new(id, plan);
        if let Some(ticket) = self.free.pop() {
            self[ticket] = pending;
            return ticket;
        }
        self.slots.push(pending);
        (self.slots.len() - 1) as u32
    }

    /// Reads both cache lines of the slots that are used next, at most so many.
    pub(super) fn touch_free(&self, slots: usize) -> u64 {
        let next = self.free.iter().rev().take(slots);
        next.map(|&ticket| &self[ticket]).fold(0, |all, slot| all | slot.tail_at | slot.id)
    }

    pub(super) fn remove(&mut self, ticket: u32) {
        self.stop_waiting(ticket);
        self.free.push(ticket);
    }

    pub(super) fn wait_until(&mut self, ticket: u32, deadline_ns: u64, now_ns: u64) {
        self[ticket].place = Place::Waiting;
        // A deadline that never comes needs no place among those that do.
        if deadline_ns < u64::MAX {
            self.wheel.file(ticket, deadline_ns, now_ns);
        }
    }

    pub(super) fn stop_waiting(&mut self, ticket: u32) {
        if self[ticket].place == Place::Waiting {
            self[ticket].place = Place::Between;
            self.wheel.unfile(ticket);
        }
    }

    /// Takes out flows whose deadlines have passed; false when there are none. Call until false.
    pub(super) fn take_due(&mut self, now_ns: u64, taken: &mut Vec<u32>) -> bool {
        self.wheel.take_due(now_ns, taken)
    }

    /// Notes that a flow that was taken out waits no more.
    pub(super) fn waits_no_more(&mut self, ticket: u32) {
        self[ticket].place = Place::Between;
    }
}
