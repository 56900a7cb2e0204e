//! A new flow: its place in the table, and who gives way to it.
//!
//! While the table has room this costs nothing. When it is full, a decided flow leaves first: it
//! needs nothing more, while an undecided one would be asked with less than it should have. Only
//! where none is decided does the undecided flow leave that would leave next. What is decided is
//! known to the engine with the answer of a lane, so in a full table, and there alone, which flow
//! gives way depends on how packets come in batches and how soon lanes answer.

use super::Engine;
use crate::key::FlowKey;
use crate::table::{DECIDED, Opening, Tag};
use crate::verdict::Reason;

impl Engine {
    /// The entry of a new flow; `None` where there is no memory for it.
    pub(super) fn begin_flow(
        &mut self,
        key: (FlowKey, Tag),
        opening: Opening,
        at: u64,
    ) -> Option<u32> {
        if self.table.is_full() {
            self.advance();
        }
        while self.table.is_full() {
            let Some(next) = self.table.next_to_evict() else { break };
            self.evict(next);
        }
        let has_memory = self.table.has_memory() && self.room.has_memory();
        if !has_memory && !self.make_room() {
            return None;
        }
        // The grid of windows begins here; no window is as good as one that never ends.
        let ticket = self.begin_sample(at, at.saturating_add(self.config.flows.window_ns));
        let id = self.table.add(key, opening, at, self.clock.now_ns(), ticket);
        self.room[ticket].entry = id;
        Some(id)
    }

    /// Has a flow give way to a new one.
    fn evict(&mut self, id: u32) {
        let was_decided = self.table[id].pending == DECIDED;
        let cut = self.end_flow(id, Reason::Evicted, self.clock.now_ns());
        if cut.reason == Reason::Evicted {
            self.accounts.evicted_decided += u64::from(was_decided);
            self.accounts.evicted_undecided += u64::from(!was_decided);
        }
    }

    /// Without memory for another flow, decided ones give way; false where that does not help.
    #[cold]
    fn make_room(&mut self) -> bool {
        while !self.table.has_memory() {
            let Some(next) = self.table.next_decided() else { return false };
            self.evict(next);
        }
        // An undecided flow gives its place back with its verdict, not before.
        self.room.has_memory()
    }
}
