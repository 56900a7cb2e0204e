//! Which way to score is the cheapest: an estimate, and a measurement that replaces it.

use super::Forest;
use super::bitslice::WIDE;
use super::isa::WORD;
use serveflow_core::rows::{RowShape, Rows};

/// Rows that are walked at once, so that packed rows stay in the cache.
const WALKED: usize = 64;
/// Rows that are walked to find out what it costs.
const SAMPLE: usize = 32;
/// Times that each way is measured; the fastest counts, since other work only adds.
const ROUNDS: usize = 5;

/// A way to score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// Row by row.
    Walk {
        /// With bits spread to bytes.
        spread: bool,
    },
    /// Up to 64 rows at once.
    Narrow,
    /// Up to 512 rows at once.
    Wide,
}

/// What each way costs, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// A row walked.
    pub(super) walk: f64,
    /// Whether walking is cheaper with bits spread to bytes.
    pub(super) spread: bool,
    /// Up to 64 rows at once.
    pub(super) narrow: f64,
    /// 512 rows at once.
    pub(super) wide: f64,
}

impl Costs {
    /// A guess from the forest's size; `steps` is how many a walk of all trees takes.
    pub(super) fn estimate(forest: &Forest, steps: usize) -> Self {
        let words = forest.shape().words as f64;
        let nodes: usize = forest.trees().iter().map(|tree| tree.nodes.len()).sum();
        let lookups = (forest.trees().len() * forest.width()) as f64;
        let spread = forest.trees().len() * 4 > forest.shape().words;
        let walk = 30.0 + 0.8 * steps as f64 + if spread { words } else { 0.0 };
        let narrow = 60.0 * words + 2.0 * nodes as f64 + 40.0 * lookups;
        let wide = 8.0 * (60.0 * words + 0.4 * nodes as f64 + 20.0 * lookups);
        Self { walk, spread, narrow, wide }
    }

    /// Measures each way; `time` scores so many rows in a way and says how long it took.
    pub(super) fn measure(&mut self, mut time: impl FnMut(Way, usize) -> f64) {
        let mut fastest = |way, len| {
            // The first time also brings code and data into the caches.
            time(way, len);
            (0..ROUNDS).map(|_| time(way, len)).fold(f64::INFINITY, f64::min)
        };
        let [bits, bytes] =
            [false, true].map(|spread| fastest(Way::Walk { spread }, SAMPLE) / SAMPLE as f64);
        self.spread = bytes < bits;
        self.walk = bits.min(bytes);
        self.narrow = fastest(Way::Narrow, WORD);
        self.wide = fastest(Way::Wide, WORD * WIDE);
    }

    /// The way to score the next of `left` rows, and how many of them.
    pub(super) fn way(&self, left: usize) -> (Way, usize) {
        let words = left.div_ceil(WORD).min(WIDE) as f64;
        let rows = left.min(WORD * WIDE);
        let piecewise = (self.narrow * words).min(self.walk * rows as f64);
        // Transposing, adding and finishing are left out for rows that are not there, but steps are
        // not.
        if self.wide * (0.25 + 0.75 * words / WIDE as f64) < piecewise {
            return (Way::Wide, rows);
        }
        let rows = left.min(WORD);
        if self.narrow < self.walk * rows as f64 {
            return (Way::Narrow, rows);
        }
        (Way::Walk { spread: self.spread }, left.min(WALKED))
    }
}

/// Rows of noise, always the same.
pub(super) fn made_up(shape: RowShape, len: usize) -> Rows {
    let mut rows = Rows::with_capacity(shape, len);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    for _ in 0..len {
        let (words, numbers) = rows.push();
        words.iter_mut().for_each(|word| *word = next());
        numbers.iter_mut().for_each(|number| *number = (next() % 2048) as f32);
    }
    rows
}
