//! Captures as one stream of frames in the order of their time stamps, as far as each is in order.
//!
//! A capture is opened when the present comes to its first packet, and closed at its end, so
//! captures that follow each other are open one at a time and their batches pass as they were read.
//! Where several are open, the frame goes first whose time stamp is the earliest.

use super::rules::Tables;
use super::stream::{Piece, Stream};
use super::{Reading, open};
use crate::batch::Batch;
use crate::error::SourceError;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Captures that may be open at once.
pub const MOST_OPEN: usize = 256;

/// Frames from which on it is worth while to hand over a part of a batch without copying it.
const WORTH_CUTTING: usize = 64;

/// A capture whose turn has not come.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    pub(super) rank: usize,
    /// Time stamp of its first packet.
    pub(super) first_ns: u64,
}

/// A capture that is open, and frames of it that were not given out.
struct Open {
    stream: Stream,
    /// Empty where all were given out and none are read yet.
    piece: Piece,
    /// Frames of the piece that were given out.
    next: usize,
}

impl Open {
    fn new(stream: Stream, piece: Piece) -> Self {
        Self { stream, piece, next: 0 }
    }

    fn is_spent(&self) -> bool {
        self.next == self.piece.batch.len()
    }

    /// When its next frame was captured; its place decides between equal times.
    fn turn(&self) -> (u64, usize) {
        (self.piece.batch.ts_ns(self.next), self.stream.rank)
    }

    /// Cuts off what was given out.
    fn trim(&mut self) {
        if self.next > 0 {
            self.piece.batch = self.piece.batch.split_off(self.next);
            self.next = 0;
        }
    }
}

/// Frames in the order of the merge.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) piece: Piece,
    /// Whether a new flow table begins with them.
    pub(super) begins_table: bool,
}

/// What became of the captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Merged {
    /// Captures that were read.
    pub(super) captures: u64,
    /// Of them, those that were open together with another one.
    pub(super) overlapping: u64,
}

#[derive(Default)]
pub(super) struct Merge {
    /// By time of the first packet.
    waiting: VecDeque<Waiting>,
    open: Vec<Open>,
    /// Captures that began anew at an earlier time: they come when all else is read.
    parked: Vec<Open>,
    /// Whether the next frames begin a new flow table, if there were any before.
    begins_table: bool,
    has_begun: bool,
    /// The ranks of captures that were open together with another one.
    overlapping: Vec<bool>,
    /// Buffers of captures that were closed.
    buffer: Vec<u8>,
    pub(super) errors: VecDeque<SourceError>,
    pub(super) merged: Merged,
    /// Whether what is read is a pipe whose packets come as they happen.
    pub(super) is_live: bool,
    /// Whether time stepped back for good under rules that want one flow table.
    pub(super) stepped_back: bool,
    /// Stray time stamps that were mended and not yet counted.
    pub(super) strays: u64,
    /// The capture that was read last.
    pub(super) name: String,
}

impl Merge {
    /// Reads these captures.
    pub(super) fn new(waiting: Vec<Waiting>) -> Self {
        let ranks = waiting.iter().map(|capture| capture.rank + 1).max().unwrap_or(0);
        Self { waiting: waiting.into(), overlapping: vec![false; ranks], ..Self::default() }
    }

    /// The next frames; none at the end of all captures.
    pub(super) fn next(&mut self, reading: &mut Reading<'_>) -> Option<Arrival> {
        self.read_on(reading);
        self.open_those_in_turn(reading);
        let at = self.earliest()?;
        let until = self.until(at, reading.rules.tables);
        let own = &mut self.open[at];
        own.trim();
        own.stream.name().clone_into(&mut self.name);
        let rank = own.stream.rank;
        let times = own.piece.batch.times();
        let ready = times.take_while(|&ts| (ts, rank) < until).count();
        let piece = if (own.piece.latest_ns, rank) < until {
            std::mem::take(&mut own.piece)
        } else if ready >= WORTH_CUTTING {
            let mut batch = reading.spare.take();
            own.piece.batch.take_front(ready, &mut batch);
            Piece::of(batch)
        } else {
            Piece::of(self.copy(reading))
        };
        let begins_table = std::mem::take(&mut self.begins_table) && self.has_begun;
        self.has_begun = true;
        Some(Arrival { piece, begins_table })
    }

    /// Reads on in the capture whose frames were all given out, if there is one.
    fn read_on(&mut self, reading: &mut Reading<'_>) {
        while let Some(at) = self.open.iter().position(Open::is_spent) {
            let Open { mut stream, piece, .. } = self.open.swap_remove(at);
            reading.spare.give(piece.batch);
            let next = stream.next(reading);
            self.keep(stream, next, reading.rules.tables);
        }
    }

    /// Opens captures until the next frame of those that are open is earlier than any other's
    /// first.
    fn open_those_in_turn(&mut self, reading: &mut Reading<'_>) {
        loop {
            let earliest = self.earliest().map(|at| self.open[at].turn());
            let first = self.waiting.front().map(|waiting| (waiting.first_ns, waiting.rank));
            let is_in_turn = match (earliest, first) {
                (None, first) => first.is_some(),
                (Some(_), _) if reading.rules.tables == Tables::PerCapture => false,
                (Some(earliest), Some(first)) => first < earliest,
                (Some(_), None) => false,
            };
            if is_in_turn {
                self.open_next(reading);
            } else if self.open.is_empty() && !self.parked.is_empty() {
                self.open = std::mem::take(&mut self.parked);
                self.begins_table = true;
            } else {
                return;
            }
        }
    }

    fn open_next(&mut self, reading: &mut Reading<'_>) {
        let Some(Waiting { path, rank, .. }) = self.waiting.pop_front() else { return };
        if self.open.len() + self.parked.len() >= MOST_OPEN {
            self.errors.push_back(SourceError::TooManyOpen { path, most: MOST_OPEN });
            return;
        }
        let opened = open(&path, rank, std::mem::take(&mut self.buffer), reading.stop);
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return self.errors.push_back(error),
        };
        let piece = stream.next(reading);
        self.merged.captures += 1;
        if reading.rules.tables == Tables::PerCapture && piece.is_some() {
            self.begins_table = true;
        }
        self.keep(stream, piece, reading.rules.tables);
        if self.open.len() > 1 {
            for open in &self.open {
                let seen = &mut self.overlapping[open.stream.rank];
                self.merged.overlapping += u64::from(!std::mem::replace(seen, true));
            }
        }
    }

    /// Keeps a capture open with its next frames, or closes it where there are none.
    fn keep(&mut self, mut stream: Stream, piece: Option<Piece>, tables: Tables) {
        self.strays += std::mem::take(&mut stream.strays);
        self.stepped_back |= stream.stepped_back;
        self.is_live |= stream.is_live;
        match piece {
            Some(piece) if piece.begins_anew && tables == Tables::ByTime => {
                self.parked.push(Open::new(stream, piece));
            }
            Some(piece) => {
                self.begins_table |= piece.begins_anew;
                self.open.push(Open::new(stream, piece));
            }
            None => {
                self.errors.extend(std::mem::take(&mut stream.errors));
                self.buffer = stream.into_reader().into_buffer();
            }
        }
    }

    fn earliest(&self) -> Option<usize> {
        let turns = self.open.iter().enumerate().map(|(at, open)| (open.turn(), at));
        turns.min().map(|(_, at)| at)
    }

    /// The turn of the first frame of all other captures.
    fn until(&self, own: usize, tables: Tables) -> (u64, usize) {
        let others = self.open.iter().enumerate().filter(|&(at, _)| at != own);
        let turns = others.map(|(_, open)| open.turn());
        let waiting = self.waiting.front().filter(|_| tables != Tables::PerCapture);
        let waiting = waiting.map(|waiting| (waiting.first_ns, waiting.rank));
        turns.chain(waiting).min().unwrap_or((u64::MAX, usize::MAX))
    }

    /// Copies frames of several captures in turn.
    fn copy(&mut self, reading: &mut Reading<'_>) -> Batch {
        let mut batch = reading.spare.take();
        while batch.len() < reading.frames {
            let Some(at) = self.earliest() else { break };
            let first = self.waiting.front().map(|waiting| (waiting.first_ns, waiting.rank));
            let own = &mut self.open[at];
            if first.is_some_and(|first| first < own.turn()) {
                break;
            }
            batch.push_from(&own.piece.batch, own.next);
            own.next += 1;
            if own.is_spent() {
                self.read_on(reading);
            }
        }
        batch
    }
}
