//! The best split of columns that are drawn at a node, as a random forest wants it.
//!
//! The planes of one column are nested: a row that passes a cut of a number passes all lower ones.
//! So a row's place in a column is the count of planes that it passes, one pass over the rows sums
//! up the classes at each place, and the sums above a place are the right side of its cut.

use super::counts::CountTask;
use super::search::{Split, Whole};
use crate::random::Random;
use crate::trees::BitMatrix;
use std::ops::Range;

/// Draws columns at each node.
pub(in crate::trees) struct ColumnSample {
    /// Columns to draw.
    pub(in crate::trees) columns: usize,
    /// Where they are drawn from.
    pub(in crate::trees) random: Random,
}

/// Memory for drawing, kept from node to node.
pub(super) struct Draw {
    /// All columns, in an order that drawing shuffles.
    sources: Vec<usize>,
    /// Rows at each place of a column.
    rows: Vec<u64>,
    /// Class weights at each place of a column.
    weights: Vec<f64>,
}

impl Draw {
    pub(super) fn new(matrix: &BitMatrix) -> Self {
        let sources = (0..matrix.sources().len()).collect();
        Self { sources, rows: Vec::new(), weights: Vec::new() }
    }

    /// Draws, and goes on until there is a split or no column is left.
    pub(super) fn best(
        &mut self,
        ledger: CountTask<'_>,
        rows: &[u32],
        whole: &Whole<'_>,
        sample: &mut ColumnSample,
    ) -> Option<Split> {
        let mut best = None;
        for at in 0..self.sources.len() {
            if at >= sample.columns && best.is_some() {
                break;
            }
            sample.random.choose(&mut self.sources[at..], 1);
            let planes = ledger.matrix.sources()[self.sources[at]].clone();
            self.count(ledger, rows, &planes);
            best = self.best_cut(ledger.classes, whole, planes, best);
        }
        best
    }

    /// Sums up rows and classes at each place of a column.
    fn count(&mut self, ledger: CountTask<'_>, rows: &[u32], planes: &Range<usize>) {
        let places = planes.len() + 1;
        self.rows.clear();
        self.rows.resize(places, 0);
        self.weights.clear();
        self.weights.resize(places * ledger.classes, 0.0);
        let lone = ledger.matrix.plane(planes.start);
        for &row in rows {
            let place = if planes.len() == 1 {
                (lone[row as usize / 64] >> (row % 64) & 1) as usize
            } else {
                passed(ledger.matrix.row(row as usize), planes)
            };
            let label = ledger.labels[row as usize];
            self.rows[place] += 1;
            self.weights[place * ledger.classes + usize::from(label)] +=
                ledger.weighing.of(row, label);
        }
    }

    /// Holds the cuts of a column against the best split so far, from the highest down.
    fn best_cut(
        &mut self,
        classes: usize,
        whole: &Whole<'_>,
        planes: Range<usize>,
        mut best: Option<Split>,
    ) -> Option<Split> {
        let mut passed = 0;
        for (place, plane) in (1..planes.len() + 1).zip(planes.clone()).rev() {
            if place < planes.len() {
                let (here, above) = self.weights[place * classes..].split_at_mut(classes);
                here.iter_mut().zip(above).for_each(|(here, above)| *here += *above);
            }
            passed += self.rows[place];
            // An empty place parts the rows as the cut above does; the lower plane has the tie.
            if self.rows[place - 1] == 0 && place > 1 {
                continue;
            }
            let right = &self.weights[place * classes..(place + 1) * classes];
            if let Some(gain) = whole.gain(passed, |class| right[class]) {
                best = Split::better(best, Split { plane, gain });
            }
        }
        best
    }
}

/// How many of some neighbouring planes a row passes.
fn passed(row: &[u64], planes: &Range<usize>) -> usize {
    let words = planes.start / 64..planes.end.div_ceil(64);
    let ones = words.map(|word| {
        let from = planes.start.saturating_sub(word * 64);
        let to = (planes.end - word * 64).min(64);
        (row[word] & (!0 >> (64 - to)) & (!0 << from)).count_ones() as usize
    });
    ones.sum()
}
