//! What a reader that puts frames in order does to batches: cuts them, sorts them, mends times.
//!
//! All of it moves descriptions of frames and no bytes, but for [`Batch::push_from`].

use super::{Batch, Frame, NO_NOTE, Restart};

impl Batch {
    /// Time stamp of frame `index`, nanoseconds since the epoch.
    #[inline]
    pub(crate) fn ts_ns(&self, index: usize) -> u64 {
        self.frames[index].ts_ns
    }

    /// All time stamps, in the order of the frames.
    pub(crate) fn times(&self) -> impl ExactSizeIterator<Item = u64> {
        self.frames.iter().map(|frame| frame.ts_ns)
    }

    /// Gives frame `index` another time stamp.
    pub(crate) fn mend_time(&mut self, index: usize, ts_ns: u64) {
        self.frames[index].ts_ns = ts_ns;
    }

    /// When frame `index` is in turn: by its time stamp, or later if it came too late for that.
    #[inline]
    pub(crate) fn turn_ns(&self, index: usize) -> u64 {
        let frame = &self.frames[index];
        frame.now_ns.max(frame.ts_ns)
    }

    /// Puts frame `index` behind all that are in turn at `turn_ns`.
    pub(crate) fn delay_turn(&mut self, index: usize, turn_ns: u64) {
        self.frames[index].now_ns = turn_ns;
    }

    /// Sorts the frames by their turns; those of one turn stay as they are.
    pub(crate) fn sort_by_turn(&mut self) {
        self.frames.sort_by_key(|frame| frame.now_ns.max(frame.ts_ns));
    }

    /// Makes the frames go by the clock of their turns, which never steps back; where it stands
    /// then.
    pub(crate) fn follow_turns(&mut self, mut now_ns: u64) -> u64 {
        for frame in &mut self.frames {
            now_ns = now_ns.max(frame.now_ns).max(frame.ts_ns);
            frame.now_ns = now_ns;
        }
        self.is_share = true;
        now_ns
    }

    /// Says that the clock starts over before these frames.
    pub(crate) fn restart_before(&mut self, restart: Restart) {
        self.restart = Some(restart);
    }

    /// Says that frames came as they happened, and nobody has looked ahead.
    pub(crate) fn come_live(&mut self) {
        self.is_live = true;
    }

    /// Says what was found while frames were put in order up to these.
    pub(crate) fn note_order(&mut self, found: OrderCount) {
        self.order.out_of_order += found.out_of_order;
        self.order.stray_timestamps += found.stray_timestamps;
    }

    /// Moves the first `count` frames into `front`, which is emptied before. Bytes that a reader
    /// lent are shared by both then.
    pub(crate) fn take_front(&mut self, count: usize, front: &mut Self) {
        front.clear();
        front.lent.clone_from(&self.lent);
        if self.lent.is_none() {
            for index in 0..count {
                front.push_from(self, index);
            }
            self.frames.drain(..count);
            return;
        }
        let moved = self.frames.drain(..count);
        front.frames.extend(moved);
        front.adopt_notes(&self.notes, &self.note_spans);
    }

    /// Cuts off all frames from `index` on.
    pub(crate) fn split_off(&mut self, index: usize) -> Self {
        let mut front = Self::new();
        self.take_front(index, &mut front);
        std::mem::replace(self, front)
    }

    /// Numbers the notes of frames that were taken over from a batch with these notes.
    fn adopt_notes(&mut self, notes: &str, spans: &[(usize, usize)]) {
        if spans.is_empty() {
            return;
        }
        for index in 0..self.frames.len() {
            let note = std::mem::replace(&mut self.frames[index].note, NO_NOTE);
            if note != NO_NOTE {
                let (start, end) = spans[note as usize];
                self.note_frame(index, &notes[start..end]);
            }
        }
    }

    /// Adds frame `index` of another batch: a copy of its bytes, unless both lie in one block.
    #[inline]
    pub(crate) fn push_from(&mut self, other: &Self, index: usize) {
        let frame = &other.frames[index];
        if self.lent.is_some() {
            self.frames.push(Frame { note: NO_NOTE, ..*frame });
        } else {
            let packet = other.packet(index);
            self.push(packet.ts_ns, packet.orig_len, packet.link, packet.data);
            self.frames.last_mut().expect("it was pushed").now_ns = frame.now_ns;
        }
        if let Some(note) = other.note(index) {
            self.note_last(note);
        }
    }
}

/// What was found while frames were put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OrderCount {
    /// Frames that came too late to be put in order.
    pub out_of_order: u64,
    /// Frames whose time stamp was far from both neighbours', and who took a neighbour's.
    pub stray_timestamps: u64,
}
