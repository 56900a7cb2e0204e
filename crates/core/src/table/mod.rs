//! The flow table: who is known, since when, and who leaves next.
//!
//! An entry is small and stays until its flow ends; what an undecided flow needs besides stands in
//! the waiting room. Entries that left the table while their features are with a model are
//! *detached*: no packet finds them, and their slot is freed with their verdict.

mod entry;
mod index;
mod queue;
mod wheel;

use crate::key::{FlowHasher, FlowKey};
use crate::parse::KeyRules;
use crate::prealloc::{Shortage, bytes_used, has_room, reserve, room_for, touch_room};
pub(crate) use entry::{DECIDED, Entry, Opening};
use index::Index;
pub(crate) use index::Tag;
use queue::LeaveQueue;
use std::ops;
pub(crate) use wheel::Wheel;

/// The window of flows that are not cut into windows.
pub const NO_WINDOW: u64 = u64::MAX;

/// Limits and timeouts of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// Most flows in the table. When it is full, a flow gives way: the next to leave of those that
    /// are decided, or of all where none is.
    pub capacity: usize,
    /// A flow ends after this long without a packet, nanoseconds.
    pub idle_ns: u64,
    /// A flow ends this long after its first packet, nanoseconds.
    pub active_ns: u64,
    /// A closed TCP flow keeps its entry this long for late packets, nanoseconds.
    pub linger_ns: u64,
    /// Length of the windows that a flow is cut into, nanoseconds; [`NO_WINDOW`] leaves it whole.
    /// Windows lie on a grid that begins with the flow's first packet, each begins a sample with
    /// its first packet, and each sample gets a verdict of its own.
    pub window_ns: u64,
    /// What the key is made of.
    pub key: KeyRules,
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
            window_ns: NO_WINDOW,
            key: KeyRules::default(),
            seed: 0x5eed_f10e_5eed_f10e,
        }
    }
}

/// Leave times are ends of silence: a slot of 67 ms is fine enough, and 4096 of them span the
/// usual idle timeout.
const LEAVE_SHIFT: u32 = 26;

#[derive(Debug)]
pub(crate) struct FlowTable {
    pub(crate) config: FlowConfig,
    hasher: FlowHasher,
    /// The entries that packets can find.
    index: Index,
    entries: Vec<Entry>,
    free: Vec<u32>,
    wheel: Wheel,
    /// Decided flows that leave first, while the table is full, and those of all flows.
    decided: LeaveQueue,
    queue: LeaveQueue,
    candidates: Vec<u32>,
}

/// Decided flows that are put in order at once, at least: the wheel's slots are walked for them,
/// past the undecided ones.
const DECIDED_AT_ONCE: usize = 4096;

impl ops::Index<u32> for FlowTable {
    type Output = Entry;
    fn index(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }
}

impl ops::IndexMut<u32> for FlowTable {
    fn index_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.entries[id as usize]
    }
}

impl FlowTable {
    pub(crate) fn new(config: FlowConfig) -> Self {
        Self {
            config,
            hasher: FlowHasher::with_seed(config.seed),
            index: Index::new(),
            entries: room_for(config.capacity),
            free: Vec::new(),
            wheel: Wheel::new(LEAVE_SHIFT, config.capacity),
            decided: LeaveQueue::default(),
            queue: LeaveQueue::default(),
            candidates: Vec::new(),
        }
    }

    /// Takes and touches the memory for as many flows as it may hold.
    pub(crate) fn prefault(&mut self) {
        let entry = Entry::new(FlowKey::default(), Opening::default(), 0, DECIDED);
        touch_room(&mut self.entries, self.config.capacity, entry);
        self.wheel.prefault(self.config.capacity);
        self.index.prefault(self.config.capacity);
    }

    /// Sets memory aside for as many flows as it may hold.
    pub(crate) fn reserve(&mut self) -> Result<(), Shortage> {
        let most = self.config.capacity;
        reserve(&mut self.entries, most, "the flow table")?;
        reserve(&mut self.free, most, "free places of the flow table")?;
        reserve(&mut self.candidates, most, "the order in which flows end")?;
        self.wheel.reserve(most)
    }

    /// Whether there is memory for another flow.
    #[inline]
    pub(crate) fn has_memory(&mut self) -> bool {
        let id = self.entries.len();
        self.index.has_room()
            && (!self.free.is_empty() || has_room(&mut self.entries) && self.wheel.has_room(id))
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
        bytes_used(&self.entries)
            + self.free.capacity() * 4
            + self.index.bytes()
            + self.wheel.bytes()
            + self.decided.bytes()
            + self.queue.bytes()
            + self.candidates.capacity() * 4
    }

    /// Where the table looks for a key.
    #[inline]
    pub(crate) fn tag(&self, key: &FlowKey) -> Tag {
        Tag::of(self.hasher.hash(key))
    }

    /// Reads where a look-up begins.
    #[inline]
    pub(crate) fn touch(&self, tag: Tag) -> u64 {
        self.index.touch(tag)
    }

    /// The entry that a look-up most likely finds; no more than a guess.
    #[inline]
    pub(crate) fn guess(&self, tag: Tag) -> Option<u32> {
        self.index.guess(tag)
    }

    /// The flow of a key. `guess` is looked at first, whenever it was made.
    #[inline]
    pub(crate) fn find(&self, key: &FlowKey, tag: Tag, guess: Option<u32>) -> Option<u32> {
        // A key has one entry that packets can find, so if this is one, it is the one.
        guess.filter(|&id| self[id].is_found_by(key)).or_else(|| self.look_up(key, tag))
    }

    #[inline]
    fn look_up(&self, key: &FlowKey, tag: Tag) -> Option<u32> {
        self.index.find(tag, |id| self.entries[id as usize].is(key))
    }

    /// Adds the flow that a packet begins. The table must have room. `at` is the flow's time,
    /// which a stray time stamp may put far ahead of the present, `now_ns`.
    pub(crate) fn add(
        &mut self,
        (key, tag): (FlowKey, Tag),
        opening: Opening,
        at: u64,
        now_ns: u64,
        pending: u32,
    ) -> u32 {
        let entry = Entry::new(key, opening, at, pending);
        let id = self.keep(&entry);
        self.index.insert(tag, id);
        // The entry at hand is asked, since its copy in the table is still on its way there.
        self.file_entry(id, &entry, now_ns);
        id
    }

    /// Adds an undecided flow's entry anew, which was detached with the window before: what is
    /// known of the flow stays.
    pub(crate) fn add_again(&mut self, entry: &Entry, now_ns: u64, pending: u32) -> u32 {
        let entry = entry.with_pending(pending);
        let id = self.keep(&entry);
        let tag = Tag::of(self.hasher.hash(&entry.key()));
        self.index.insert(tag, id);
        self.file_entry(id, &entry, now_ns);
        id
    }

    /// Puts an entry into a slot.
    fn keep(&mut self, entry: &Entry) -> u32 {
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = *entry;
            return id;
        }
        self.entries.push(*entry);
        (self.entries.len() - 1) as u32
    }

    /// Reads the entries that are used next, at most so many.
    pub(crate) fn touch_free(&self, entries: usize) -> u64 {
        let next = self.free.iter().rev().take(entries);
        next.fold(0, |all, &id| all | self[id].last_at | self.wheel.touch(id))
    }

    fn file_entry(&mut self, id: u32, entry: &Entry, now_ns: u64) {
        self.wheel.file(id, entry.leaves_at(&self.config), now_ns);
        if self.queue.is_used() {
            self.queue.note(entry.place(&self.config), id, self.index.len());
        }
    }

    /// Files an entry anew whose leave time moved earlier.
    pub(crate) fn leaves_earlier(&mut self, id: u32, now_ns: u64) {
        let entry = self[id];
        self.file_entry(id, &entry, now_ns);
        if self.decided.is_used() && entry.pending == DECIDED {
            self.decided.note(entry.place(&self.config), id, self.index.len());
        }
    }

    /// Hides an entry from packets; its slot stays until [`Self::free`].
    pub(crate) fn detach(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.set_detached();
        let tag = Tag::of(self.hasher.hash(&entry.key()));
        self.index.remove(tag, id);
        self.wheel.unfile(id);
    }

    /// Frees the slot of a detached entry.
    pub(crate) fn free(&mut self, id: u32) {
        debug_assert!(self.entries[id as usize].is_detached(), "only detached entries are freed");
        // Where there is no memory for its number either, the slot stays unused: setting aside four
        // bytes for each flow that may end would cost every table more than that.
        if has_room(&mut self.free) {
            self.free.push(id);
        }
    }

    /// Takes out entries whose time to leave may have come; false when there are none. Each of them
    /// is to be told to [`Self::is_leaving`]. Call until false.
    pub(crate) fn take_leaving(&mut self, now_ns: u64, taken: &mut Vec<u32>) -> bool {
        self.wheel.take_due(now_ns, taken)
    }

    /// Whether an entry that was taken out leaves; if not, it is filed again.
    pub(crate) fn is_leaving(&mut self, id: u32, now_ns: u64) -> bool {
        let leaves_at = self[id].leaves_at(&self.config);
        let leaves = self.wheel.is_due(leaves_at, now_ns);
        if !leaves {
            self.wheel.file(id, leaves_at, now_ns);
        }
        leaves
    }

    /// Touches what ending these flows will need.
    pub(crate) fn touch_all(&self, ids: &[u32]) -> u64 {
        let touch = |&id: &u32| self.touch(self.tag(&self[id].key()));
        ids.iter().map(touch).fold(0, |all, slot| all | slot)
    }

    /// Notes that a flow is decided.
    #[inline]
    pub(crate) fn set_decided(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.pending = DECIDED;
        if self.decided.is_used() && !entry.is_detached() {
            let place = entry.place(&self.config);
            self.decided.note(place, id, self.index.len());
        }
    }

    /// The entry that gives way to a new flow: the decided one that would leave next if no further
    /// packet came, or where none is decided, of all entries. Ties go by age and key.
    pub(crate) fn next_to_evict(&mut self) -> Option<u32> {
        self.next_decided().or_else(|| self.next_to_leave())
    }

    /// The decided entry that would leave next. It needs nothing more, and a flow that is still to
    /// be decided does.
    pub(crate) fn next_decided(&mut self) -> Option<u32> {
        let (entries, config) = (&self.entries, &self.config);
        let place = |id: u32| entries[id as usize].place(config);
        let is_one = |id: u32| {
            let entry = &entries[id as usize];
            entry.pending == DECIDED && !entry.is_detached()
        };
        let still = |id: u32| is_one(id).then(|| place(id));
        if let Some(id) = self.decided.first(still) {
            return Some(id);
        }
        if self.decided.is_whole() {
            return None;
        }
        let due = |id| place(id).0;
        let is_whole = self.wheel.next_due(due, is_one, DECIDED_AT_ONCE, &mut self.candidates);
        self.decided.fill(self.candidates.iter().map(|&id| (place(id), id)), is_whole);
        self.decided.first(still)
    }

    /// The entry that would leave next: the oldest idle one, as a rule.
    fn next_to_leave(&mut self) -> Option<u32> {
        let (entries, config) = (&self.entries, &self.config);
        let place = |id: u32| entries[id as usize].place(config);
        let still = |id: u32| (!entries[id as usize].is_detached()).then(|| place(id));
        if let Some(id) = self.queue.first(still) {
            return Some(id);
        }
        let is_whole = self.wheel.next_due(|id| place(id).0, |_| true, 1, &mut self.candidates);
        self.queue.fill(self.candidates.iter().map(|&id| (place(id), id)), is_whole);
        self.queue.first(still)
    }

    /// Numbers of all entries that packets can find, oldest first.
    pub(crate) fn all(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.index.entries().collect();
        all.sort_unstable_by_key(|&id| (self[id].first_at, self[id].key()));
        all
    }
}
