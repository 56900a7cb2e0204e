//! The reorder window: frames that were stored late wait here for their turn.
//!
//! A frame is late if one before it has a later time stamp. It is put back in its place unless it
//! comes too late: more than `reorder_ns` behind the latest time stamp, or behind a frame that is
//! out of reach by the number of packets between. Then it takes the earliest turn that is left (the
//! present where it is of another time altogether), and is counted; so the frames of a flow that
//! are stored in order leave in order, late or not. Which frames are too late depends on how they
//! are stored and on nothing else: not on batches, and not on who asks when.
//!
//! Frames are held as the batches they were read in, each sorted by turn. The usual batch is in
//! order and earlier than all that is held behind it, and leaves as it came; only where batches
//! interlace are frames copied.

use super::Reading;
use super::rules::{CHUNK, OrderRules};
use super::stream::Piece;
use crate::batch::{Batch, OrderCount};
use std::collections::VecDeque;

/// Frames from which on it is worth while to hand over a part of a batch without copying it.
const WORTH_CUTTING: usize = 64;

/// A batch that is held, and how many of its frames have left.
#[derive(Debug)]
struct Run {
    batch: Batch,
    next: usize,
}

impl Run {
    fn turn_ns(&self) -> u64 {
        self.batch.turn_ns(self.next)
    }

    fn last_ns(&self) -> u64 {
        self.batch.turn_ns(self.batch.len() - 1)
    }
}

#[derive(Debug, Default)]
pub(super) struct Window {
    runs: VecDeque<Run>,
    /// The latest turn of all frames that came.
    latest_ns: u64,
    /// Frames that came.
    arrived: u64,
    /// The latest turn up to the end of each of the last chunks of frames that came, oldest first.
    chunks: VecDeque<u64>,
    /// Turns up to here may leave, because nothing that is yet to come can be earlier.
    settled_ns: u64,
    /// Whether a batch that is held begins before the end of one before it.
    interlaced: bool,
    /// What was found and not yet told.
    found: OrderCount,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Counts stray time stamps that were mended.
    pub(super) fn note_strays(&mut self, strays: u64) {
        self.found.stray_timestamps += strays;
    }

    /// Lets all leave that is held, because what comes next does not belong to it.
    pub(super) fn settle(&mut self) {
        self.settled_ns = u64::MAX;
    }

    /// Begins anew, with nothing held.
    pub(super) fn begin_anew(&mut self) {
        assert!(self.runs.is_empty(), "what is held leaves first");
        (self.latest_ns, self.arrived, self.settled_ns) = (0, 0, 0);
        self.chunks.clear();
    }

    /// Takes frames that leave as they came.
    pub(super) fn pass(&mut self, batch: Batch) {
        self.runs.push_back(Run { batch, next: 0 });
        self.settle();
    }

    /// Takes frames in the order in which they are stored.
    pub(super) fn push(&mut self, piece: Piece, rules: &OrderRules) {
        let mut batch = piece.batch;
        let (first, count) = (self.arrived, batch.len());
        let is_late = !piece.is_sorted || batch.ts_ns(0) < self.latest_ns;
        if is_late {
            self.give_turns(&mut batch, first, rules);
            let begins = batch.turn_ns(0);
            self.interlaced |= self.runs.back().is_some_and(|run| begins < run.last_ns());
        } else {
            self.end_chunks(first, count, rules, |index| batch.ts_ns(index));
            self.latest_ns = batch.ts_ns(count - 1);
        }
        self.arrived += count as u64;
        self.settled_ns = self.settled(rules);
        self.runs.push_back(Run { batch, next: 0 });
    }

    /// Finds each frame's turn, and sorts the batch by it.
    fn give_turns(&mut self, batch: &mut Batch, first: u64, rules: &OrderRules) {
        let mut latest = self.latest_ns;
        for index in 0..batch.len() {
            let ts = batch.ts_ns(index);
            if ts < latest {
                let oldest = match rules.reorders() {
                    true => latest.saturating_sub(rules.reorder_ns).max(self.out_of_reach(rules)),
                    false => latest,
                };
                if ts < oldest {
                    // What is of another time altogether stays where it is stored.
                    let is_far = super::stray::is_far(latest, ts, rules.far_ns());
                    batch.delay_turn(index, if is_far { latest } else { oldest });
                    self.found.out_of_order += 1;
                }
            }
            latest = latest.max(ts);
            self.end_chunks(first + index as u64, 1, rules, |_| latest);
        }
        self.latest_ns = latest;
        batch.sort_by_turn();
    }

    /// Notes the latest turn at the end of each chunk that `count` frames complete, the first of
    /// which is number `first` of all.
    fn end_chunks(
        &mut self,
        first: u64,
        count: usize,
        rules: &OrderRules,
        latest: impl Fn(usize) -> u64,
    ) {
        let chunk = CHUNK as u64;
        let mut end = (first / chunk + 1) * chunk;
        while end <= first + count as u64 {
            self.chunks.push_back(latest((end - 1 - first) as usize));
            if self.chunks.len() > rules.reorder_packets.div_ceil(CHUNK) + 1 {
                self.chunks.pop_front();
            }
            end += chunk;
        }
    }

    /// The latest turn of the frames that are so many before the next one that it cannot stand
    /// before them.
    fn out_of_reach(&self, rules: &OrderRules) -> u64 {
        let is_full = self.chunks.len() > rules.reorder_packets.div_ceil(CHUNK);
        if is_full { self.chunks[0] } else { 0 }
    }

    fn settled(&self, rules: &OrderRules) -> u64 {
        if !rules.reorders() {
            return u64::MAX;
        }
        self.latest_ns.saturating_sub(rules.reorder_ns).max(self.out_of_reach(rules))
    }

    /// Takes out frames whose turn it is, at most so many, and what was found until now; false if
    /// none may leave yet.
    pub(super) fn pop(&mut self, out: &mut Batch, reading: &mut Reading<'_>) -> bool {
        if !self.take(out, reading) {
            return false;
        }
        out.note_order(std::mem::take(&mut self.found));
        true
    }

    fn take(&mut self, out: &mut Batch, reading: &mut Reading<'_>) -> bool {
        let Some(front) = self.runs.front() else {
            self.interlaced = false;
            return false;
        };
        // Turns up to here leave the first batch before any other has one.
        let mut until = self.settled_ns;
        if self.interlaced {
            let others = self.runs.iter().skip(1).map(Run::turn_ns);
            until = until.min(others.min().unwrap_or(u64::MAX));
        }
        let held = front.batch.len() - front.next;
        if front.last_ns() <= until {
            self.take_front(out, held, reading);
            return true;
        }
        if !self.interlaced {
            // Soon all of it may leave: small batches cost more than they hurry.
            return false;
        }
        let turns = (front.next..front.batch.len()).map(|index| front.batch.turn_ns(index));
        let ready = turns.take_while(|&turn| turn <= until).count();
        if ready < WORTH_CUTTING {
            return self.merge(out, reading);
        }
        self.take_front(out, ready, reading);
        true
    }

    /// Takes the first frames of the first batch, as they lie.
    fn take_front(&mut self, out: &mut Batch, count: usize, reading: &mut Reading<'_>) {
        let count = count.min(reading.frames);
        let front = self.runs.front_mut().expect("there is one");
        if front.next > 0 {
            front.batch = front.batch.split_off(front.next);
            front.next = 0;
        }
        if count < front.batch.len() {
            front.batch.take_front(count, out);
            return;
        }
        let run = self.runs.pop_front().expect("there is one");
        reading.spare.give(std::mem::replace(out, run.batch));
        self.interlaced = self.interlaced && !self.is_in_sequence();
    }

    /// Copies frames of several batches, in turn.
    fn merge(&mut self, out: &mut Batch, reading: &mut Reading<'_>) -> bool {
        out.clear();
        while out.len() < reading.frames {
            let turns = self.runs.iter().enumerate().map(|(at, run)| (run.turn_ns(), at));
            let Some((turn, at)) = turns.min() else { break };
            if turn > self.settled_ns {
                break;
            }
            let run = &mut self.runs[at];
            out.push_from(&run.batch, run.next);
            run.next += 1;
            if run.next == run.batch.len() {
                let run = self.runs.remove(at).expect("it was looked at");
                reading.spare.give(run.batch);
                if self.is_in_sequence() {
                    self.interlaced = false;
                    break;
                }
            }
        }
        !out.is_empty()
    }

    /// Whether each batch that is held ends before the next one begins.
    fn is_in_sequence(&self) -> bool {
        let mut pairs = self.runs.iter().zip(self.runs.iter().skip(1));
        pairs.all(|(run, next)| run.last_ns() <= next.turn_ns())
    }
}
