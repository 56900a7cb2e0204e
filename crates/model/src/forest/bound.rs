//! The fast scorer: a forest laid out once, when it is loaded.
//!
//! There are two ways to score, and a thread does not mix them within a few rows:
//! [`super::traverse`] for few rows, [`super::bitslice`] for many. Which is cheaper depends on the
//! forest, on the number of rows and on the machine. [`BoundForest::tune`] measures it; without it
//! an estimate decides. Both ways add the same leaves in the same order, so the choice changes no
//! score.

use super::Forest;
use super::autotune::{Costs, Way};
use super::bitslice::{self, Slices};
use super::isa::{Level, Set, WORD, Work};
use super::pack::{Packed, Packing};
use super::traverse::{self, Walks};
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::cell::RefCell;

/// A forest laid out for scoring.
#[derive(Debug)]
pub struct BoundForest {
    shape: RowShape,
    classes: usize,
    packing: Packing,
    walks: Walks,
    slices: Option<Slices>,
    level: Level,
    costs: Costs,
}

/// Rows are made up to measure on as long as they take no more memory; wider ones go by the
/// estimate.
const MOST_MADE_UP_BYTES: usize = 64 << 20;

/// Memory that a thread keeps between calls.
#[derive(Default)]
struct Scratch {
    copies: Vec<u32>,
    walk: traverse::Buffers,
    slice: bitslice::Buffers,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl BoundForest {
    /// Lays a forest out.
    #[must_use]
    pub fn new(forest: &Forest) -> Self {
        let packing = Packing::new(forest);
        let walks = Walks::new(forest, &packing);
        let slices = Slices::new(forest, &packing);
        let mut costs = Costs::estimate(forest, walks.steps);
        if slices.is_none() {
            costs.narrow = f64::INFINITY;
            costs.wide = f64::INFINITY;
        }
        let (shape, classes) = (forest.shape(), forest.classes());
        let level = Level::Portable;
        Self { shape, classes, packing, walks, slices, level, costs }
            .at_level(Level::here().pop().unwrap_or(level))
    }

    /// The shape of the rows that it scores.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Uses this instruction set, or the best below it that the machine has.
    #[must_use]
    pub fn at_level(mut self, level: Level) -> Self {
        self.level = level;
        if let Some(slices) = &mut self.slices {
            slices.prepare(level);
        }
        self
    }

    /// Measures on made-up rows which way to score is the cheapest for each number of rows. `clock`
    /// counts nanoseconds. This takes as long as scoring a few thousand rows.
    pub fn tune(&mut self, clock: &mut dyn FnMut() -> u64) {
        let row_bytes = (self.shape.words + self.shape.numbers) * size_of::<u32>();
        if row_bytes > MOST_MADE_UP_BYTES / (WORD * bitslice::WIDE) {
            return;
        }
        let rows = super::autotune::made_up(self.shape, WORD * bitslice::WIDE);
        let mut scores = Scores::default();
        scores.reset(rows.len(), self.classes);
        let mut measured = self.costs;
        measured.measure(|way, len| {
            if self.slices.is_none() && !matches!(way, Way::Walk { .. }) {
                return f64::INFINITY;
            }
            let started = clock();
            self.score_by(way, &rows, 0, len, &mut scores);
            clock().saturating_sub(started) as f64
        });
        self.costs = measured;
    }

    /// Scores every row. Nothing is allocated once the thread and `scores` have seen a batch of
    /// this size.
    ///
    /// # Panics
    /// When the rows have another shape than the forest.
    pub fn score(&self, rows: &Rows, scores: &mut Scores) {
        assert_eq!(rows.shape(), self.shape, "rows of the forest's shape");
        scores.reset(rows.len(), self.classes);
        let mut start = 0;
        while start < rows.len() {
            let (way, len) = self.costs.way(rows.len() - start);
            self.score_by(way, rows, start, len, scores);
            start += len;
        }
    }

    /// Scores rows in one way.
    pub(super) fn score_by(
        &self,
        way: Way,
        rows: &Rows,
        start: usize,
        len: usize,
        scores: &mut Scores,
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { copies, walk, slice } = scratch;
            let rows = self.packing.pack(rows, start, len, copies);
            self.level.run(Scoring { forest: self, way, rows, walk, slice, scores, start });
        });
    }
}

/// Rows to be scored in one way.
struct Scoring<'a> {
    forest: &'a BoundForest,
    way: Way,
    rows: Packed<'a>,
    walk: &'a mut traverse::Buffers,
    slice: &'a mut bitslice::Buffers,
    scores: &'a mut Scores,
    start: usize,
}

impl Work for Scoring<'_> {
    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let Self { forest, way, rows, walk, slice, scores, start } = self;
        match (way, &forest.slices) {
            (Way::Narrow, Some(slices)) => slices.narrow(set, rows.iter(), slice, scores, start),
            (Way::Wide, Some(slices)) => slices.wide(set, rows.iter(), slice, scores, start),
            (Way::Walk { spread: true }, _) => {
                forest.walks.run(set, rows, true, walk, scores, start);
            }
            _ => forest.walks.run(set, rows, false, walk, scores, start),
        }
    }
}

impl Model for BoundForest {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        BoundForest::score(self, rows, scores);
        Ok(())
    }
}
