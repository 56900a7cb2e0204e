//! Confidence as a share of right answers: what a model calls its probability is often too high.
//!
//! A rising step function from a model's probability of its answer to the share of such answers
//! that are right, as isotonic regression fits it (Zadrozny and Elkan, "Transforming Classifier
//! Scores into Accurate Multiclass Probability Estimates", 2002). It changes what a verdict says of
//! itself, and no answer: gates go by the probabilities as they are.

/// Steps of a rising function; without steps, confidence is left as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    steps: Vec<(f32, f32)>,
}

impl Calibration {
    /// Steps, each with the lowest probability that it holds for and the share of right answers.
    ///
    /// # Errors
    /// When a number is not from 0 to 1, or does not rise from step to step (shares may stay).
    pub fn new(steps: Vec<(f32, f32)>) -> Result<Self, String> {
        let is_share = |value: f32| (0.0..=1.0).contains(&value);
        if let Some((from, share)) = steps.iter().find(|s| !is_share(s.0) || !is_share(s.1)) {
            return Err(format!("expected numbers from 0 to 1, found [{from}, {share}]"));
        }
        match steps.windows(2).find(|pair| pair[0].0 >= pair[1].0 || pair[0].1 > pair[1].1) {
            None => Ok(Self { steps }),
            Some(pair) => Err(format!(
                "expected rising steps, found [{}, {}] before [{}, {}]",
                pair[0].0, pair[0].1, pair[1].0, pair[1].1
            )),
        }
    }

    /// The share of right answers at a probability: that of the step it falls in, of the first one
    /// below all.
    #[must_use]
    #[inline]
    pub fn at(&self, probability: f32) -> f32 {
        let above = self.steps.partition_point(|step| step.0 <= probability);
        self.steps.get(above.saturating_sub(1)).map_or(probability, |step| step.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_has_the_share_of_its_step() {
        let own = Calibration::new(vec![(0.5, 0.3), (0.8, 0.3), (0.9, 1.0)]).unwrap();
        for (probability, share) in
            [(0.0, 0.3), (0.5, 0.3), (0.89, 0.3), (0.9, 1.0), (1.0, 1.0), (f32::NAN, 0.3)]
        {
            assert_eq!(own.at(probability).to_bits(), f32::to_bits(share), "{probability}");
        }
        assert_eq!(Calibration::default().at(0.7).to_bits(), 0.7_f32.to_bits());
    }

    #[test]
    fn steps_that_do_not_rise_are_refused() {
        for steps in [
            vec![(0.5, 0.3), (0.5, 0.4)],
            vec![(0.5, 0.3), (0.6, 0.2)],
            vec![(0.5, f32::NAN)],
            vec![(-0.1, 0.3)],
            vec![(0.1, 1.3)],
        ] {
            assert!(Calibration::new(steps.clone()).unwrap_err().contains("expected"), "{steps:?}");
        }
    }
}
