//! A model whose outputs are logits: their softmax are the probabilities.

use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::sync::Arc;

/// The same model with the softmax of its outputs as its answer.
#[must_use]
pub fn as_probabilities(model: Arc<dyn Model>) -> Arc<dyn Model> {
    Arc::new(Finished { inner: model, finish: softmax })
}

/// The same model, which fails where its outputs are no probabilities.
#[must_use]
pub fn checked(model: Arc<dyn Model>) -> Arc<dyn Model> {
    Arc::new(Finished { inner: model, finish: check })
}

/// A model, and what is done with the outputs of each row.
#[derive(Debug)]
struct Finished {
    inner: Arc<dyn Model>,
    finish: fn(&mut [f32]) -> Result<(), ScoreError>,
}

impl Model for Finished {
    fn shape(&self) -> RowShape {
        self.inner.shape()
    }

    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        self.inner.score(rows, scores)?;
        (0..scores.len()).try_for_each(|row| (self.finish)(scores.row_mut(row)))
    }
}

/// How far a probability may be beside 0 to 1, by rounding.
const SLACK: f32 = 1e-3;

fn check(row: &mut [f32]) -> Result<(), ScoreError> {
    let is_share = |score: &&f32| (-SLACK..=1.0 + SLACK).contains(*score);
    let Some(found) = row.iter().find(|score| !is_share(score)) else { return Ok(()) };
    let message = format!(
        "expected probabilities, found {found}; declare outputs that are logits (`logits` of the \
         stage's model, --logits of `bundle add`)"
    );
    Err(ScoreError { message })
}

fn softmax(row: &mut [f32]) -> Result<(), ScoreError> {
    // The largest becomes 1, so that nothing overflows.
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Logits([f32; 3]);

    #[test]
    fn outputs_that_are_no_probabilities_are_told() {
        let mut rows = Rows::default();
        rows.push();
        let score = |scores: [f32; 3]| {
            checked(Arc::new(Logits(scores)))
                .score(&rows, &mut Scores::default())
                .map_err(|e| e.message)
        };
        assert_eq!(score([0.5, 0.5, -1e-7]), Ok(()));
        for wrong in [[3.0, 0.0, 0.0], [0.0, -0.5, 0.0], [f32::NAN, 0.0, 0.0]] {
            let error = score(wrong).unwrap_err();
            assert!(
                error.contains("expected probabilities") && error.contains("--logits"),
                "{error}"
            );
        }
    }

    impl Model for Logits {
        fn shape(&self) -> RowShape {
            RowShape::default()
        }
        fn classes(&self) -> usize {
            3
        }
        fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
            scores.reset(rows.len(), 3);
            (0..rows.len()).for_each(|row| scores.row_mut(row).copy_from_slice(&self.0));
            Ok(())
        }
    }

    fn scored(logits: [f32; 3]) -> Vec<f32> {
        let model = as_probabilities(Arc::new(Logits(logits)));
        let (mut rows, mut scores) = (Rows::default(), Scores::default());
        rows.push();
        rows.push();
        model.score(&rows, &mut scores).unwrap();
        assert_eq!((scores.len(), scores.row(0)), (2, scores.row(1)));
        scores.row(0).to_vec()
    }

    #[test]
    fn logits_become_probabilities() {
        assert_eq!(scored([5.0; 3]), [1.0 / 3.0; 3]);
        let logs = [0.5f32, 0.3, 0.2].map(f32::ln);
        let close = |(a, b): (&f32, f32)| (a - b).abs() < 1e-6;
        assert!(scored(logs).iter().zip([0.5, 0.3, 0.2]).all(close));
        assert_eq!(scored([3e38, -3e38, 0.0]), [1.0, 0.0, 0.0]);
    }
}
