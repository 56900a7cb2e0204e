//! The exact test for accuracy.
//!
//! Of n flows, `a` are answered right by the slow stage alone and `b` by the cascade alone; on the
//! others the two are right or wrong together. With the chances p and m of the two kinds, the loss
//! is p - m. That it is at least t is to be refused, whatever the share q = p + m of disagreements
//! may be.
//!
//! **Order.** Outcomes are ordered by T = (a - b - nt) / sqrt(a + b + n|t|), small when the loss is
//! small. With S = a + b + n|t|, the derivatives of T have the signs of S - (a - b - nt) / 2 =
//! a/2 + 3b/2 + n|t| + nt/2 in `a`, and of -(S + (a - b - nt) / 2) = -(3a/2 + b/2 + n|t| - nt/2) in
//! `b`: T rises with `a` and falls with `b`. So with an outcome, the region {T <= T observed} has
//! all outcomes of smaller `a` or larger `b`.
//!
//! **Worst case.** Let p rise or m fall while the other stays: some flow moves from no disagreement
//! to `a`, or from `b` to none, and the region becomes less probable. At a given q the worst of all
//! losses from t on is therefore t itself, p = (q + t) / 2 and m = (q - t) / 2. For all q of an
//! interval from u to v, the region is at most as probable as at p(u) and m(v). Intervals are split
//! until that bound is close to a value which is attained; the bound is what is returned, so the
//! search makes no error in the wrong direction.
//!
//! **Nuisance.** q need only run over the exact confidence interval of level 1 - g that the number
//! of disagreements gives, when g is added to the result (Berger and Boos 1994). For this test of
//! paired answers see Sidik 2003 and Lloyd and Moldovan 2008.

use super::binomial::{at_most, lower, mass, upper};

/// The bound may be above an attained value by this factor.
const CLOSE: f64 = 1.01;
/// Values and bounds below this are as good as none.
const NEGLIGIBLE: f64 = 1e-9;
/// Splits of intervals; what is reached then is a bound, too.
const SPLITS: usize = 400;
/// Intervals to start with.
const START: usize = 8;
/// Numbers of flows that are less probable are left out of the sum.
const RARE: f64 = 1e-17;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counts {
    /// All flows.
    pub(super) flows: u64,
    /// Flows that the slow stage alone has right.
    pub(super) worse: u64,
    /// Flows that the cascade alone has right.
    pub(super) better: u64,
}

/// The outcomes that speak at least as strongly against the loss as the observed one.
struct Region {
    flows: u64,
    tolerated: f64,
    observed: f64,
}

impl Region {
    /// The statistic T.
    fn order(&self, worse: u64, better: u64) -> f64 {
        let expected = self.flows as f64 * self.tolerated;
        let excess = worse as f64 - better as f64 - expected;
        let spread = (worse + better) as f64 + expected.abs();
        if spread > 0.0 { excess / spread.sqrt() } else { 0.0 }
    }

    /// One more than the largest `worse` of the region at this `better`; 0 when there is none.
    fn end(&self, better: u64) -> u64 {
        let inside = |worse: u64| self.order(worse, better) <= self.observed + 1e-9;
        let (mut low, mut high) = (0, self.flows - better + 1);
        while low < high {
            let middle = low.midpoint(high);
            if inside(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Probability of the region at the chances of the two kinds of disagreement.
    fn probability(&self, worse: f64, better: f64) -> f64 {
        let rest = 1.0 - better;
        let chance = if rest > 0.0 { (worse / rest).min(1.0) } else { 0.0 };
        let part = |count: u64| {
            let mass = mass(count, self.flows, better);
            (mass >= RARE).then(|| match self.end(count) {
                0 => 0.0,
                end => mass * at_most(end - 1, self.flows - count, chance),
            })
        };
        let mode = (((self.flows + 1) as f64 * better) as u64).min(self.flows);
        let up: f64 = (mode..=self.flows).map_while(part).sum();
        let down: f64 = (0..mode).rev().map_while(part).sum();
        up + down
    }

    /// The most that the probability can be for shares of disagreements in the interval.
    fn most(&self, from: f64, to: f64) -> f64 {
        let worse = |share: f64| 0.5 * (share + self.tolerated).max(0.0);
        let better = |share: f64| 0.5 * (share - self.tolerated).max(0.0);
        let bound = |from: f64, to: f64| self.probability(worse(from), better(to));
        let step = (to - from) / START as f64;
        let start = |at: usize| (from + step * at as f64, from + step * (at + 1) as f64);
        let mut open: Vec<(f64, f64, f64)> =
            (0..START).map(start).map(|(from, to)| (bound(from, to), from, to)).collect();
        let mut attained = bound(from, from).max(bound(to, to));
        for _ in 0..SPLITS {
            open.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
            let &(highest, from, to) = open.last().expect("a split puts two for one");
            if highest <= attained * CLOSE + NEGLIGIBLE || attained > 0.5 {
                break;
            }
            let middle = 0.5 * (from + to);
            attained = attained.max(bound(middle, middle));
            open.pop();
            open.extend([(bound(from, middle), from, middle), (bound(middle, to), middle, to)]);
        }
        open.iter().map(|interval| interval.0).fold(attained, f64::max)
    }
}

/// A valid p-value for a loss of accuracy above `tolerated`; `spent` of it pays for not knowing the
/// share of disagreements.
pub(super) fn p_value(counts: Counts, tolerated: f64, spent: f64) -> f64 {
    if tolerated >= 1.0 {
        return 0.0;
    }
    if tolerated < -1.0 || counts.flows == 0 {
        return 1.0;
    }
    let mut region = Region { flows: counts.flows, tolerated, observed: 0.0 };
    region.observed = region.order(counts.worse, counts.better);
    let differ = counts.worse + counts.better;
    // A loss of t needs disagreements on a share of t.
    let from = lower(differ, counts.flows, spent / 2.0).max(tolerated.abs());
    let to = upper(differ, counts.flows, spent / 2.0);
    if from > to {
        return spent;
    }
    (region.most(from, to) + spent + NEGLIGIBLE).min(1.0)
}
