//! Promises: how much worse than its slow stage alone a cascade may be, at a stated confidence.
//!
//! Learn then test (Angelopoulos, Bates, Candès, Jordan, Lei 2021): each candidate operating point
//! is a null hypothesis, "its true loss is over the tolerated one"; points are tested in an order
//! that does not depend on the calibration flows, from safe to aggressive, and testing stops at
//! the first that is not rejected. Then the chance that a point with too high a loss is granted is
//! at most one minus the confidence, for any law of the flows, at any number of flows, provided
//! that flows are drawn independently from what will be served and that neither the points nor
//! their order were chosen with the calibration flows.
//!
//! [`accuracy`] and [`macro_f1`] say which tests are used and why they are valid.

pub mod accuracy;
mod binomial;
pub mod macro_f1;
#[cfg(test)]
mod tests;

use crate::metrics::Confusion;
use accuracy::Disagreements;
use macro_f1::ClassCounts;
use serde::{Deserialize, Serialize};

/// The lowest p-value that is told apart from 0: `e^-40`.
const LEAST_LN_LEVEL: f64 = -40.0;
/// Steps of the searches for a p-value and for a tolerance.
const STEPS: usize = 40;

/// What is lost against the slow stage alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Accuracy, as a share of all flows.
    Accuracy,
    /// Macro-F1: the mean over classes of F1.
    #[serde(rename = "macro_f1")]
    MacroF1,
}

/// A loss that is not exceeded, but for one minus the confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guarantee {
    /// What is lost.
    pub loss: Loss,
    /// How much of it is tolerated, 0 to 1.
    pub tolerated: f64,
    /// Probability over the draw of the calibration flows that the guarantee is true, 0 to 1.
    pub confidence: f64,
}

impl Guarantee {
    /// The chance of a broken guarantee that is put up with.
    fn level(&self) -> f64 {
        level(self.confidence)
    }
}

/// One minus the confidence; what is not a number guarantees nothing that can be granted.
fn level(confidence: f64) -> f64 {
    if confidence.is_nan() { 0.0 } else { (1.0 - confidence).clamp(0.0, 1.0) }
}

/// Answers of one operating point and of the slow stage alone on the calibration flows, flow by
/// flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairedPredictions<'a> {
    /// True class.
    pub truth: &'a [u16],
    /// The slow stage's answer when it is asked for every flow.
    pub slow: &'a [u16],
    /// The cascade's final answer.
    pub cascade: &'a [u16],
    /// Number of classes; each label is below it.
    pub classes: usize,
}

impl PairedPredictions<'_> {
    /// The loss on these flows; below 0 where the cascade is better; 0 when there are no flows.
    ///
    /// # Panics
    /// When a label is out of range.
    #[must_use]
    pub fn loss(&self, loss: Loss) -> f64 {
        let figure = |answers: &[u16]| {
            let pairs = self.truth.iter().copied().zip(answers.iter().copied());
            let table = Confusion::of(self.classes, pairs);
            match loss {
                Loss::Accuracy => table.accuracy(),
                Loss::MacroF1 => table.macro_f1(),
            }
        };
        figure(self.slow) - figure(self.cascade)
    }

    fn flows(&self) -> impl Iterator<Item = (u16, u16, u16)> {
        assert_eq!(
            self.truth.len(),
            self.slow.len(),
            "a prediction of the slow stage for each flow"
        );
        assert_eq!(
            self.truth.len(),
            self.cascade.len(),
            "a prediction of the cascade for each flow"
        );
        let answers = self.slow.iter().copied().zip(self.cascade.iter().copied());
        self.truth
            .iter()
            .copied()
            .zip(answers)
            .map(|(truth, (slow, cascade))| (truth, slow, cascade))
    }
}

/// What a test needs to know of an outcome: counts, so the order of the flows does not matter.
enum Evidence {
    Accuracy(Disagreements),
    MacroF1(Vec<ClassCounts>),
}

impl Evidence {
    fn new(loss: Loss, outcome: &PairedPredictions<'_>) -> Self {
        match loss {
            Loss::Accuracy => {
                let mut counts = Disagreements::default();
                for (truth, slow, cascade) in outcome.flows() {
                    counts.flows += 1;
                    counts.losses += i64::from(slow == truth && cascade != truth);
                    counts.gains += i64::from(slow != truth && cascade == truth);
                }
                Self::Accuracy(counts)
            }
            Loss::MacroF1 => {
                let mut classes = vec![ClassCounts::default(); outcome.classes];
                for (truth, slow, cascade) in outcome.flows() {
                    let pattern = |class: u16| {
                        let bit = |label: u16, at: usize| usize::from(label == class) << at;
                        bit(truth, 0) | bit(slow, 1) | bit(cascade, 2)
                    };
                    let mut count = |class: u16| {
                        classes[usize::from(class)].0[pattern(class)] += 1;
                    };
                    count(truth);
                    if slow != truth {
                        count(slow);
                    }
                    if cascade != truth && cascade != slow {
                        count(cascade);
                    }
                }
                Self::MacroF1(classes)
            }
        }
    }

    /// Whether a true loss over `tolerated` is refuted at a level. No loss is over 1, and at level
    /// 1 nothing needs to be shown.
    fn refutes(&self, tolerated: f64, level: f64) -> bool {
        if tolerated >= 1.0 || level >= 1.0 {
            return true;
        }
        if tolerated.is_nan() || tolerated < 0.0 || level <= 0.0 {
            return false;
        }
        match self {
            Self::Accuracy(counts) => counts.refute(tolerated, level),
            Self::MacroF1(classes) => macro_f1::bound(classes, level) <= tolerated,
        }
    }
}

/// A p-value against "the true loss is over `tolerated`": where that is true, it is at most `u`
/// with a probability of at most `u`. Larger with a smaller tolerance; 1 when there are no flows or
/// the tolerance is below 0, 0 when it is 1 or more.
///
/// # Panics
/// When the outcome's lists differ in length or a label is out of range.
#[must_use]
pub fn p_value(loss: Loss, tolerated: f64, outcome: &PairedPredictions<'_>) -> f64 {
    let evidence = Evidence::new(loss, outcome);
    if evidence.refutes(tolerated, 0.0) {
        return 0.0;
    }
    // A test that holds at each level gives a p-value: the lowest level at which it refutes.
    let (mut below, mut above) = (LEAST_LN_LEVEL, 0.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(below, above);
        if evidence.refutes(tolerated, f64::exp(middle)) {
            above = middle;
        } else {
            below = middle;
        }
    }
    above.exp()
}

/// The last point of the path, from safe to aggressive, before the first that cannot be granted;
/// none if the first cannot. At confidence 0 all are granted, at confidence 1 none (but where all
/// losses are tolerated).
///
/// # Panics
/// When an outcome's lists differ in length or a label is out of range.
pub fn fixed_sequence<'a>(
    guarantee: &Guarantee,
    path: impl Iterator<Item = PairedPredictions<'a>>,
) -> Option<usize> {
    let granted = |outcome: &PairedPredictions<'_>| {
        Evidence::new(guarantee.loss, outcome).refutes(guarantee.tolerated, guarantee.level())
    };
    path.take_while(granted).count().checked_sub(1)
}

/// The smallest loss that could be guaranteed at this confidence, 0 to 1; 1 is always true and says
/// that the flows show nothing.
///
/// It holds at the stated confidence for an operating point that was fixed beforehand; of many
/// points' figures the smallest does not.
///
/// # Panics
/// When the outcome's lists differ in length or a label is out of range.
#[must_use]
pub fn smallest_tolerated(loss: Loss, confidence: f64, outcome: &PairedPredictions<'_>) -> f64 {
    let (evidence, level) = (Evidence::new(loss, outcome), level(confidence));
    if evidence.refutes(0.0, level) {
        return 0.0;
    }
    if let Evidence::MacroF1(classes) = &evidence {
        return macro_f1::bound(classes, level).min(1.0);
    }
    let (mut below, mut above) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(below, above);
        if evidence.refutes(middle, level) {
            above = middle;
        } else {
            below = middle;
        }
    }
    above
}
