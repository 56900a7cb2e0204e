//! Promises about a cascade that hold without assumptions on models or data: with a stated
//! confidence, the loss against the slow stage alone is at most the tolerated one.
//!
//! The one thing assumed is that the calibration flows are a random draw from what is served. The
//! frame is *learn then test* (Angelopoulos, Bates, Candes, Jordan, Lei 2021): each operating point
//! has a p-value for "the loss is above the tolerated one", and points are tested along a path
//! from safe to aggressive until one is not rejected. The path, the tolerated loss and the
//! confidence must be fixed without the calibration flows.
//!
//! For accuracy the test is exact ([`accuracy`]); for macro-F1 it bets on a mean ([`macro_f1`]).
//! Neither depends on the order of flows, or draws random numbers.

mod accuracy;
mod binomial;
mod macro_f1;
mod sequence;
#[cfg(test)]
mod tests;

pub use sequence::{fallback, fixed_sequence};
use serde::{Deserialize, Serialize};

/// Of a level of accuracy's test, the part that pays for not knowing how often answers differ.
const SPENT_ON_SHARE: f64 = 0.02;
/// Of a level of macro-F1's test, the part that pays for not knowing the classes' shares.
const SPENT_ON_CLASSES: f64 = 0.1;
/// Halvings of the interval in which the smallest tolerated loss lies.
const HALVINGS: usize = 20;

/// What must not get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// The slow stage's accuracy less the cascade's.
    Accuracy,
    /// The slow stage's mean F1 over the covered classes less the cascade's.
    MacroF1,
}

/// A promise: the loss is at most the tolerated one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// What must not get lost.
    pub loss: Loss,
    /// The loss that is tolerated: 0.01 is a hundredth of accuracy or macro-F1. For accuracy it
    /// can be negative, which promises a gain.
    pub tolerated: f64,
    /// Chance, from 0 to 1, that flows for calibration are drawn of which no broken promise comes.
    pub confidence: f64,
}

impl Promise {
    /// The chance of a broken promise that is accepted.
    #[must_use]
    pub fn level(&self) -> f64 {
        1.0 - self.confidence
    }
}

/// One operating point's answers on the calibration flows, beside the slow stage's.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// True labels.
    pub truth: &'a [u16],
    /// The slow stage's answers, one per flow.
    pub slow: &'a [u16],
    /// The cascade's answers, one per flow.
    pub cascade: &'a [u16],
    /// By class, whether its F1 counts in macro-F1; all labels are below its length. It must be
    /// fixed without the calibration flows, for example as the classes with enough training flows
    /// ([`classes_with`]). A covered class that no calibration flow is of makes every promise
    /// of macro-F1 impossible; of classes that are not covered, nothing is promised. If all classes
    /// that occur are covered, the loss is that of `Confusion::macro_f1`.
    pub covered: &'a [bool],
}

impl<'a> Outcome<'a> {
    fn check(&self) {
        let flows = self.truth.len();
        assert!(self.slow.len() == flows && self.cascade.len() == flows, "one answer per flow");
        let labels = [self.truth, self.slow, self.cascade].concat();
        assert!(labels.iter().all(|&label| usize::from(label) < self.covered.len()), "known labels");
    }

    fn triples(&self) -> impl Iterator<Item = [u16; 3]> + 'a {
        let answers = self.slow.iter().zip(self.cascade);
        self.truth.iter().zip(answers).map(|(&truth, (&slow, &cascade))| [truth, slow, cascade])
    }

    fn counts(&self) -> accuracy::Counts {
        let of = |wanted: fn(bool, bool) -> bool| {
            let kind = |triple: &[u16; 3]| wanted(triple[0] == triple[1], triple[0] == triple[2]);
            self.triples().filter(kind).count() as u64
        };
        accuracy::Counts {
            flows: self.truth.len() as u64,
            worse: of(|slow, cascade| slow && !cascade),
            better: of(|slow, cascade| cascade && !slow),
        }
    }
}

/// By class, whether at least `least` of these labels are of it.
///
/// # Panics
/// When a label is not below `classes`.
#[must_use]
pub fn classes_with(labels: &[u16], classes: usize, least: usize) -> Vec<bool> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    counts.into_iter().map(|count| count >= least).collect()
}

/// An outcome, counted once for many tests.
enum Counted {
    Accuracy(accuracy::Counts),
    MacroF1(macro_f1::Table),
}

impl Counted {
    fn new(loss: Loss, outcome: &Outcome<'_>) -> Self {
        outcome.check();
        match loss {
            Loss::Accuracy => Self::Accuracy(outcome.counts()),
            Loss::MacroF1 => Self::MacroF1(macro_f1::Table::new(outcome.triples(), outcome.covered)),
        }
    }

    fn p_value(&self, tolerated: f64, level: f64) -> f64 {
        match self {
            Self::Accuracy(counts) => accuracy::p_value(*counts, tolerated, level * SPENT_ON_SHARE),
            Self::MacroF1(table) => {
                macro_f1::p_value(table, tolerated, level * SPENT_ON_CLASSES, level)
            }
        }
    }
}

/// A p-value for "the loss is above the tolerated one": if that is so, it is at most x with a
/// chance of at most x, for every x. The promise can be given when it is at most
/// [`Promise::level`], at which its power is the best.
///
/// # Panics
/// When there is not one answer per flow, a label is unknown, the confidence is not from 0 to 1, or
/// the tolerated loss is no number.
#[must_use]
pub fn p_value(promise: Promise, outcome: &Outcome<'_>) -> f64 {
    assert!((0.0..=1.0).contains(&promise.confidence), "a confidence is from 0 to 1");
    assert!(!promise.tolerated.is_nan(), "a loss is a number");
    Counted::new(promise.loss, outcome).p_value(promise.tolerated, promise.level())
}

/// The smallest loss, to about a millionth, that could have been promised on this outcome; 1, which
/// says nothing, when there is no smaller one.
///
/// It tells how much a sample can support. A promise of it is valid as far as the p-value falls
/// with the tolerated loss, which it does but for ripples of counts; to be strict, state the loss
/// beforehand.
///
/// # Panics
/// As [`p_value`].
#[must_use]
pub fn smallest_tolerated(loss: Loss, confidence: f64, outcome: &Outcome<'_>) -> f64 {
    assert!((0.0..=1.0).contains(&confidence), "a confidence is from 0 to 1");
    let (counted, level) = (Counted::new(loss, outcome), 1.0 - confidence);
    let granted = |tolerated: f64| counted.p_value(tolerated, level) <= level;
    let (mut low, mut high) = (0.0, 1.0);
    if granted(low) {
        return low;
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if granted(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The last operating point of a path, from safe to aggressive, for which the promise can be given:
/// [`fallback`] over the outcomes' p-values, from the points in `starts`.
///
/// # Panics
/// As [`p_value`].
#[must_use]
pub fn choose(promise: Promise, path: &[Outcome<'_>], starts: &[usize]) -> Option<usize> {
    fallback(path.len(), starts, promise.level(), |point| p_value(promise, &path[point]))
}
