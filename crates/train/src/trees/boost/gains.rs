//! What each split of a node would gain.

use super::BoostParams;
use super::histogram::{Histogram, Sums};
use crate::trees::kernel::Work;

/// Keeps a leaf without hessian from a division by zero.
pub(super) const TINY: f64 = 1e-15;

/// What a node is before a split, and what a split must keep to.
pub(super) struct Judge<'a> {
    pub(super) whole: Sums,
    pub(super) params: &'a BoostParams,
    pub(super) offset: f64,
    pub(super) gradient_unit: f64,
    pub(super) hessian_unit: f64,
}

impl Judge<'_> {
    /// The gradient and hessian that sums stand for.
    #[inline(always)]
    fn real(&self, sums: Sums) -> (f64, f64) {
        let gradient = sums.gradient as f64 - self.offset * sums.rows as f64;
        (gradient * self.gradient_unit, sums.hessian as f64 * self.hessian_unit)
    }

    /// What rows add to the loss that is taken away, were they a leaf.
    #[inline(always)]
    fn worth(&self, (gradient, hessian): (f64, f64)) -> f64 {
        gradient * gradient / (hessian + self.params.l2 + TINY)
    }
}

/// Computes the gain of every plane; 0 where it may not be asked.
pub(super) struct Gains<'a> {
    pub(super) gains: &'a mut [f64],
    pub(super) histogram: &'a Histogram,
    pub(super) drawn: &'a [bool],
    pub(super) judge: Judge<'a>,
}

impl Work for Gains<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (judge, whole) = (&self.judge, self.judge.whole);
        let least = judge.params.min_leaf as u64;
        let min_hessian = judge.params.min_hessian;
        let before = judge.worth(judge.real(whole)) + judge.params.min_gain;
        let sums = self.histogram.rows.iter().zip(&self.histogram.gradients);
        let sums = sums.zip(&self.histogram.hessians).zip(self.drawn);
        for (gain, (((&rows, &gradient), &hessian), &drawn)) in self.gains.iter_mut().zip(sums) {
            let right = Sums { rows, gradient, hessian };
            let left = whole.without(right);
            let (a, b) = (judge.real(left), judge.real(right));
            let fits = drawn & (left.rows >= least) & (right.rows >= least);
            let fits = fits & (a.1 >= min_hessian) & (b.1 >= min_hessian);
            let found = judge.worth(a) + judge.worth(b) - before;
            *gain = if fits { found } else { 0.0 };
        }
    }
}
