//! A timing wheel with lazy re-arming.
//!
//! Entries are filed under the slot of their due time and left there when the due time moves
//! later, which is what packets do to idle timeouts; only when the slot's turn comes is the true
//! due time asked for, and the entry filed again or handed out. Due times that move earlier are
//! filed anew at once. A due time beyond the wheel's span waits in its last slot.

use crate::prealloc::{Shortage, bytes_used, reserve, room_for};

const SLOTS: usize = 4096;
const NONE: u32 = u32::MAX;
const UNFILED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    slot: u16,
}

/// Doubly linked lists of entry numbers, one per slot.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// A slot is `1 << shift` nanoseconds wide.
    shift: u32,
    /// All slots before this tick have been emptied.
    cursor: u64,
    heads: Vec<u32>,
    links: Vec<Link>,
    filed: usize,
}

impl Wheel {
    /// A wheel with slots of `1 << shift` nanoseconds, for numbers that mostly stay below
    /// `entries`.
    pub(crate) fn new(shift: u32, entries: usize) -> Self {
        Self { shift, cursor: 0, heads: vec![NONE; SLOTS], links: room_for(entries), filed: 0 }
    }

    /// Touches the memory for numbers below `entries`, as much of it as is to be had.
    pub(crate) fn prefault(&mut self, entries: usize) {
        let more = entries.saturating_sub(self.links.len());
        let _ = self.links.try_reserve_exact(more);
        let unfiled = Link { previous: NONE, next: NONE, slot: UNFILED };
        self.links.resize(self.links.capacity(), unfiled);
    }

    /// Sets memory aside for numbers below `entries`.
    pub(crate) fn reserve(&mut self, entries: usize) -> Result<(), Shortage> {
        reserve(&mut self.links, entries, "the times at which flows end")
    }

    /// Whether an entry can be filed under this number: there is room for it, or more to be had.
    #[inline]
    pub(crate) fn has_room(&mut self, id: usize) -> bool {
        let more = (id + 1).saturating_sub(self.links.len());
        more <= self.links.capacity() - self.links.len() || self.links.try_reserve(more).is_ok()
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        bytes_used(&self.links) + SLOTS * 4
    }

    fn tick(&self, ns: u64) -> u64 {
        ns >> self.shift
    }

    /// Reads what filing or taking out this entry will need.
    #[inline]
    pub(crate) fn touch(&self, id: u32) -> u64 {
        self.links.get(id as usize).map_or(0, |link| u64::from(link.previous))
    }

    /// Files `id` under its due time, wherever it was filed before; `now_ns` is the present.
    pub(crate) fn file(&mut self, id: u32, due_ns: u64, now_ns: u64) {
        self.unfile(id);
        if self.filed == 0 {
            // An empty wheel starts at the present: there is nothing to walk past.
            self.cursor = self.tick(now_ns);
        }
        self.place(id, due_ns);
    }

    /// Links an entry that is not filed into the slot of its due time.
    fn place(&mut self, id: u32, due_ns: u64) {
        let at = id as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link { previous: NONE, next: NONE, slot: UNFILED });
        }
        let last = self.cursor.saturating_add(SLOTS as u64 - 1);
        let slot = self.tick(due_ns).clamp(self.cursor, last) as usize % SLOTS;
        let next = self.heads[slot];
        if next != NONE {
            self.links[next as usize].previous = id;
        }
        self.heads[slot] = id;
        self.links[at] = Link { previous: NONE, next, slot: slot as u16 };
        self.filed += 1;
    }

    /// Takes `id` out, if it is in.
    pub(crate) fn unfile(&mut self, id: u32) {
        let Some(link) = self.links.get(id as usize).copied() else { return };
        if link.slot == UNFILED {
            return;
        }
        if link.previous == NONE {
            self.heads[usize::from(link.slot)] = link.next;
        } else {
            self.links[link.previous as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[id as usize].slot = UNFILED;
        self.filed -= 1;
    }

    /// Takes out the entries of the next slot before that of `now_ns`; false when there is none.
    /// Some of them may be due later by now, which [`Self::is_due`] tells; those are to be filed
    /// again. Call until false.
    pub(crate) fn take_due(&mut self, now_ns: u64, taken: &mut Vec<u32>) -> bool {
        let now = self.tick(now_ns);
        // After a leap of more than the span, one round still meets every entry.
        self.cursor = self.cursor.max(now.saturating_sub(SLOTS as u64));
        while self.cursor < now && self.filed > 0 {
            let head = &mut self.heads[self.cursor as usize % SLOTS];
            let mut id = std::mem::replace(head, NONE);
            self.cursor += 1;
            let before = taken.len();
            while id != NONE {
                let link = &mut self.links[id as usize];
                link.slot = UNFILED;
                taken.push(id);
                id = link.next;
            }
            self.filed -= taken.len() - before;
            if taken.len() > before {
                return true;
            }
        }
        self.cursor = self.cursor.max(now);
        false
    }

    /// Whether a due time lies in a slot before that of `now_ns`.
    pub(crate) fn is_due(&self, due_ns: u64, now_ns: u64) -> bool {
        self.tick(due_ns) < self.tick(now_ns)
    }

    /// The entries that are due next, of those that `keep` has: slot by slot, until at least
    /// `least` are found. Entries found on the way are filed under their true due times. Whether
    /// all slots were looked at, so that there are no others.
    pub(crate) fn next_due(
        &mut self,
        due: impl Fn(u32) -> u64,
        keep: impl Fn(u32) -> bool,
        least: usize,
        found: &mut Vec<u32>,
    ) -> bool {
        found.clear();
        let start = self.cursor;
        for step in 0..SLOTS as u64 {
            let slot = (start + step) as usize % SLOTS;
            let mut id = self.heads[slot];
            while id != NONE {
                let next = self.links[id as usize].next;
                if self.tick(due(id)) > start + step && step + 1 < SLOTS as u64 {
                    self.unfile(id);
                    self.place(id, due(id));
                } else if keep(id) {
                    found.push(id);
                }
                id = next;
            }
            if found.len() >= least {
                return false;
            }
        }
        true
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

    #[test]
    fn behaves_like_a_map_of_due_times() {
        let mut wheel = Wheel::new(4, 0);
        let mut twin: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seed = 7;
        let mut now = 0;
        for _ in 0..20_000 {
            let id = (next(&mut seed) % 200) as u32;
            let due = now + next(&mut seed) % 200_000;
            match next(&mut seed) % 4 {
                0 => {
                    // Later due times are not told to the wheel, earlier ones are.
                    let before = twin.insert(id, due);
                    if before.is_none_or(|before| due < before) {
                        wheel.file(id, due, now);
                    }
                }
                1 => {
                    twin.remove(&id);
                    wheel.unfile(id);
                }
                _ => {
                    now += next(&mut seed) % 3_000;
                    let mut out = Vec::new();
                    while wheel.take_due(now, &mut out) {
                        for id in out.drain(..) {
                            if wheel.is_due(twin[&id], now) {
                                twin.remove(&id);
                            } else {
                                wheel.file(id, twin[&id], now);
                            }
                        }
                    }
                    assert!(
                        twin.values().all(|&due| due >> 4 >= now >> 4),
                        "nothing overdue stays"
                    );
                }
            }
            assert_eq!(wheel.filed, twin.len());
        }
    }

    #[test]
    fn the_next_to_leave_are_found_past_lazy_entries() {
        let mut wheel = Wheel::new(4, 0);
        let due = BTreeMap::from([(0, 500), (1, 90_000), (2, 505), (3, 64_000)]);
        for id in due.keys() {
            wheel.file(*id, 100, 50);
        }
        let mut found = Vec::new();
        assert!(!wheel.next_due(|id| due[&id], |_| true, 1, &mut found));
        found.sort_unstable();
        assert_eq!(found, [0, 2]);
        assert!(!wheel.next_due(|id| due[&id], |id| id != 0, 2, &mut found));
        found.sort_unstable();
        assert_eq!(found, [2, 3], "slot by slot, until there are enough");
        assert!(wheel.next_due(|id| due[&id], |id| id == 1, 2, &mut found));
        assert_eq!(found, [1], "there are no more");
    }
}
