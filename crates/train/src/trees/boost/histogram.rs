//! For every plane of the matrix, sums over the rows of a node that pass it.

use super::quantise::{Bits, Quantised};
use crate::trees::BitMatrix;
use crate::trees::kernel::{Work, common, count, gather, wide};
use serveflow_model::forest::transpose::transpose;

/// Rows, raised gradients and hessians: summed, in units of the quantised values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) gradient: u64,
    pub(super) hessian: u64,
}

impl Sums {
    /// The sums without the rows of `part`.
    pub(super) fn without(self, part: Self) -> Self {
        Self {
            rows: self.rows - part.rows,
            gradient: self.gradient - part.gradient,
            hessian: self.hessian - part.hessian,
        }
    }
}

/// The sums of a node: over all its rows, and over those that pass each plane.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) whole: Sums,
    pub(super) rows: Vec<u64>,
    pub(super) gradients: Vec<u64>,
    pub(super) hessians: Vec<u64>,
}

impl Histogram {
    fn clear(&mut self, planes: usize) {
        self.whole = Sums::default();
        for sums in [&mut self.rows, &mut self.gradients, &mut self.hessians] {
            sums.clear();
            sums.resize(planes, 0);
        }
    }

    /// Sums over all rows that are in the bag: the root's.
    pub(super) fn fill_all(&mut self, matrix: &BitMatrix, values: &Quantised, bits: Bits) {
        self.clear(matrix.width() * 64);
        wide(All { histogram: self, matrix, planes: &values.planes, bits });
    }

    /// Sums over some rows.
    pub(super) fn fill(
        &mut self,
        matrix: &BitMatrix,
        values: &Quantised,
        bits: Bits,
        rows: &[u32],
    ) {
        self.clear(matrix.width() * 64);
        wide(Gathered { histogram: self, matrix, values: &values.rows, bits, rows });
    }

    /// Turns the sums of a parent into those of the child that `sibling` is not.
    pub(super) fn subtract(&mut self, sibling: &Self) {
        self.whole = self.whole.without(sibling.whole);
        let pairs = [
            (&mut self.rows, &sibling.rows),
            (&mut self.gradients, &sibling.gradients),
            (&mut self.hessians, &sibling.hessians),
        ];
        for (sums, others) in pairs {
            sums.iter_mut().zip(others).for_each(|(a, b)| *a -= b);
        }
    }
}

/// Words of a plane that are held against all columns before the next ones are.
const STRIPE: usize = 256;

/// Counts what columns have in common with the planes of all rows.
struct All<'a> {
    histogram: &'a mut Histogram,
    matrix: &'a BitMatrix,
    planes: &'a [u64],
    bits: Bits,
}

impl Work for All<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (histogram, bits) = (self.histogram, self.bits);
        let words = self.matrix.rows().div_ceil(64);
        let split = 1 + bits.gradient as usize;
        for start in (0..words).step_by(STRIPE) {
            let stripe = start..words.min(start + STRIPE);
            for column in 0..self.matrix.tests().len() {
                let column_bits = &self.matrix.plane(column)[stripe.clone()];
                for (p, plane) in self.planes.chunks_exact(words).enumerate() {
                    let sum = common(column_bits, &plane[stripe.clone()]);
                    match p {
                        0 => histogram.rows[column] += sum,
                        _ if p < split => histogram.gradients[column] += sum << (p - 1),
                        _ => histogram.hessians[column] += sum << (p - split),
                    }
                }
            }
        }
        for (p, plane) in self.planes.chunks_exact(words).enumerate() {
            let sum = plane.iter().map(|word| u64::from(word.count_ones())).sum();
            add(&mut histogram.whole, p, split, sum);
        }
    }
}

/// Adds a count of plane `p` to the sums.
#[inline(always)]
fn add(whole: &mut Sums, p: usize, split: usize, sum: u64) {
    match p {
        0 => whole.rows += sum,
        _ if p < split => whole.gradient += sum << (p - 1),
        _ => whole.hessian += sum << (p - split),
    }
}

/// Sixty-four rows at a time: turn their bits and their values into columns, then count.
struct Gathered<'a> {
    histogram: &'a mut Histogram,
    matrix: &'a BitMatrix,
    values: &'a [u32],
    bits: Bits,
    rows: &'a [u32],
}

impl Work for Gathered<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (histogram, bits) = (self.histogram, self.bits);
        let (width, by_row) = (self.matrix.width(), self.matrix.by_row());
        let split = 1 + bits.gradient as usize;
        for rows in self.rows.chunks(64) {
            // Rows that fill up the last block have no value, so no plane counts them.
            let (mut bases, mut planes) = ([0; 64], [0; 64]);
            for (at, &row) in rows.iter().enumerate() {
                bases[at] = row as usize * width;
                planes[at] = u64::from(self.values[row as usize]);
            }
            transpose(&mut planes);
            for (p, plane) in planes.iter().enumerate().take(bits.total()) {
                add(&mut histogram.whole, p, split, u64::from(plane.count_ones()));
            }
            let all = histogram.rows.chunks_exact_mut(64);
            let gradients = histogram.gradients.chunks_exact_mut(64);
            let hessians = histogram.hessians.chunks_exact_mut(64);
            for (word, ((all, gradients), hessians)) in all.zip(gradients).zip(hessians).enumerate()
            {
                let tile = gather(by_row, &bases, word);
                count(all, &tile, &planes[..1]);
                count(gradients, &tile, &planes[1..split]);
                count(hessians, &tile, &planes[split..bits.total()]);
            }
        }
    }
}
