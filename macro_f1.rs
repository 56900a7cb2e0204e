//! The test for macro-F1.
//!
//! **Loss of a class.** Let P, S and C be the shares of all flows that are of a class, that the
//! slow stage answers so, and that the cascade answers so; and s and k the shares that the two
//! answer so and rightly. With f = 2s / (P + S), the slow stage's F1, and d = P + C,
//!
//!   f - 2k/d = (f d - 2k) / d = (f (P + S) + f (C - S) - 2k) / d = (2 (s - k) + f (C - S)) / d.
//!
//! **Loss of macro-F1.** The sum over the covered classes is therefore the mean over flows of
//!
//!   W = sum over classes of (2 [slow right] - 2 [cascade right] + f [cascade] - f [slow]) / d,
//!
//! where the brackets say whether the stage answers this class. W is 0 where the two agree; else it
//! is (2 - f)/d of the true class plus f/d of the answered one when only the slow stage is right,
//! the opposite when only the cascade is, and f/d of the cascade's answer less f/d of the slow
//! stage's when both are wrong. With K classes, the loss is at most t iff E[W] <= K t.
//!
//! **Bets.** Were f and d known, the wealth of one who bets a fixed part b against the loss, the
//! product over flows of 1 + b (K t - W), would have a mean of at most 1 when E[W] >= K t, as long
//! as no factor can be negative. The same holds for a mean of such wealths over bets that are fixed
//! beforehand, and by Markov's inequality 1 / wealth is a p-value. It does not depend on the order
//! of flows. (This is the betting of Waudby-Smith and Ramdas 2020, with the mixture instead of
//! bets that learn.)
//!
//! **Nuisance.** f and d are not known, but lie in exact confidence intervals: d is the share of
//! flows of the class or answered so, plus the share of flows of the class and answered so; and f
//! is 2j / (1 + j) where j is the share of right ones among flows that are of the class or that the
//! slow stage answers so. All intervals hold together but for a chance g. The wealth is the least
//! over all f and d of the intervals, and g is added to the p-value.
//!
//! **The least wealth.** W is linear in 1/d and f/d. For each kind of flow, ln(1 + z) is not below
//! its chord over the interval of z that f and d leave, and the sum of the chords is linear, too:
//! its least value is found class by class at the corners. This is never above the true least
//! value, and close to it, as the chord is off by the square of the interval's length.

use super::binomial::{lower, upper};
use std::collections::BTreeMap;

/// Ratio of neighbouring bets.
const RATIO: f64 = std::f64::consts::SQRT_2;
/// Intervals' ends per class: two shares that add up to d, and one for f.
const ENDS: f64 = 6.0;

/// What f and d of a class can be.
#[derive(Clone, Copy, Debug)]
struct Nuisance {
    /// 1/d, from the least.
    weight: [f64; 2],
    /// f, from the least.
    f1: [f64; 2],
}

/// A part of W: `sign * (2 * right + f * answered) / d` of a class.
#[derive(Clone, Copy, Debug)]
struct Part {
    class: usize,
    /// Factor of 1/d.
    plain: f64,
    /// Factor of f/d.
    f1: f64,
}

impl Part {
    fn at(&self, weight: f64, f1: f64) -> f64 {
        weight * (self.plain + self.f1 * f1)
    }

    /// Least and largest value over the corners; linear in f and then in 1/d, so they are there.
    fn range(&self, nuisance: &Nuisance) -> [f64; 2] {
        let corner = |at: usize| self.at(nuisance.weight[at / 2], nuisance.f1[at % 2]);
        let values = [0, 1, 2, 3].map(corner);
        let least = values.into_iter().fold(f64::INFINITY, f64::min);
        [least, values.into_iter().fold(f64::NEG_INFINITY, f64::max)]
    }
}

/// A kind of flow: how many there are, and the parts of W.
type Kind = (u64, Vec<Part>);

/// Flows by truth, slow answer and cascade's answer.
type Triples = BTreeMap<[u16; 3], u64>;

/// The flows, counted.
pub(super) struct Table {
    flows: u64,
    covered: Vec<usize>,
    triples: Triples,
    kinds: Vec<Kind>,
}

impl Table {
    /// Counts flows; classes outside of `covered` have no part in the loss.
    pub(super) fn new(triples: impl Iterator<Item = [u16; 3]>, covered: &[bool]) -> Self {
        let mut counts = Triples::new();
        triples.for_each(|triple| *counts.entry(triple).or_default() += 1);
        let kind = |(triple, count): (&[u16; 3], &u64)| (*count, parts(*triple, covered));
        let kinds = counts.iter().filter(|(triple, _)| triple[1] != triple[2]).map(kind).collect();
        Self {
            flows: counts.values().sum(),
            covered: (0..covered.len()).filter(|&class| covered[class]).collect(),
            triples: counts,
            kinds,
        }
    }

    fn count(&self, wanted: impl Fn(bool, bool, bool) -> bool, class: usize) -> u64 {
        let is = |label: u16| usize::from(label) == class;
        let wanted = |triple: &[u16; 3]| wanted(is(triple[0]), is(triple[1]), is(triple[2]));
        self.triples.iter().filter(|(triple, _)| wanted(triple)).map(|(_, count)| count).sum()
    }

    /// Intervals of one class, of which each end fails with a chance of at most `tail`.
    fn nuisance(&self, class: usize, tail: f64) -> Nuisance {
        let either = self.count(|truth, _, cascade| truth || cascade, class);
        let both = self.count(|truth, _, cascade| truth && cascade, class);
        let slow_either = self.count(|truth, slow, _| truth || slow, class);
        let slow_both = self.count(|truth, slow, _| truth && slow, class);
        let least = lower(either, self.flows, tail) + lower(both, self.flows, tail);
        let most = upper(either, self.flows, tail) + upper(both, self.flows, tail);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        let share = [lower, upper].map(|end| end(slow_both, slow_either, tail));
        Nuisance { weight: [1.0 / most, 1.0 / least], f1: share.map(f1) }
    }

    /// Logarithm of a lower bound of the wealth of one bet.
    fn wealth(&self, bet: f64, sum: f64, nuisances: &BTreeMap<usize, Nuisance>) -> f64 {
        let differ: u64 = self.kinds.iter().map(|kind| kind.0).sum();
        let mut constant = (self.flows - differ) as f64 * (bet * sum).ln_1p();
        let mut slopes: BTreeMap<usize, Part> = BTreeMap::new();
        for (count, parts) in &self.kinds {
            let count = *count as f64;
            let ranges = parts.iter().map(|part| part.range(&nuisances[&part.class]));
            let range = ranges.fold([0.0, 0.0], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
            let (start, slope) = chord(bet * (sum - range[1]), bet * (sum - range[0]));
            constant += count * (start + slope * bet * sum);
            for part in parts {
                let class = part.class;
                let all = slopes.entry(class).or_insert(Part { class, plain: 0.0, f1: 0.0 });
                all.plain += count * slope * part.plain;
                all.f1 += count * slope * part.f1;
            }
        }
        let worst = slopes.values().map(|part| part.range(&nuisances[&part.class])[1]);
        constant - bet * worst.sum::<f64>()
    }
}

/// The parts of W of a flow on which the two answers differ.
fn parts([truth, slow, cascade]: [u16; 3], covered: &[bool]) -> Vec<Part> {
    let right = |answer: u16| if answer == truth { 2.0 } else { 0.0 };
    let part = |sign: f64, answer: u16| {
        let class = usize::from(answer);
        Part { class, plain: sign * right(answer), f1: -sign }
    };
    let mut parts = vec![part(1.0, slow), part(-1.0, cascade)];
    parts.retain(|part| covered[part.class]);
    parts
}

/// Start and slope of the chord of ln(1 + z) between two values of z, both above -1.
fn chord(low: f64, high: f64) -> (f64, f64) {
    let (at_low, at_high) = (low.ln_1p(), high.ln_1p());
    // On a short way the slope at the upper end is less than the chord's; with the value at the
    // lower end it gives a line below the curve all the same.
    let short = high - low < 1e-9;
    let slope = if short { 1.0 / (1.0 + high) } else { (at_high - at_low) / (high - low) };
    (at_low - slope * low, slope)
}

/// The largest W that a flow can have, seen in the data or not.
fn largest(nuisances: &BTreeMap<usize, Nuisance>) -> f64 {
    let most = |plain: f64, f1: f64| {
        let part = move |(&class, nuisance): (&usize, &Nuisance)| {
            Part { class, plain, f1 }.range(nuisance)[1]
        };
        nuisances.iter().map(part).fold(0.0, f64::max)
    };
    most(2.0, -1.0) + most(0.0, 1.0)
}

/// A valid p-value for a loss of macro-F1 over the covered classes above `tolerated`; `spent` of it
/// pays for not knowing f and d.
pub(super) fn p_value(table: &Table, tolerated: f64, spent: f64, level: f64) -> f64 {
    if tolerated >= 1.0 {
        return 0.0;
    }
    let missing =
        |class: &usize| table.count(|truth, _, _| truth, *class) == 0;
    if tolerated <= 0.0 || table.covered.is_empty() || table.covered.iter().any(missing) {
        return 1.0;
    }
    let tail = spent / (ENDS * table.covered.len() as f64);
    let nuisances: BTreeMap<usize, Nuisance> =
        table.covered.iter().map(|&class| (class, table.nuisance(class, tail))).collect();
    let classes = table.covered.len() as f64;
    let bets = bets(table.flows, tolerated, level);
    let highest = 1.0 / (largest(&nuisances) / classes - tolerated).max(0.0);
    let wealth = |bet: &f64| {
        // A bet that could lose more than all is worth nothing.
        let fits = *bet < highest;
        if fits { table.wealth(bet / classes, classes * tolerated, &nuisances).exp() } else { 0.0 }
    };
    let wealth = bets.iter().map(wealth).sum::<f64>() / bets.len() as f64;
    (1.0 / wealth + spent).min(1.0)
}

/// Bets on the mean loss of the classes, in equal ratios. The largest is one that loses all when
/// classes of equal size lose a flow; smaller ones than the last cannot win enough, even if no flow
/// is ever answered otherwise than by the slow stage.
fn bets(flows: u64, tolerated: f64, level: f64) -> Vec<f64> {
    let least = ((1.0 / level).ln() / (flows as f64 * tolerated)).clamp(1e-6, 1.0);
    std::iter::successors(Some(1.0), |bet| Some(bet / RATIO))
        .take_while(|&bet| bet >= least / RATIO)
        .collect()
}
