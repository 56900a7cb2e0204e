//! The open set: are an answer's scores so odd that the flow is likely of no class that was
//! learned?

use crate::gate::Uncertainty;

/// What outputs say in place of a label where the flow is likely of no class that was learned.
pub const UNKNOWN: &str = "unknown";

/// A stage's rule: which of its answers say "unknown" when they are a flow's last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenSet {
    /// How odd scores are.
    pub score: Uncertainty,
    /// Up to which oddness the answer is taken for one of the classes.
    pub threshold: f32,
}

impl OpenSet {
    /// Whether scores are odder than the threshold. Scores that are no numbers always are.
    #[must_use]
    pub fn is_unknown(&self, scores: &[f32]) -> bool {
        !scores.iter().all(|score| score.is_finite())
            || self.score.uncertainty(scores) > self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odder_than_the_threshold_is_unknown() {
        for score in Uncertainty::ALL {
            let rule = OpenSet { score, threshold: 0.5 };
            assert!(!rule.is_unknown(&[0.98, 0.01, 0.01]), "{score:?}");
            assert!(rule.is_unknown(&[0.4, 0.3, 0.3]), "{score:?}");
            assert!(rule.is_unknown(&[f32::NAN, 1.0, 0.0]), "{score:?}");
            let at = score.uncertainty(&[0.7, 0.2, 0.1]);
            assert!(!OpenSet { score, threshold: at }.is_unknown(&[0.7, 0.2, 0.1]), "{score:?}");
        }
    }
}
