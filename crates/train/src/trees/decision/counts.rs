//! For every plane, the weight of each class among the rows of a node that pass it.

use crate::trees::BitMatrix;
use crate::trees::kernel::{Work, count, gather, wide};

/// Counts of a node: rows and class weights on the right side of every plane.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Rows that pass, by plane.
    pub(super) rows: Vec<u64>,
    /// Weight that passes, at `(plane / 64 * classes + class) * 64 + plane % 64`.
    weights: Vec<f64>,
}

/// How rows weigh.
pub(super) enum Weighing {
    /// All rows of a class weigh the same: count bits, then multiply.
    ByClass(Vec<f64>),
    /// Each row has its own weight: add them up, row by row.
    ByRow(Vec<f64>),
}

impl Weighing {
    /// Weight of a row.
    pub(super) fn of(&self, row: u32, label: u16) -> f64 {
        match self {
            Self::ByClass(weights) => weights[usize::from(label)],
            Self::ByRow(weights) => weights[row as usize],
        }
    }
}

/// What counting needs to know.
#[derive(Clone, Copy)]
pub(super) struct CountTask<'a> {
    pub(super) matrix: &'a BitMatrix,
    pub(super) labels: &'a [u16],
    pub(super) classes: usize,
    pub(super) weighing: &'a Weighing,
}

impl Counts {
    /// Counts `rows`, which are sorted by class.
    pub(super) fn fill(&mut self, ledger: CountTask<'_>, rows: &[u32]) {
        let planes = ledger.matrix.width() * 64;
        self.rows.clear();
        self.rows.resize(planes, 0);
        self.weights.clear();
        self.weights.resize(planes * ledger.classes, 0.0);
        match ledger.weighing {
            Weighing::ByClass(weights) => wide(Sliced { counts: self, ledger, weights, rows }),
            Weighing::ByRow(weights) => self.add_rows(ledger, weights, rows),
        }
    }

    /// Turns the counts of a parent into those of the child that `sibling` is not.
    pub(super) fn subtract(&mut self, sibling: &Self) {
        self.rows.iter_mut().zip(&sibling.rows).for_each(|(a, b)| *a -= b);
        self.weights.iter_mut().zip(&sibling.weights).for_each(|(a, b)| *a -= b);
    }

    /// Weight of `class` that passes `plane`.
    pub(super) fn weight(&self, classes: usize, plane: usize, class: usize) -> f64 {
        self.weights[(plane / 64 * classes + class) * 64 + plane % 64]
    }

    fn add_rows(&mut self, ledger: CountTask<'_>, weights: &[f64], rows: &[u32]) {
        for &row in rows {
            let class = usize::from(ledger.labels[row as usize]);
            let weight = weights[row as usize];
            for (word, &bits) in ledger.matrix.row(row as usize).iter().enumerate() {
                let mut bits = bits;
                while bits != 0 {
                    let bit = bits.trailing_zeros() as usize;
                    self.rows[word * 64 + bit] += 1;
                    self.weights[(word * ledger.classes + class) * 64 + bit] += weight;
                    bits &= bits - 1;
                }
            }
        }
    }
}

/// Sixty-four rows at a time: turn them into columns, then count the bits of each class's run.
struct Sliced<'a> {
    counts: &'a mut Counts,
    ledger: CountTask<'a>,
    weights: &'a [f64],
    rows: &'a [u32],
}

impl Work for Sliced<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let CountTask { matrix, labels, classes, .. } = self.ledger;
        let (width, by_row) = (matrix.width(), matrix.by_row());
        let mut runs = Vec::with_capacity(64);
        for rows in self.rows.chunks(64) {
            let mut bases = [0; 64];
            runs.clear();
            for (at, &row) in rows.iter().enumerate() {
                bases[at] = row as usize * width;
                let class = usize::from(labels[row as usize]);
                match runs.last_mut() {
                    Some((last, mask)) if *last == class => *mask |= 1 << at,
                    _ => runs.push((class, 1u64 << at)),
                }
            }
            for word in 0..width {
                let tile = gather(by_row, &bases, word);
                let all: &mut [u64] = &mut self.counts.rows[word * 64..word * 64 + 64];
                for (class, mask) in &runs {
                    let mut sums = [0; 64];
                    count(&mut sums, &tile, &[*mask]);
                    let start = (word * classes + class) * 64;
                    let to = &mut self.counts.weights[start..start + 64];
                    for ((to, all), sum) in to.iter_mut().zip(all.iter_mut()).zip(sums) {
                        *to += sum as f64 * self.weights[*class];
                        *all += sum;
                    }
                }
            }
        }
    }
}
