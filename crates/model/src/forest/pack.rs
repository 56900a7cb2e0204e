//! Packed rows: just the words that a forest reads, with each number's thresholds answered as bits.

use super::{Forest, Test};
use std::collections::BTreeMap;

/// Which words of a row are packed, and which thresholds each number is held against.
#[derive(Debug, Default)]
pub(super) struct Packing {
    words: Vec<u32>,
    cuts: Vec<Cuts>,
    /// Words of a packed row.
    pub(super) width: usize,
}

/// The distinct thresholds of one number, rising, and the packed word where their bits start.
#[derive(Debug)]
struct Cuts {
    index: u32,
    at: usize,
    thresholds: Vec<f32>,
}

impl Packing {
    pub(super) fn new(forest: &Forest) -> Self {
        let (mut words, mut cuts) = (Vec::new(), BTreeMap::<u32, Vec<f32>>::new());
        for node in forest.trees().iter().flat_map(|tree| &tree.nodes) {
            match node.test {
                Test::Bit(at) => words.push(at.word),
                Test::Number { index, threshold } => cuts.entry(index).or_default().push(threshold),
            }
        }
        words.sort_unstable();
        words.dedup();
        let mut width = 1 + words.len();
        let cuts = cuts.into_iter().map(|(index, mut thresholds)| {
            thresholds.sort_unstable_by(f32::total_cmp);
            thresholds.dedup();
            let at = width;
            width += thresholds.len().div_ceil(32);
            Cuts { index, at, thresholds }
        });
        let cuts = cuts.collect();
        Self { words, cuts, width }
    }

    /// Position of a test in the packed row.
    pub(super) fn bit(&self, test: Test) -> u32 {
        let found = match test {
            Test::Bit(at) => {
                self.words.binary_search(&at.word).map(|i| (1 + i) * 32 + at.bit as usize)
            }
            Test::Number { index, threshold } => {
                self.cuts.binary_search_by_key(&index, |cuts| cuts.index).map(|i| {
                    let cuts = &self.cuts[i];
                    cuts.at * 32 + cuts.thresholds.partition_point(|t| *t < threshold)
                })
            }
        };
        found.expect("every test of the forest was packed") as u32
    }

    /// Appends the packed row. The bits of a number are ones up to the thresholds that it exceeds.
    pub(super) fn pack(&self, words: &[u32], numbers: &[f32], packed: &mut Vec<u32>) {
        packed.push(0);
        packed.extend(self.words.iter().map(|word| words[*word as usize]));
        for cuts in &self.cuts {
            let value = numbers[cuts.index as usize];
            let mut ones = cuts.thresholds.partition_point(|t| value > *t);
            for _ in 0..cuts.thresholds.len().div_ceil(32) {
                packed.push(if ones >= 32 { !0 } else { (1 << ones) - 1 });
                ones = ones.saturating_sub(32);
            }
        }
    }
}
