//! The test of a loss of macro-F1: simultaneous bounds on the loss of every class.
//!
//! **One class.** With chances `pos` (the class is true), `pred_s`, `pred_k` (slow stage, cascade
//! answer it) and `tp_s`, `tp_k` (rightly), F1 is `2 tp / (pos + pred)`. Multiplying
//! `F1_s - F1_k <= a` by `pos + pred_k > 0` gives `(F1_s - a) (pos + pred_k) - 2 tp_k <= 0`, and
//! with `F1_s pos = 2 tp_s - F1_s pred_s`:
//!
//! `2 (tp_s - tp_k) + F1_s (pred_k - pred_s) - a (pos + pred_k) <= 0`.
//!
//! For a fixed `f = F1_s` the left side is the mean of a variable `Z` of single flows that takes
//! at most eight values, by whether the class is true, answered by the slow stage, by the cascade;
//! none is over `2 - f - a`. Were the loss over `a`, the mean of `Z` would be over 0, so that for
//! each bet `b` in `[0, 1 / (2 - f - a)]` the wealth `prod (1 - b Z)` has a mean of at most 1, and
//! so has an average over bets fixed beforehand: by Markov it exceeds `1 / level` with a
//! probability of at most `level` (Waudby-Smith and Ramdas 2020; the average over bets instead of
//! a learned bet makes the answer the same for every order of the flows).
//!
//! **The unknown `f`.** `F1_s = 2 J / (1 + J)` with `J` the chance of a right answer among flows
//! where the class is true or answered by the slow stage, so Clopper and Pearson bound it exactly,
//! at a tenth of the class's level. The bound depends on the flows, so the wealth must be high for
//! every `f` inside: `ln (1 - b Z)` is concave in `f`, which is why each bet's wealth is lowest at
//! one of the two ends; the lower of both is counted, bet by bet, and bets too high for the lower
//! end count nothing.
//!
//! **All classes.** Wealth grows with `a`, so the smallest `a` that is refuted is an upper bound
//! `U` of the class's loss. At a level of `level / classes` each, all bounds hold together with a
//! probability of at least `1 - level`, and then the mean of the losses is at most the mean of the
//! bounds. No allotment of the tolerance to the classes has to be fixed beforehand: the bounds
//! hold together, so each class takes what it needs. (Classes where the cascade gains may have a
//! bound below 0.)
//!
//! **What is guaranteed** is the mean over the classes that are true for some calibration flow. For
//! a population in which these and no others occur, as truth or answer, this is the macro-F1 of
//! [`Confusion`](crate::metrics::Confusion). Of a class that is absent from the calibration flows
//! nothing is guaranteed, nor of how many such classes enter the mean because they are answered.

use super::binomial::{bisect, lower, upper};

/// Share of a class's level spent on the slow stage's F1, both sides together.
const SPENT: f64 = 0.1;
/// Bets: 1 and its halvings.
const BETS: i32 = 9;

/// How often each pattern of (true, slow stage's, cascade's) occurs for a class; bits 0, 1, 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassCounts(pub(super) [u32; 8]);

/// `Z` of a pattern for the slow stage's F1 `f` and the loss `a`.
pub(super) fn value(pattern: usize, f: f64, a: f64) -> f64 {
    let bit = |at: usize| (pattern >> at & 1) as f64;
    let (truth, slow, cascade) = (bit(0), bit(1), bit(2));
    2.0 * truth * (slow - cascade) + f * (cascade - slow) - a * (truth + cascade)
}

impl ClassCounts {
    /// Whether some flow is of the class.
    pub(super) fn present(&self) -> bool {
        self.sum(|pattern| pattern & 1 == 1) > 0
    }

    fn sum(&self, counted: impl Fn(usize) -> bool) -> i64 {
        (0..8).filter(|&pattern| counted(pattern)).map(|pattern| i64::from(self.0[pattern])).sum()
    }

    /// Bounds of the slow stage's F1 that hold together but for `level`.
    pub(super) fn slow_f1(&self, level: f64) -> (f64, f64) {
        let right = self.sum(|pattern| pattern & 3 == 3);
        let all = self.sum(|pattern| pattern & 3 != 0);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        (f1(lower(right, all, level / 2.0)), f1(upper(right, all, level / 2.0)))
    }

    /// Logarithm of the wealth of one bet.
    fn ln_wealth(&self, bet: f64, f: f64, a: f64) -> f64 {
        (1..8)
            .filter(|&pattern| self.0[pattern] > 0)
            .map(|pattern| f64::from(self.0[pattern]) * (-bet * value(pattern, f, a)).ln_1p())
            .sum()
    }

    /// The least wealth that betting against a loss over `a` has, for any F1 within the bounds.
    fn wealth(&self, f: (f64, f64), a: f64) -> f64 {
        let bets = (0..BETS).map(|halvings| 0.5f64.powi(halvings));
        let total: f64 = bets
            .filter(|bet| bet * (2.0 - f.0 - a) <= 1.0)
            .map(|bet| self.ln_wealth(bet, f.0, a).min(self.ln_wealth(bet, f.1, a)).exp())
            .sum();
        total / f64::from(BETS)
    }

    /// Upper bound of the class's loss of F1 that fails with a probability of at most `level`.
    pub(super) fn bound(&self, level: f64) -> f64 {
        let f = self.slow_f1(SPENT * level);
        let unrefuted = |a: f64| self.wealth(f, a) * ((1.0 - SPENT) * level) < 1.0;
        // The cascade's F1 is not below 0, so the loss is at most the slow stage's F1.
        bisect(-1.0, f.1, unrefuted).1
    }
}

/// Upper bound of the loss of macro-F1; 1 where no flow says anything.
pub(super) fn bound(classes: &[ClassCounts], level: f64) -> f64 {
    let share = level / classes.len().max(1) as f64;
    let bounds: Vec<f64> =
        classes.iter().filter(|class| class.present()).map(|class| class.bound(share)).collect();
    if bounds.is_empty() || level <= 0.0 {
        return 1.0;
    }
    bounds.iter().sum::<f64>() / bounds.len() as f64
}
