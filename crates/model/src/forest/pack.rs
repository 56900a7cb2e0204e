//! Packed rows: the words of a row, with each number's thresholds answered as bits behind them.
//!
//! From there on every test is a bit test. Where a forest asks no number, the row is packed as it
//! is.

use super::{Forest, Test};
use serveflow_core::rows::Rows;
use std::collections::BTreeMap;

/// Which thresholds each number is held against.
#[derive(Debug, Default)]
pub(super) struct Packing {
    words: usize,
    cuts: Vec<Cuts>,
    /// Words of a packed row.
    pub(super) width: usize,
}

/// The distinct thresholds of one number, rising, and the packed word where their bits start. What
/// is missing exceeds all of them or none.
#[derive(Debug)]
struct Cuts {
    index: u32,
    missing: bool,
    at: usize,
    thresholds: Vec<f32>,
}

/// Packed rows, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    rows: &'a Rows,
    start: usize,
    len: usize,
    /// Empty when the rows are packed as they are.
    copies: &'a [u32],
    width: usize,
}

impl Packing {
    pub(super) fn new(forest: &Forest) -> Self {
        let mut cuts = BTreeMap::<(u32, bool), Vec<f32>>::new();
        for node in forest.trees().iter().flat_map(|tree| &tree.nodes) {
            if let Test::Number { index, threshold, missing } = node.test {
                cuts.entry((index, missing)).or_default().push(threshold);
            }
        }
        let words = forest.shape().words;
        let mut width = words;
        let cuts = cuts.into_iter().map(|((index, missing), mut thresholds)| {
            thresholds.sort_unstable_by(f32::total_cmp);
            thresholds.dedup();
            let at = width;
            width += thresholds.len().div_ceil(32);
            Cuts { index, missing, at, thresholds }
        });
        let cuts = cuts.collect();
        // A packed row has a word, so that there is something to ask.
        Self { words, cuts, width: width.max(1) }
    }

    /// Position of a test in the packed row.
    pub(super) fn bit(&self, test: Test) -> u32 {
        let (key, threshold) = match test {
            Test::Bit(at) => return at.word * 32 + u32::from(at.bit),
            Test::Number { index, threshold, missing } => ((index, missing), threshold),
        };
        let found = self.cuts.binary_search_by_key(&key, |cuts| (cuts.index, cuts.missing));
        let cuts = &self.cuts[found.expect("every test of the forest was packed")];
        (cuts.at * 32 + cuts.thresholds.partition_point(|t| *t < threshold)) as u32
    }

    /// Packs `len` rows from row `start` on.
    #[inline]
    pub(super) fn pack<'a>(
        &self,
        rows: &'a Rows,
        start: usize,
        len: usize,
        copies: &'a mut Vec<u32>,
    ) -> Packed<'a> {
        copies.clear();
        if self.width != self.words || !self.cuts.is_empty() {
            for row in start..start + len {
                self.copy(rows.words(row), rows.numbers(row), copies);
            }
        }
        Packed { rows, start, len, copies, width: self.width }
    }

    /// Appends the packed row. The bits of a number are ones up to the thresholds that it exceeds.
    fn copy(&self, words: &[u32], numbers: &[f32], packed: &mut Vec<u32>) {
        packed.extend_from_slice(words);
        for cuts in &self.cuts {
            let value = numbers[cuts.index as usize];
            let exceeds = |t: &f32| value > *t || cuts.missing && value.is_nan();
            let mut ones = cuts.thresholds.partition_point(exceeds);
            for _ in 0..cuts.thresholds.len().div_ceil(32) {
                packed.push(if ones >= 32 { !0 } else { (1 << ones) - 1 });
                ones = ones.saturating_sub(32);
            }
        }
        if packed.is_empty() || self.width > self.words && self.cuts.is_empty() {
            packed.push(0);
        }
    }
}

impl<'a> Packed<'a> {
    /// Number of rows.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The words of a row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [u32] {
        if self.copies.is_empty() {
            self.rows.words(self.start + row)
        } else {
            &self.copies[row * self.width..(row + 1) * self.width]
        }
    }

    /// All rows in turn.
    #[inline(always)]
    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = &'a [u32]> + Clone {
        (0..self.len).map(move |row| self.row(row))
    }
}
