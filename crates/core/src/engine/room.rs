//! The waiting room: what is kept of a flow until it is decided.

use crate::record::NONE;
use crate::table::Wheel;
use crate::verdict::{Answer, Reason};
use std::ops::{Index, IndexMut};

/// Why and when a flow's record closed: nothing that comes later is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) reason: Reason,
    pub(super) at: u64,
}

/// An undecided flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Number of the flow, in order of appearance.
    pub(super) id: u64,
    /// Its entry in the flow table.
    pub(super) entry: u32,
    /// First and last cell of its packets.
    pub(super) head: u32,
    pub(super) tail: u32,
    /// Recorded packets.
    pub(super) count: u16,
    /// The stage it waits for or has asked.
    pub(super) stage: u8,
    /// Whether its features are with a model.
    pub(super) asked: bool,
    /// When its last recorded packet arrived.
    pub(super) tail_at: u64,
    pub(super) cut: Option<Cut>,
    /// The best answer so far.
    pub(super) answer: Option<Answer>,
    /// Packets, reason and time of the question that is open; the reason is `None` when the stage
    /// had all its packets.
    pub(super) used: u16,
    pub(super) short: Option<Reason>,
    pub(super) asked_at: u64,
    pub(super) asked_wall_ns: u64,
    pub(super) compute_ns: u64,
}

impl Pending {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            entry: NONE,
            head: NONE,
            tail: NONE,
            count: 0,
            stage: 0,
            asked: false,
            tail_at: 0,
            cut: None,
            answer: None,
            used: 0,
            short: None,
            asked_at: 0,
            asked_wall_ns: 0,
            compute_ns: 0,
        }
    }
}

/// Deadlines are answered to within 8.4 ms of packet time; 4096 slots span 34 s.
const WAIT_SHIFT: u32 = 23;

/// All undecided flows, and who waits until when.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    slots: Vec<Pending>,
    free: Vec<u32>,
    wheel: Wheel,
}

impl Index<u32> for WaitingRoom {
    type Output = Pending;
    fn index(&self, ticket: u32) -> &Pending {
        &self.slots[ticket as usize]
    }
}

impl IndexMut<u32> for WaitingRoom {
    fn index_mut(&mut self, ticket: u32) -> &mut Pending {
        &mut self.slots[ticket as usize]
    }
}

impl WaitingRoom {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), wheel: Wheel::new(WAIT_SHIFT) }
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Pending>() + self.free.capacity() * 4 + self.wheel.bytes()
    }

    pub(super) fn add(&mut self, id: u64) -> u32 {
        let pending = Pending::new(id);
        if let Some(ticket) = self.free.pop() {
            self[ticket] = pending;
            return ticket;
        }
        self.slots.push(pending);
        (self.slots.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, ticket: u32) {
        self.wheel.unfile(ticket);
        self.free.push(ticket);
    }

    pub(super) fn wait_until(&mut self, ticket: u32, deadline_ns: u64, now_ns: u64) {
        self.wheel.file(ticket, deadline_ns, now_ns);
    }

    pub(super) fn stop_waiting(&mut self, ticket: u32) {
        self.wheel.unfile(ticket);
    }

    /// A flow whose deadline has passed, given each flow's deadline.
    pub(super) fn pop_due(&mut self, now_ns: u64, due: impl Fn(&Pending) -> u64) -> Option<u32> {
        let slots = &self.slots;
        self.wheel.pop_due(now_ns, |ticket| due(&slots[ticket as usize]))
    }
}
