//! The flow table: who is known, since when, and who leaves next.
//!
//! An entry is small and stays until its flow ends; what an undecided flow needs besides stands in
//! the waiting room. Entries that left the table while their features are with a model are
//! *detached*: no packet finds them, and their slot is freed with their verdict.

mod queue;
mod wheel;

use crate::key::FlowKey;
use crate::parse::{ACK, FIN, Parsed, RST, SYN};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use queue::{LeaveQueue, Place};
use std::ops::{Index, IndexMut};
pub(crate) use wheel::Wheel;

/// Limits and timeouts of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// Most flows in the table; the next to leave gives way when it is full.
    pub capacity: usize,
    /// A flow ends after this long without a packet, nanoseconds.
    pub idle_ns: u64,
    /// A flow ends this long after its first packet, nanoseconds.
    pub active_ns: u64,
    /// A closed TCP flow keeps its entry this long for late packets, nanoseconds.
    pub linger_ns: u64,
    /// Whether the outer VLAN id is part of the key.
    pub vlan_in_key: bool,
    /// Seed of the table's hash.
    pub seed: u64,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            idle_ns: 120_000_000_000,
            active_ns: 1_800_000_000_000,
            linger_ns: 5_000_000_000,
            vlan_in_key: false,
            seed: 0x5eed_f10e_5eed_f10e,
        }
    }
}

/// No pending part: the flow is decided.
pub(crate) const DECIDED: u32 = u32::MAX;

/// A flow's entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: FlowKey,
    pub(crate) first_at: u64,
    /// Last packet, or when a closed flow was closed.
    pub(crate) last_at: u64,
    /// Sequence number of the first packet's SYN.
    syn_seq: u32,
    /// Slot in the waiting room, or [`DECIDED`].
    pub(crate) pending: u32,
    /// Whether the first packet's sender is the key's low endpoint.
    pub(crate) source_is_low: bool,
    began_with_syn: bool,
    /// FIN seen: forward, backward.
    fins: [bool; 2],
    pub(crate) closed: bool,
    pub(crate) detached: bool,
}

impl Entry {
    /// Whether a packet runs against the direction of the first one.
    pub(crate) fn is_backward(&self, parsed: &Parsed) -> bool {
        parsed.sender_is_low != self.source_is_low
    }

    /// When the entry leaves if no further packet comes.
    pub(crate) fn leaves_at(&self, config: &FlowConfig) -> u64 {
        if self.closed {
            return self.last_at.saturating_add(config.linger_ns);
        }
        let idle = self.last_at.saturating_add(config.idle_ns);
        idle.min(self.first_at.saturating_add(config.active_ns))
    }

    /// Where the entry stands among those that leave.
    fn place(&self, config: &FlowConfig) -> Place {
        (self.leaves_at(config), self.first_at, self.key)
    }

    /// Whether a packet is the SYN of another connection on the same five-tuple.
    pub(crate) fn is_new_connection(&self, parsed: &Parsed) -> bool {
        if parsed.tcp_flags & (SYN | ACK) != SYN {
            return false;
        }
        let same = self.began_with_syn && parsed.tcp_seq == self.syn_seq;
        if self.is_backward(parsed) { self.closed } else { !same }
    }

    /// Takes note of a packet that belongs to the flow; true when it closes it.
    pub(crate) fn note(&mut self, parsed: &Parsed, at: u64) -> bool {
        if self.closed {
            return false;
        }
        self.last_at = at;
        let side = usize::from(self.is_backward(parsed));
        self.fins[side] |= parsed.tcp_flags & FIN != 0;
        self.closed = parsed.tcp_flags & RST != 0 || self.fins == [true; 2];
        self.closed
    }
}

/// Leave times are ends of silence: a slot of 67 ms is fine enough, and 4096 of them span the
/// usual idle timeout.
const LEAVE_SHIFT: u32 = 26;

#[derive(Debug)]
pub(crate) struct FlowTable {
    pub(crate) config: FlowConfig,
    state: FixedState,
    /// Numbers of the entries that packets can find.
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    wheel: Wheel,
    queue: LeaveQueue,
    candidates: Vec<u32>,
}

impl Index<u32> for FlowTable {
    type Output = Entry;
    fn index(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }
}

impl IndexMut<u32> for FlowTable {
    fn index_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.entries[id as usize]
    }
}

impl FlowTable {
    pub(crate) fn new(config: FlowConfig) -> Self {
        Self {
            config,
            state: FixedState::with_seed(config.seed),
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::new(LEAVE_SHIFT),
            queue: LeaveQueue::default(),
            candidates: Vec::new(),
        }
    }

    /// Flows that packets can find.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.config.capacity.max(1)
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * 4
            + self.index.allocation_size()
            + self.wheel.bytes()
            + self.queue.bytes()
            + self.candidates.capacity() * 4
    }

    pub(crate) fn find(&self, key: &FlowKey) -> Option<u32> {
        let entries = &self.entries;
        let same = |id: &u32| entries[*id as usize].key == *key;
        self.index.find(key.hash(&self.state), same).copied()
    }

    /// Adds the flow that a packet begins. The table must have room. `at` is the flow's time,
    /// which a stray time stamp may put far ahead of the present, `now_ns`.
    pub(crate) fn add(&mut self, parsed: &Parsed, at: u64, now_ns: u64, pending: u32) -> u32 {
        let entry = Entry {
            key: parsed.key,
            first_at: at,
            last_at: at,
            syn_seq: parsed.tcp_seq,
            pending,
            source_is_low: parsed.sender_is_low,
            began_with_syn: parsed.tcp_flags & (SYN | ACK) == SYN,
            fins: [false; 2],
            closed: false,
            detached: false,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        let (entries, state) = (&self.entries, &self.state);
        let hash = |id: &u32| entries[*id as usize].key.hash(state);
        self.index.insert_unique(parsed.key.hash(state), id, hash);
        self.file(id, now_ns);
        id
    }

    fn file(&mut self, id: u32, now_ns: u64) {
        let place = self.entries[id as usize].place(&self.config);
        self.wheel.file(id, place.0, now_ns);
        self.queue.note(place, id, self.index.len());
    }

    /// Files an entry anew whose leave time moved earlier.
    pub(crate) fn leaves_earlier(&mut self, id: u32, now_ns: u64) {
        self.file(id, now_ns);
    }

    /// Hides an entry from packets; its slot stays until [`Self::free`].
    pub(crate) fn detach(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.detached = true;
        let hash = entry.key.hash(&self.state);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == id) {
            found.remove();
        }
        self.wheel.unfile(id);
    }

    /// Frees the slot of a detached entry.
    pub(crate) fn free(&mut self, id: u32) {
        debug_assert!(self.entries[id as usize].detached, "only detached entries are freed");
        self.free.push(id);
    }

    /// An entry whose time to leave has come.
    pub(crate) fn pop_leaving(&mut self, now_ns: u64) -> Option<u32> {
        let (entries, config) = (&self.entries, &self.config);
        self.wheel.pop_due(now_ns, |id| entries[id as usize].leaves_at(config))
    }

    /// The entry that would leave next if no further packet came: the oldest idle one, as a rule.
    /// Ties go by age and key, so that the choice depends on traffic alone.
    pub(crate) fn next_to_leave(&mut self) -> Option<u32> {
        let (entries, config) = (&self.entries, &self.config);
        let place = |id: u32| entries[id as usize].place(config);
        let still = |id: u32| (!entries[id as usize].detached).then(|| place(id));
        if let Some(id) = self.queue.first(still) {
            return Some(id);
        }
        self.wheel.next_due(|id| place(id).0, &mut self.candidates);
        self.queue.fill(self.candidates.iter().map(|&id| (place(id), id)));
        self.queue.first(still)
    }

    /// Numbers of all entries that packets can find, oldest first.
    pub(crate) fn all(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.index.iter().copied().collect();
        all.sort_unstable_by_key(|&id| (self[id].first_at, self[id].key));
        all
    }
}
