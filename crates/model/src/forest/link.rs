//! From sums to scores: softmax or logistic for boosted forests, the mean for averaged ones.
//!
//! Every scorer ends here, and does the same operations in the same order for each row, be it alone
//! or beside others in a vector: equal sums are equal scores. The exponential is our own, since
//! that of the system is neither the same everywhere nor fast enough: it cost more than the trees
//! of a small forest.

use super::{Forest, ForestKind, Link};
use serveflow_core::rows::Scores;

/// Rows that are finished side by side: enough that no exponential waits for the one before.
const LANES: usize = 16;

/// How sums become scores.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finish {
    /// The softmax of the sums.
    Softmax,
    /// The logistic function of each sum.
    Logistic,
    /// The sums over the number of trees.
    Mean(f64),
}

impl Finish {
    /// What the forest calls for.
    pub(super) fn of(forest: &Forest) -> Self {
        match forest.kind() {
            ForestKind::Boosted { link: Link::Softmax, .. } => Self::Softmax,
            ForestKind::Boosted { link: Link::Logistic, .. } => Self::Logistic,
            ForestKind::Averaged => Self::Mean(forest.trees().len() as f64),
        }
    }

    /// The scores of one row.
    #[inline(always)]
    pub(super) fn row(self, sums: &mut [f64], out: &mut [f32]) {
        let whole = match self {
            Self::Mean(trees) => trees,
            Self::Logistic => {
                sums.iter_mut().for_each(|sum| *sum = logistic(*sum));
                1.0
            }
            Self::Softmax => {
                let top = sums.iter().fold(f64::NEG_INFINITY, |top, sum| larger(top, *sum));
                sums.iter_mut().for_each(|sum| *sum = exp(*sum - top));
                sums.iter().fold(0.0, |whole, sum| whole + sum)
            }
        };
        out.iter_mut().zip(sums).for_each(|(score, sum)| *score = (*sum / whole) as f32);
    }

    /// The scores of `len` rows from row `start` on, whose sums stand class by class, each class
    /// `stride` apart.
    #[inline(always)]
    pub(super) fn planes(
        self,
        sums: &mut [f64],
        stride: usize,
        len: usize,
        scores: &mut Scores,
        start: usize,
    ) {
        for first in (0..len).step_by(LANES) {
            let mut whole = [0.0; LANES];
            match self {
                Self::Mean(trees) => whole = [trees; LANES],
                Self::Logistic => {
                    whole = [1.0; LANES];
                    for sums in sums.chunks_exact_mut(stride) {
                        let sums = &mut sums[first..first + LANES];
                        sums.iter_mut().for_each(|sum| *sum = logistic(*sum));
                    }
                }
                Self::Softmax => {
                    let mut top = [f64::NEG_INFINITY; LANES];
                    for sums in sums.chunks_exact(stride) {
                        let sums = &sums[first..first + LANES];
                        top.iter_mut().zip(sums).for_each(|(top, sum)| *top = larger(*top, *sum));
                    }
                    for sums in sums.chunks_exact_mut(stride) {
                        let sums = &mut sums[first..first + LANES];
                        for lane in 0..LANES {
                            sums[lane] = exp(sums[lane] - top[lane]);
                            whole[lane] += sums[lane];
                        }
                    }
                }
            }
            for sums in sums.chunks_exact_mut(stride) {
                let sums = &mut sums[first..first + LANES];
                sums.iter_mut().zip(whole).for_each(|(sum, whole)| *sum /= whole);
            }
            for row in first..len.min(first + LANES) {
                let out = scores.row_mut(start + row);
                out.iter_mut()
                    .zip(sums[row..].iter().step_by(stride))
                    .for_each(|(score, sum)| *score = *sum as f32);
            }
        }
    }
}

/// The larger of two numbers; unlike `f64::max` it is a single instruction.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// `1 / (1 + e^-x)`, of which the exponential is never large.
#[inline(always)]
fn logistic(x: f64) -> f64 {
    let small = exp(-x.abs());
    (if x < 0.0 { small } else { 1.0 }) / (1.0 + small)
}

/// `e` to the power of `x <= 0`, to 14 digits; below -700 it stays at `e^-700`.
///
/// `x = k ln 2 + r` with a whole `k` and `|r| <= ln 2 / 2`; the power series of `e^r` and a `k` put
/// into the exponent's bits. No fused multiply-add, so every machine has the same result.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding this rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = if x > -700.0 { x } else { -700.0 };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut series = 1.0 / 479_001_600.0;
    for factorial in [
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0f64,
    ] {
        series = series * r + 1.0 / factorial;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023) << 52;
    series * f64::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for step in 0..700_000 {
            let x = f64::from(step) * -0.001;
            let (found, expected) = (exp(x), x.exp());
            assert!((found / expected - 1.0).abs() < 1e-14, "{x}: {found} {expected}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e300) < 1e-300 && exp(f64::NEG_INFINITY) < 1e-300);
    }
}
