//! How good a split is.

use super::Criterion;

/// A split that may be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::trees) struct Split {
    /// The plane that it asks.
    pub(in crate::trees) plane: usize,
    /// What it lessens of the criterion, times the node's weight.
    pub(in crate::trees) gain: f64,
}

impl Split {
    /// The better of two splits: more gain, else the lower plane.
    pub(in crate::trees) fn better(best: Option<Self>, other: Self) -> Option<Self> {
        match best {
            Some(best)
                if best.gain > other.gain
                    || best.gain == other.gain && best.plane < other.plane =>
            {
                Some(best)
            }
            _ => Some(other),
        }
    }
}

/// How pure weights are: a sum that rises as a node is split well. Times weight, without the part
/// that no split changes.
pub(super) fn purity(criterion: Criterion, weights: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut sum) = (0.0, 0.0);
    for weight in weights.filter(|weight| *weight > 0.0) {
        total += weight;
        sum += match criterion {
            Criterion::Gini => weight * weight,
            Criterion::Entropy => weight * weight.ln(),
        };
    }
    match criterion {
        _ if total <= 0.0 => 0.0,
        Criterion::Gini => sum / total,
        Criterion::Entropy => sum - total * total.ln(),
    }
}

/// What a node is before a split.
pub(super) struct Whole<'a> {
    pub(super) criterion: Criterion,
    pub(super) min_leaf: u64,
    pub(super) rows: u64,
    pub(super) weights: &'a [f64],
    pub(super) purity: f64,
}

impl Whole<'_> {
    /// Gain of a split that leads `rows` with class `weights` right; none where a side is too
    /// small.
    pub(super) fn gain(&self, rows: u64, weights: impl Fn(usize) -> f64) -> Option<f64> {
        let least = self.min_leaf.max(1);
        if rows < least || self.rows - rows < least {
            return None;
        }
        let classes = 0..self.weights.len();
        let right = purity(self.criterion, classes.clone().map(&weights));
        let left = purity(self.criterion, classes.map(|k| self.weights[k] - weights(k)));
        Some(left + right - self.purity)
    }
}
