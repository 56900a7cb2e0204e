//! The source over captures.

use super::find::{Found, InputSet, Look, sort};
use super::merge::{Arrival, Merge, Waiting};
use super::rules::{OrderRules, PipeTime};
use super::stream::Piece;
use super::window::Window;
use super::{Reading, Spare, is_pipe};
use crate::batch::{Batch, Restart};
use crate::error::SourceError;
use crate::source::Source;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Reads captures in the order of time, as if they were one.
///
/// An error ends the file that it names and no other; it comes when all that could be read has
/// come. Link types and formats may differ between the files.
pub struct FileSource {
    rules: OrderRules,
    /// What is still to be looked into.
    paths: Vec<PathBuf>,
    merge: Merge,
    window: Window,
    spare: Spare,
    /// Frames that begin a new flow table, while those before them leave.
    next_table: Option<Piece>,
    /// What the next frames tell: that the flow table is a new one.
    restart: Option<Restart>,
    /// The clock of one flow table for captures that step back; none where packets are their own
    /// clock.
    one_clock_ns: Option<u64>,
    is_over: bool,
    counts: Arc<Counted>,
    /// Set from outside when pipes are to end.
    stop: Arc<AtomicBool>,
}

/// What was counted so far.
#[derive(Debug, Default)]
struct Counted {
    captures: AtomicU64,
    overlapping: AtomicU64,
    tables: AtomicU64,
    is_live: AtomicU64,
    out_of_order: AtomicU64,
    strays: AtomicU64,
}

/// What became of captures, as it stands at the moment of asking.
#[derive(Clone, Debug, Default)]
pub struct InputCounts(Arc<Counted>);

impl fmt::Display for InputCounts {
    /// A line for the summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let (captures, tables) = (of(&self.0.captures), of(&self.0.tables).max(1));
        write!(f, "inputs:  {captures} capture{}", plural(captures))?;
        if captures > 1 {
            f.write_str(" in the order of time")?;
        }
        match of(&self.0.overlapping) {
            0 => {}
            overlapping => write!(f, ", {overlapping} overlap and were merged")?,
        }
        write!(f, ", {tables} flow table{}", plural(tables))?;
        if of(&self.0.is_live) > 0 {
            return f.write_str("; a live pipe, in the order in which packets came");
        }
        let (late, strays) = (of(&self.0.out_of_order), of(&self.0.strays));
        write!(f, "; {late} packet{} out of order, ", plural(late))?;
        write!(f, "{strays} stray time stamp{}", plural(strays))
    }
}

impl FileSource {
    /// A source over these files, by the usual rules; `-` is standard input.
    ///
    /// Use [`InputSet`] where directories may be among them.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self::with(paths, OrderRules::default())
    }

    /// A source over these files.
    #[must_use]
    pub fn with(paths: Vec<PathBuf>, rules: OrderRules) -> Self {
        Self::start(paths, Vec::new(), rules)
    }

    /// A source over captures that were found.
    #[must_use]
    pub fn of(set: InputSet, rules: OrderRules) -> Self {
        Self::start(Vec::new(), set.into_found(), rules)
    }

    fn start(paths: Vec<PathBuf>, found: Vec<Found>, rules: OrderRules) -> Self {
        let mut source = Self {
            rules,
            paths: Vec::new(),
            merge: Merge::default(),
            window: Window::default(),
            spare: Spare::default(),
            next_table: None,
            restart: None,
            one_clock_ns: None,
            is_over: false,
            counts: Arc::default(),
            stop: Arc::default(),
        };
        source.merge.name.push_str("files");
        if found.len() + paths.len() > 1 {
            // One input of many is in nobody's present.
            source.rules.pipe = PipeTime::Recorded;
        }
        match <[PathBuf; 1]>::try_from(paths) {
            Ok([path]) => source.read(vec![Found { path, first_ns: None }]),
            Err(paths) if paths.is_empty() => source.read(found),
            Err(paths) => source.paths = paths,
        }
        source
    }

    /// The same, whose pipes end as soon as a flag is set: what came before is read all the same.
    #[must_use]
    pub fn ending_with(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// What becomes of the captures, told while they are read and after.
    #[must_use]
    pub fn counts(&self) -> InputCounts {
        InputCounts(Arc::clone(&self.counts))
    }

    /// Reads these captures, by time and name.
    fn read(&mut self, mut found: Vec<Found>) {
        sort(&mut found);
        let waiting = found.into_iter().enumerate().map(|(rank, found)| Waiting {
            path: found.path,
            rank,
            first_ns: found.first_ns.unwrap_or(0),
        });
        self.merge = Merge::new(waiting.collect());
    }

    /// Looks when each file begins that was not looked into.
    fn look(&mut self) {
        if self.paths.is_empty() {
            return;
        }
        let mut look = Look::default();
        let paths = std::mem::take(&mut self.paths);
        let found = paths.into_iter().map(|path| {
            let is_file = path != Path::new("-") && !is_pipe(&path);
            let first_ns = if is_file { look.at(&path).flatten() } else { None };
            Found { path, first_ns }
        });
        let found = found.collect();
        self.read(found);
    }

    /// Reads on; false at the end of all captures.
    fn read_on(&mut self, frames: usize) -> bool {
        let mut reading =
            Reading { rules: &self.rules, frames, spare: &mut self.spare, stop: &self.stop };
        let arrival = self.merge.next(&mut reading);
        let strays = std::mem::take(&mut self.merge.strays);
        self.window.note_strays(strays);
        if self.merge.stepped_back {
            self.one_clock_ns.get_or_insert(0);
        }
        let Some(Arrival { piece, begins_table }) = arrival else {
            self.window.settle();
            self.is_over = true;
            return false;
        };
        if self.merge.is_live {
            self.window.pass(piece.batch);
        } else if begins_table {
            self.window.settle();
            self.next_table = Some(piece);
        } else {
            self.window.push(piece, &self.rules);
        }
        true
    }

    /// Begins a new flow table, once all before it has left.
    fn begin_table(&mut self) -> bool {
        let Some(piece) = self.next_table.take() else { return false };
        self.window.begin_anew();
        // Whatever was open ends as at the end of a capture.
        self.restart = Some(Restart { before_ns: u64::MAX, now_ns: piece.batch.ts_ns(0) });
        self.counts.tables.fetch_add(1, Ordering::Relaxed);
        self.window.push(piece, &self.rules);
        true
    }

    /// Says with frames that leave what is known of them.
    fn mark(&mut self, batch: &mut Batch) {
        if let Some(restart) = self.restart.take() {
            batch.restart_before(restart);
        }
        if let Some(now_ns) = &mut self.one_clock_ns {
            *now_ns = batch.follow_turns(*now_ns);
        }
        if self.merge.is_live {
            batch.come_live();
        }
        let (counts, found) = (&self.counts, batch.order());
        counts.out_of_order.fetch_add(found.out_of_order, Ordering::Relaxed);
        counts.strays.fetch_add(found.stray_timestamps, Ordering::Relaxed);
        self.count();
    }

    /// A pipe that was ended from here is not damaged where its writer would have gone on.
    fn forgive(&mut self) {
        if self.stop.load(Ordering::Relaxed) {
            self.merge.errors.retain(|error| {
                let is_cut =
                    matches!(error, SourceError::Truncated { .. } | SourceError::Empty { .. });
                !(is_cut && is_pipe(error.path()))
            });
        }
    }

    fn count(&self) {
        let merged = self.merge.merged;
        self.counts.captures.store(merged.captures, Ordering::Relaxed);
        self.counts.overlapping.store(merged.overlapping, Ordering::Relaxed);
        self.counts.tables.fetch_max(1, Ordering::Relaxed);
        self.counts.is_live.store(self.merge.is_live.into(), Ordering::Relaxed);
    }
}

impl Source for FileSource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        self.look();
        let frames = max_frames.max(1);
        loop {
            let mut reading =
                Reading { rules: &self.rules, frames, spare: &mut self.spare, stop: &self.stop };
            if self.window.pop(batch, &mut reading) {
                self.mark(batch);
                return Ok(batch.len());
            }
            if self.window.is_empty() && self.begin_table() {
                continue;
            }
            if self.is_over || !self.read_on(frames) {
                if !self.window.is_empty() {
                    continue;
                }
                self.count();
                self.forgive();
                return self.merge.errors.pop_front().map_or(Ok(0), Err);
            }
        }
    }

    fn name(&self) -> &str {
        &self.merge.name
    }
}
