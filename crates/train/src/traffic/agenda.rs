//! The agenda: what happens when, as a timing wheel in front of a small heap.
//!
//! The heap holds what falls into the present slot and is in exact order; everything later waits
//! unsorted in its slot's list. The lists are links between the entries, so nothing is allocated
//! once as many entries as ever wait at a time are there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A slot is 131 us wide: some 60 packets at half a million packets a second.
const SHIFT: u32 = 17;
/// Slots of the wheel, which spans 8.6 s; what is later waits in a heap of its own.
const SLOTS: u64 = 1 << 16;
const NONE: u32 = u32::MAX;

/// An appointment, and the next one in its slot or among the free ones.
#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at_ns: u64,
    what: T,
    next: u32,
}

/// Appointments.
#[derive(Clone, Debug)]
pub(super) struct Agenda<T> {
    entries: Vec<Entry<T>>,
    /// First entry that can be used again.
    free: u32,
    near: BinaryHeap<Reverse<(u64, u32)>>,
    late: BinaryHeap<Reverse<(u64, u32)>>,
    /// The slot that `near` holds; later ones are in `heads`.
    slot: u64,
    heads: Vec<u32>,
    /// Entries in `heads`.
    far: usize,
}

impl<T: Copy> Agenda<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            near: BinaryHeap::new(),
            late: BinaryHeap::new(),
            slot: 0,
            heads: vec![NONE; SLOTS as usize],
            far: 0,
        }
    }

    /// Makes an appointment, which may not lie before the last one taken.
    pub(super) fn file(&mut self, at_ns: u64, what: T) {
        if self.far == 0 && self.near.is_empty() && self.late.is_empty() {
            self.slot = at_ns >> SHIFT;
        }
        let id = self.keep(Entry { at_ns, what, next: NONE });
        self.place(id, at_ns);
    }

    fn keep(&mut self, entry: Entry<T>) -> u32 {
        let id = self.free;
        if id == NONE {
            self.entries.push(entry);
            return (self.entries.len() - 1) as u32;
        }
        // The entry freed last is used first: it is still in the cache.
        self.free = self.entries[id as usize].next;
        self.entries[id as usize] = entry;
        id
    }

    /// Puts an entry where its time belongs.
    fn place(&mut self, id: u32, at_ns: u64) {
        let slot = at_ns >> SHIFT;
        if slot <= self.slot {
            self.near.push(Reverse((at_ns, id)));
        } else if slot - self.slot < SLOTS {
            let head = &mut self.heads[(slot % SLOTS) as usize];
            self.entries[id as usize].next = std::mem::replace(head, id);
            self.far += 1;
        } else {
            self.late.push(Reverse((at_ns, id)));
        }
    }

    /// Moves on to the next slot that holds anything.
    fn advance(&mut self) {
        while self.near.is_empty() {
            match (self.far, self.late.peek()) {
                (0, None) => return,
                // Nothing is near or far: there is nothing to walk past.
                (0, Some(&Reverse((at_ns, _)))) => self.slot = at_ns >> SHIFT,
                _ => self.slot += 1,
            }
            self.open_slot();
        }
    }

    /// Sorts in what the present slot holds, and what the wheel now reaches.
    fn open_slot(&mut self) {
        let head = &mut self.heads[(self.slot % SLOTS) as usize];
        let mut id = std::mem::replace(head, NONE);
        while id != NONE {
            let Entry { at_ns, next, .. } = self.entries[id as usize];
            self.near.push(Reverse((at_ns, id)));
            self.far -= 1;
            id = next;
        }
        while let Some(&Reverse((at_ns, id))) = self.late.peek() {
            if (at_ns >> SHIFT) - self.slot >= SLOTS {
                return;
            }
            self.late.pop();
            self.place(id, at_ns);
        }
    }

    /// The next time on the agenda.
    pub(super) fn peek(&mut self) -> Option<u64> {
        self.advance();
        self.near.peek().map(|&Reverse((at_ns, _))| at_ns)
    }

    /// Takes the next appointment.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        self.advance();
        let Reverse((at_ns, id)) = self.near.pop()?;
        let entry = &mut self.entries[id as usize];
        entry.next = std::mem::replace(&mut self.free, id);
        Some((at_ns, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn appointments_come_in_the_order_of_a_sorted_list() {
        let mut random = Random::new(&[7]);
        let mut agenda = Agenda::new();
        let mut twin = std::collections::BTreeSet::new();
        let spans = [1, 1 << 10, 1 << 18, 1 << 30, 1 << 36, 1 << 50];
        for what in 0..500 {
            let at = random.below(1 << 36) as u64;
            agenda.file(at, what);
            twin.insert((at, what));
        }
        for step in 0..20_000 {
            let (at, _) = *twin.first().unwrap();
            assert_eq!(agenda.peek(), Some(at));
            let next = agenda.pop().unwrap();
            assert!(next.0 == at && twin.remove(&next), "{next:?}");
            if step < 19_500 {
                let at = at + random.below(spans[step % spans.len()]) as u64;
                agenda.file(at, next.1);
                twin.insert((at, next.1));
            }
        }
        assert_eq!((agenda.pop(), agenda.peek()), (None, None));
        assert!(agenda.entries.len() <= 500, "entries are used again");
    }
}
