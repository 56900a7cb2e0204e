//! The exact test of a loss of accuracy.
//!
//! A flow is a loss (only the slow stage is right), a gain (only the cascade is right) or neither.
//! With `d` the chance of either, a true loss of `t` means chances of `(d + t) / 2` and
//! `(d - t) / 2`, and losses minus gains are a sum of `n` such flows: their law is known but for
//! `d`. Berger and Boos (1994): bound `d` from the disagreements that were seen, at a twentieth of
//! the level, and take the worst `d` under the bound at the rest of the level. Where disagreements
//! are rare, the bound says so, and the test is nearly as sharp as if `d` were known.
//!
//! The worst is found over intervals of `d`: in one, fewest losses go with its lower end and most
//! gains with its upper end, and this corner bounds the whole interval. An interval that fails is
//! halved until it is a 256th of the bound. For a larger tolerance every corner's probability is
//! lower, so what is granted for one tolerance is granted for all larger ones.

use super::binomial::{surplus_at_most, upper};

/// Share of the level spent on the bound of the disagreements.
const SPENT: f64 = 0.05;
/// How often an interval of disagreements may be halved.
const HALVINGS: usize = 8;

/// Counts that the test needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Disagreements {
    /// Flows.
    pub(super) flows: i64,
    /// Flows that only the slow stage answers right.
    pub(super) losses: i64,
    /// Flows that only the cascade answers right.
    pub(super) gains: i64,
}

impl Disagreements {
    /// Whether a true loss over `tolerated` is refuted at a level below 1.
    pub(super) fn refute(&self, tolerated: f64, level: f64) -> bool {
        if self.flows == 0 || level <= 0.0 {
            return false;
        }
        let most = upper(self.losses + self.gains, self.flows, SPENT * level);
        self.refute_within(tolerated, (1.0 - SPENT) * level, (0.0, most), HALVINGS)
    }

    /// Whether no chance of disagreement in the interval explains the counts.
    fn refute_within(&self, tolerated: f64, level: f64, at: (f64, f64), halvings: usize) -> bool {
        // Chances of disagreement below the loss itself do not exist.
        let (low, high) = (at.0.max(tolerated), at.1);
        if high < tolerated {
            return true;
        }
        let (loss, gain) = (f64::midpoint(low, tolerated), (high - tolerated) / 2.0);
        if surplus_at_most(self.losses - self.gains, self.flows, loss, gain) <= level {
            return true;
        }
        let middle = f64::midpoint(at.0, at.1);
        halvings > 0
            && self.refute_within(tolerated, level, (middle, at.1), halvings - 1)
            && self.refute_within(tolerated, level, (at.0, middle), halvings - 1)
    }
}
