//! One capture, with stray time stamps mended and the points marked where it begins anew.

use super::Reading;
use super::rules::Tables;
use super::stray::{LOOK, is_far, is_stray, mended_start};
use crate::batch::Batch;
use crate::capture::CaptureReader;
use crate::error::SourceError;
use crate::source::Source;
use serveflow_core::parse::parse;
use std::collections::VecDeque;

/// Frames that are looked through for packets of flows behind one in doubt.
const LOOK_FRAMES: usize = 256;

/// Frames of a capture as they are stored.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) batch: Batch,
    /// The latest time stamp.
    pub(super) latest_ns: u64,
    /// Whether time stamps never step back in it.
    pub(super) is_sorted: bool,
    /// Whether the capture begins anew with it: time stepped back for good.
    pub(super) begins_anew: bool,
}

impl Piece {
    /// Frames that were put together.
    pub(super) fn of(batch: Batch) -> Self {
        let (latest_ns, is_sorted) = scan(&batch, 0);
        Self { batch, latest_ns, is_sorted, begins_anew: false }
    }
}

/// What a look at a batch finds.
struct Overview {
    /// The first frame whose time stamp is not to be believed at once.
    leap: Option<usize>,
    latest_ns: u64,
    is_sorted: bool,
}

/// A capture that is being read.
pub(super) struct Stream {
    reader: CaptureReader,
    /// Its place among the inputs, which decides between equal time stamps.
    pub(super) rank: usize,
    /// What was read and is not yet given out.
    ahead: VecDeque<Batch>,
    /// The latest time stamp that was believed, since it began anew.
    level_ns: Option<u64>,
    /// Whether the next frame was found to begin anew.
    begins_anew: bool,
    is_over: bool,
    /// Whether frames come as they happen, so that nothing can be looked ahead for.
    pub(super) is_live: bool,
    /// Whether it is a pipe, which may turn out to be live.
    is_pipe: bool,
    /// What was met at its end, or ended it.
    pub(super) errors: Vec<SourceError>,
    /// Stray time stamps that were mended and not yet counted.
    pub(super) strays: u64,
    /// Whether time stepped back for good under rules that want one flow table.
    pub(super) stepped_back: bool,
}

impl Stream {
    pub(super) fn new(reader: CaptureReader, rank: usize, is_pipe: bool) -> Self {
        Self {
            reader,
            rank,
            ahead: VecDeque::new(),
            level_ns: None,
            begins_anew: false,
            is_over: false,
            is_live: false,
            is_pipe,
            errors: Vec::new(),
            strays: 0,
            stepped_back: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.reader.name()
    }

    pub(super) fn into_reader(self) -> CaptureReader {
        self.reader
    }

    /// The next frames, at most so many; none at the end.
    pub(super) fn next(&mut self, reading: &mut Reading<'_>) -> Option<Piece> {
        if self.ahead.is_empty() {
            self.read(reading);
        }
        let batch = self.ahead.pop_front()?;
        if self.is_live {
            let latest_ns = batch.times().max().unwrap_or(0);
            return Some(Piece { batch, latest_ns, is_sorted: true, begins_anew: false });
        }
        let seen = self.look_over(&batch, reading.rules.far_ns());
        if let Some(at) = seen.leap {
            return Some(self.judge_from(at, batch, reading));
        }
        self.level_ns = Some(seen.latest_ns);
        let Overview { latest_ns, is_sorted, .. } = seen;
        Some(Piece { batch, latest_ns, is_sorted, begins_anew: false })
    }

    /// Reads more; nothing happens at the end.
    fn read(&mut self, reading: &mut Reading<'_>) {
        if self.is_over {
            return;
        }
        let mut batch = reading.spare.take();
        loop {
            match self.reader.fill(&mut batch, reading.frames) {
                Ok(0) => {
                    self.is_over = true;
                    return reading.spare.give(batch);
                }
                Ok(_) => break,
                Err(error) => self.errors.push(error),
            }
        }
        if self.is_pipe && !self.is_live {
            self.is_live = reading.rules.pipe.is_live(batch.ts_ns(batch.len() - 1));
        }
        self.ahead.push_back(batch);
    }

    /// Looks whether all time stamps can be believed at once, as nearly always.
    fn look_over(&self, batch: &Batch, far_ns: u64) -> Overview {
        let is_doubtful = match self.level_ns {
            _ if self.begins_anew => true,
            Some(_) => false,
            // Two stamps that are alike say no more than one.
            None => match batch.times().take(2).collect::<Vec<_>>()[..] {
                [first, second] => first == second || is_far(first, second, far_ns),
                _ => true,
            },
        };
        let before = self.level_ns.unwrap_or(batch.ts_ns(0));
        let mut seen = Overview { leap: None, latest_ns: before, is_sorted: true };
        if is_doubtful {
            seen.leap = Some(0);
            return seen;
        }
        for (index, ts) in batch.times().enumerate() {
            if is_far(seen.latest_ns, ts, far_ns) {
                seen.leap = Some(index);
                return seen;
            }
            seen.is_sorted &= ts >= seen.latest_ns;
            seen.latest_ns = seen.latest_ns.max(ts);
        }
        seen
    }

    /// Judges each time stamp from one on that leaps, and mends those that are stray. Frames before
    /// a point where the capture begins anew come alone.
    fn judge_from(&mut self, at: usize, mut batch: Batch, reading: &mut Reading<'_>) -> Piece {
        let begins_anew = std::mem::take(&mut self.begins_anew);
        if begins_anew {
            self.level_ns = Some(batch.ts_ns(0));
        }
        let start = self.level_ns;
        if at > 0 {
            let latest = batch.times().take(at).max().unwrap_or(0);
            self.level_ns = Some(self.level_ns.map_or(latest, |level| level.max(latest)));
        }
        for index in at..batch.len() {
            let ts = batch.ts_ns(index);
            let Some(level) = self.level_ns else {
                let later = self.later(&batch, index, reading);
                let mended = mended_start(ts, &later, reading.rules.far_ns());
                if let Some(mended) = mended {
                    self.mend(&mut batch, index, mended);
                }
                self.level_ns = Some(mended.unwrap_or(ts));
                continue;
            };
            if !is_far(level, ts, reading.rules.far_ns()) {
                self.level_ns = Some(level.max(ts));
            } else if self.is_stray(level, &batch, index, reading) {
                self.mend(&mut batch, index, level);
            } else if ts > level {
                self.level_ns = Some(ts);
            } else if reading.rules.tables == Tables::One {
                self.stepped_back = true;
                self.level_ns = Some(ts);
            } else {
                let rest = batch.split_off(index);
                self.ahead.push_front(rest);
                self.begins_anew = true;
                break;
            }
        }
        if batch.is_empty() {
            // The very first frame begins anew: what was before it is given out already.
            let rest = self.ahead.pop_front().expect("it was put there");
            return self.judge_from(0, rest, reading);
        }
        let before = if begins_anew { None } else { start };
        let (latest_ns, is_sorted) = scan(&batch, before.unwrap_or(0));
        Piece { batch, latest_ns, is_sorted, begins_anew }
    }

    fn mend(&mut self, batch: &mut Batch, index: usize, ts_ns: u64) {
        batch.mend_time(index, ts_ns);
        self.strays += 1;
    }

    /// Whether the time stamp of a frame that leaps is stray. Only packets of flows may turn time
    /// back.
    fn is_stray(
        &mut self,
        level: u64,
        batch: &Batch,
        index: usize,
        reading: &mut Reading<'_>,
    ) -> bool {
        let ts = batch.ts_ns(index);
        if ts < level && parse(&batch.packet(index), reading.rules.key).is_err() {
            return true;
        }
        let later = self.later(batch, index, reading);
        is_stray(level, ts, &later, reading.rules.far_ns())
    }

    /// Time stamps of the packets of flows behind a frame, as many as are looked at.
    fn later(&mut self, batch: &Batch, index: usize, reading: &mut Reading<'_>) -> Vec<u64> {
        let (mut later, mut looked) = (Vec::new(), 0);
        let mut look = |batch: &Batch, from: usize| {
            for index in from..batch.len() {
                looked += 1;
                let packet = batch.packet(index);
                if parse(&packet, reading.rules.key).is_ok() {
                    later.push(packet.ts_ns);
                }
                if later.len() >= LOOK || looked >= LOOK_FRAMES {
                    return true;
                }
            }
            false
        };
        if look(batch, index + 1) {
            return later;
        }
        let mut next = 0;
        loop {
            if next == self.ahead.len() {
                self.read(reading);
            }
            let Some(batch) = self.ahead.get(next) else { return later };
            if look(batch, 0) {
                return later;
            }
            next += 1;
        }
    }
}

/// The latest time stamp of all until now, and whether none steps back, of what came before either.
fn scan(batch: &Batch, before: u64) -> (u64, bool) {
    let (mut latest, mut is_sorted) = (before, true);
    for ts in batch.times() {
        is_sorted &= ts >= latest;
        latest = latest.max(ts);
    }
    (latest, is_sorted)
}
