//! Gradients and hessians in a few bits each.
//!
//! A row's bits make one small integer: bit 0 says that the row is in the bag, then come the bits
//! of the gradient, raised by half of its range so that it is not negative, then those of the
//! hessian. Rounding goes up with a chance equal to the fraction that is cut off, so a sum over
//! many rows is right on average.

use crate::random;
use crate::trees::kernel::{Work, wide};
use serveflow_model::forest::transpose::transpose;

/// Widths of the two integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub(super) gradient: u32,
    pub(super) hessian: u32,
}

impl Bits {
    /// Bits of a row: the bag's, the gradient's, the hessian's.
    pub(super) fn total(self) -> usize {
        (1 + self.gradient + self.hessian) as usize
    }

    /// What a raised gradient of zero is.
    pub(super) fn offset(self) -> u64 {
        1 << (self.gradient - 1)
    }
}

/// The gradients and hessians of one tree, quantised.
#[derive(Debug, Default)]
pub(super) struct Quantised {
    /// The bits of each row; 0 out of the bag.
    pub(super) rows: Vec<u32>,
    /// The same as planes over all rows, one after the other.
    pub(super) planes: Vec<u64>,
    /// What a gradient of 1 stands for.
    pub(super) gradient_unit: f64,
    /// What a hessian of 1 stands for.
    pub(super) hessian_unit: f64,
}

impl Quantised {
    /// Quantises; `bag` none means that all rows are in it.
    pub(super) fn fill(
        &mut self,
        gradients: &[f32],
        hessians: &[f32],
        bag: Option<&[bool]>,
        bits: Bits,
        seed: u64,
    ) {
        let top = |values: &[f32]| values.iter().fold(0.0f32, |top, v| top.max(v.abs()));
        let (top_gradient, top_hessian) = (top(gradients), top(hessians));
        let gradient_range = (bits.offset() - 1).max(1) as f32;
        let hessian_range = ((1u32 << bits.hessian) - 1) as f32;
        self.gradient_unit = f64::from(top_gradient) / f64::from(gradient_range);
        self.hessian_unit = f64::from(top_hessian) / f64::from(hessian_range);
        self.rows.clear();
        self.rows.resize(gradients.len(), 0);
        wide(Round {
            rows: &mut self.rows,
            gradients,
            hessians,
            gradient_scale: scale(gradient_range, top_gradient),
            hessian_scale: scale(hessian_range, top_hessian),
            bits,
            seed,
        });
        if let Some(bag) = bag {
            self.rows.iter_mut().zip(bag).for_each(|(row, in_bag)| *row *= u32::from(*in_bag));
        }
        let words = self.rows.len().div_ceil(64);
        self.planes.clear();
        self.planes.resize(bits.total() * words, 0);
        wide(Slice { rows: &self.rows, planes: &mut self.planes, words });
    }
}

/// Factor from values to integers; the reciprocal of a vanishing top would not be finite.
fn scale(range: f32, top: f32) -> f32 {
    let scale = range / top;
    if scale.is_finite() { scale } else { 0.0 }
}

/// Rounds every row.
struct Round<'a> {
    rows: &'a mut [u32],
    gradients: &'a [f32],
    hessians: &'a [f32],
    gradient_scale: f32,
    hessian_scale: f32,
    bits: Bits,
    seed: u64,
}

impl Work for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // A fraction of 24 bits is a float below 1; the raised gradient is positive, so that
        // cutting off is rounding down.
        let fraction = |bits: u64| (bits & 0xff_ffff) as u32 as f32 * (1.0 / 16_777_216.0);
        let offset = self.bits.offset() as f32;
        let (most_gradient, most_hessian) =
            ((1i32 << self.bits.gradient) - 1, (1i32 << self.bits.hessian) - 1);
        let values = self.gradients.iter().zip(self.hessians);
        for (at, (row, (g, h))) in self.rows.iter_mut().zip(values).enumerate() {
            let random = random::at(self.seed, at as u64);
            let g = (g * self.gradient_scale + fraction(random)).floor() + offset;
            let h = h * self.hessian_scale + fraction(random >> 32);
            let g = (g as i32).clamp(0, most_gradient) as u32;
            let h = (h as i32).clamp(0, most_hessian) as u32;
            *row = 1 | g << 1 | h << (1 + self.bits.gradient);
        }
    }
}

/// Turns the bits of rows into planes.
struct Slice<'a> {
    rows: &'a [u32],
    planes: &'a mut [u64],
    words: usize,
}

impl Work for Slice<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (block, rows) in self.rows.chunks(64).enumerate() {
            let mut tile = [0; 64];
            tile.iter_mut().zip(rows).for_each(|(to, row)| *to = u64::from(*row));
            transpose(&mut tile);
            for (plane, bits) in self.planes.chunks_exact_mut(self.words).zip(&tile) {
                plane[block] = *bits;
            }
        }
    }
}
