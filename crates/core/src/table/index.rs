//! From a key's hash to its entry: open addressing with linear probing.
//!
//! A slot is one word: half of the hash, and the number of the entry. Eight slots share a cache
//! line, so a look-up costs one line here and one of the entry, and a slot with another hash is
//! passed by without asking its entry. What is removed leaves no mark: those behind it move up
//! (Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm R), which the hash in
//! the slot is enough for.

/// A table this large is never too full: longer chains cost more than the memory.
const MOST_LOAD: (usize, usize) = (7, 10);
const LEAST_SLOTS: usize = 1 << 10;
/// As many as a tag reaches.
const MOST_SLOTS: usize = 1 << 32;
const EMPTY: u64 = 0;

/// The part of a hash that a slot keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tag(u32);

impl Tag {
    #[inline]
    pub(crate) fn of(hash: u64) -> Self {
        Self((hash >> 32) as u32)
    }
}

/// Half a hash and the number of its entry, or nothing.
#[derive(Clone, Copy, Debug)]
struct Slot(u64);

impl Slot {
    fn new(tag: Tag, id: u32) -> Self {
        Self(u64::from(tag.0) << 32 | (u64::from(id) + 1))
    }

    fn tag(self) -> Tag {
        Tag((self.0 >> 32) as u32)
    }

    fn id(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }

    /// The entry, if the slot's hash is this one.
    #[inline]
    fn entry(self, tag: Tag) -> Option<u32> {
        (self.0 != EMPTY && self.tag() == tag).then(|| self.id())
    }
}

/// Slots that are looked at to guess: half a cache line, which nearly all chains are shorter than.
const GUESSED: usize = 4;

#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// A tag's home is its top bits: it is shifted down by this.
    shift: u32,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        let mut index = Self { slots: Vec::new(), shift: 0, len: 0 };
        index.resize(LEAST_SLOTS);
        index
    }

    /// Takes and touches the memory for so many entries, if there is as much to be had; it must be
    /// empty.
    pub(super) fn prefault(&mut self, entries: usize) {
        assert!(self.len == 0, "nothing is lost");
        let slots = (entries * MOST_LOAD.1).div_ceil(MOST_LOAD.0).next_power_of_two();
        let slots = slots.clamp(LEAST_SLOTS, MOST_SLOTS);
        let mut room = Vec::new();
        if room.try_reserve_exact(slots).is_ok() {
            room.resize(slots, Slot(EMPTY));
            self.adopt(room);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Empties it to a number of slots, a power of two.
    fn resize(&mut self, slots: usize) {
        self.adopt(vec![Slot(EMPTY); slots]);
    }

    /// Goes on with these slots, all of them empty.
    fn adopt(&mut self, slots: Vec<Slot>) {
        let count = slots.len();
        assert!(count.is_power_of_two() && count <= MOST_SLOTS, "a tag reaches every slot");
        self.slots = slots;
        self.shift = 32 - count.trailing_zeros();
    }

    #[inline]
    fn home(&self, tag: Tag) -> usize {
        (u64::from(tag.0) >> self.shift) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// Reads where a look-up begins, and nothing else: asked for many tags before any is looked up,
    /// their cache lines arrive together.
    #[inline]
    pub(super) fn touch(&self, tag: Tag) -> u64 {
        self.slots[self.home(tag)].0
    }

    /// The first entry with this tag among the first slots of its chain: mostly the one that a
    /// look-up finds, and found without a branch that depends on the chain's length.
    #[inline]
    pub(super) fn guess(&self, tag: Tag) -> Option<u32> {
        let home = self.home(tag);
        let slots = self.slots.get(home..)?.first_chunk::<GUESSED>()?;
        let mut matches = 0_u32;
        for (at, slot) in slots.iter().enumerate() {
            matches |= u32::from(slot.tag() == tag && slot.0 != EMPTY) << at;
        }
        (matches != 0).then(|| slots[matches.trailing_zeros() as usize].id())
    }

    /// The entry with this tag that `is` confirms.
    #[inline]
    pub(super) fn find(&self, tag: Tag, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot.0 == EMPTY {
                return None;
            }
            if let Some(id) = slot.entry(tag)
                && is(id)
            {
                return Some(id);
            }
            at = self.after(at);
        }
    }

    /// Whether another entry finds a slot, and a look-up behind it an end of its chain.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        // Growth comes long before this, and is refused where there is no memory.
        self.len + 2 <= self.slots.len()
    }

    /// Adds an entry that is not in; there must be room.
    pub(super) fn insert(&mut self, tag: Tag, id: u32) {
        if (self.len + 1) * MOST_LOAD.1 > self.slots.len() * MOST_LOAD.0 {
            self.grow();
        }
        self.put(Slot::new(tag, id));
        self.len += 1;
    }

    /// Takes twice as many slots; where the system does not give them, chains get longer.
    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        let mut room = Vec::new();
        if slots > MOST_SLOTS || room.try_reserve_exact(slots).is_err() {
            return;
        }
        room.resize(slots, Slot(EMPTY));
        let old = std::mem::take(&mut self.slots);
        self.adopt(room);
        old.into_iter().filter(|slot| slot.0 != EMPTY).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag());
        while self.slots[at].0 != EMPTY {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Takes an entry out, if it is in.
    pub(super) fn remove(&mut self, tag: Tag, id: u32) {
        let mut hole = self.home(tag);
        while self.slots[hole].entry(tag) != Some(id) {
            if self.slots[hole].0 == EMPTY {
                return;
            }
            hole = self.after(hole);
        }
        let mask = self.slots.len() - 1;
        let mut at = self.after(hole);
        while self.slots[at].0 != EMPTY {
            let home = self.home(self.slots[at].tag());
            // It may move up if that does not put it before its home.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = Slot(EMPTY);
        self.len -= 1;
    }

    /// Numbers of all entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = u32> {
        let full = self.slots.iter().filter(|slot| slot.0 != EMPTY);
        full.map(|slot| slot.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Deterministic numbers for the twin test.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// Holds an index to a map, with tags drawn by `tag`.
    fn behaves_like_a_map(tag: impl Fn(u64) -> u32) {
        let mut index = Index::new();
        let mut twin: BTreeMap<u32, Tag> = BTreeMap::new();
        let mut seed = 11;
        for _ in 0..60_000 {
            let id = (next(&mut seed) % 3_000) as u32;
            if let Some(&tag) = twin.get(&id) {
                assert_eq!(index.find(tag, |other| other == id), Some(id));
                let guess = index.guess(tag);
                assert!(guess.is_none_or(|other| twin[&other] == tag), "a guess has the tag");
                if next(&mut seed).is_multiple_of(2) {
                    index.remove(tag, id);
                    twin.remove(&id);
                    assert_eq!(index.find(tag, |other| other == id), None);
                }
            } else {
                let tag = Tag(tag(next(&mut seed)));
                index.insert(tag, id);
                twin.insert(id, tag);
            }
            assert_eq!(index.len(), twin.len());
        }
        for (&id, &tag) in &twin {
            assert_eq!(index.find(tag, |other| other == id), Some(id));
        }
        let mut all: Vec<u32> = index.entries().collect();
        all.sort_unstable();
        assert_eq!(all, twin.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn behaves_like_a_map_with_good_tags() {
        behaves_like_a_map(|random| (random >> 32) as u32);
    }

    #[test]
    fn behaves_like_a_map_when_all_meet_at_the_seam() {
        // Few tags, all of which begin in the last slots and run over the end.
        behaves_like_a_map(|random| u32::MAX - (random >> 32) as u32 % 64);
    }
}
