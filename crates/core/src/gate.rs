//! Gates: is a stage's answer sure enough?

use crate::deferral::Deferral;

/// How unsure a row of class probabilities is: 0 = certain, growing with doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Uncertainty {
    /// One less the largest probability.
    LeastConfidence,
    /// One less the distance between the two largest probabilities.
    Margin,
    /// Shannon entropy over the logarithm of the number of classes, 0 to 1.
    Entropy,
}

impl Uncertainty {
    /// All measures.
    pub const ALL: [Self; 3] = [Self::LeastConfidence, Self::Margin, Self::Entropy];

    /// The measure as plans spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeastConfidence => "least_confidence",
            Self::Margin => "margin",
            Self::Entropy => "entropy",
        }
    }

    /// The measure of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// The uncertainty of a row of probabilities.
    #[must_use]
    pub fn uncertainty(self, scores: &[f32]) -> f32 {
        match self {
            Self::LeastConfidence => 1.0 - top_two(scores).0,
            Self::Margin => {
                let (first, second) = top_two(scores);
                1.0 - (first - second)
            }
            Self::Entropy => entropy(scores),
        }
    }
}

pub(crate) fn top_two(scores: &[f32]) -> (f32, f32) {
    scores.iter().fold((0.0, 0.0), |(first, second), &score| {
        if score > first { (score, first) } else { (first, f32::max(second, score)) }
    })
}

fn entropy(scores: &[f32]) -> f32 {
    if scores.len() < 2 {
        return 0.0;
    }
    let terms = scores.iter().filter(|&&score| score != 0.0).map(|score| -score * score.ln());
    terms.sum::<f32>() / (scores.len() as f32).ln()
}

/// The largest uncertainty that is still accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Threshold {
    /// One for all classes.
    Universal(f32),
    /// One per predicted class, by label index.
    PerClass(Vec<f32>),
}

/// Decides whether a stage's answer stands, and where the flow goes if it does not.
#[derive(Clone, Debug)]
pub enum Gate {
    /// The answer stands if its uncertainty is small enough; else the next stage is asked.
    Uncertainty {
        /// How uncertainty is measured.
        measure: Uncertainty,
        /// Up to which uncertainty the answer stands.
        threshold: Threshold,
    },
    /// The answer stands unless a later stage is expected to mend enough of it.
    Learned(Deferral),
}

impl Gate {
    /// The gate that never accepts: used where rows are recorded for each stage.
    #[must_use]
    pub fn never() -> Self {
        let threshold = Threshold::Universal(-1.0);
        Self::Uncertainty { measure: Uncertainty::LeastConfidence, threshold }
    }

    /// Whether the answer `label` with these scores is sure enough to stand. A learned gate needs
    /// to know more than the scores, see [`Deferral::rule`], and from them alone accepts nothing.
    ///
    /// Scores that are not numbers are never sure. A label without a threshold is not accepted.
    #[must_use]
    pub fn accepts(&self, label: u16, scores: &[f32]) -> bool {
        let Self::Uncertainty { measure, threshold } = self else { return false };
        let threshold = match threshold {
            Threshold::Universal(threshold) => *threshold,
            Threshold::PerClass(all) => all.get(usize::from(label)).copied().unwrap_or(-1.0),
        };
        scores.iter().all(|score| score.is_finite()) && measure.uncertainty(scores) <= threshold
    }
}

/// The most probable class, the lowest index on a tie, and its probability.
#[must_use]
pub fn best_class(scores: &[f32]) -> (u16, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (class as u16, score);
        }
    }
    (best.0, if best.1.is_finite() { best.1 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_is_zero_and_even_odds_are_the_most_doubt() {
        for measure in Uncertainty::ALL {
            assert!(measure.uncertainty(&[0.0, 1.0, 0.0]).abs() < 1e-6);
            let even = measure.uncertainty(&[0.25; 4]);
            let skewed = measure.uncertainty(&[0.4, 0.2, 0.2, 0.2]);
            assert!(even > skewed, "{measure:?}");
            assert_eq!(Uncertainty::from_name(measure.name()), Some(measure));
        }
        assert!((Uncertainty::Entropy.uncertainty(&[0.25; 4]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn gates_compare_with_the_predicted_class() {
        let scores = [0.7, 0.2, 0.1];
        let universal = |t| Gate::Uncertainty {
            measure: Uncertainty::LeastConfidence,
            threshold: Threshold::Universal(t),
        };
        assert!(universal(0.31).accepts(0, &scores) && !universal(0.29).accepts(0, &scores));
        let per_class = Gate::Uncertainty {
            measure: Uncertainty::LeastConfidence,
            threshold: Threshold::PerClass(vec![0.5, 0.1]),
        };
        assert!(per_class.accepts(0, &scores));
        assert!(!per_class.accepts(1, &scores) && !per_class.accepts(2, &scores));
        assert!(!Gate::never().accepts(0, &[1.0, 0.0]));
        for measure in Uncertainty::ALL {
            let gate = Gate::Uncertainty { measure, threshold: Threshold::Universal(0.99) };
            assert!(!gate.accepts(0, &[f32::NAN, f32::NAN]), "{measure:?}");
            // One that is no number beside one that looks sure, at the widest gate.
            let gate = Gate::Uncertainty { measure, threshold: Threshold::Universal(1.0) };
            for scores in [[0.95, f32::NAN], [f32::NAN, 0.95], [f32::INFINITY, 0.0]] {
                assert!(!gate.accepts(0, &scores), "{measure:?} {scores:?}");
            }
            assert!(gate.accepts(0, &[0.5, 0.5]), "{measure:?}");
        }
    }

    #[test]
    fn ties_go_to_the_lowest_class() {
        assert_eq!(best_class(&[0.5, 0.5]), (0, 0.5));
        assert_eq!(best_class(&[f32::NAN]), (0, 0.0));
    }
}
