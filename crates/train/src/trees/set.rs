//! What a trainer learns from.

use super::{BitMatrix, TrainError};
use serveflow_model::forest::MAX_CLASSES;

/// Rows as planes, with a label and a weight each.
#[derive(Clone, Debug)]
pub struct TrainSet {
    matrix: BitMatrix,
    labels: Vec<u16>,
    weights: Vec<f32>,
    classes: usize,
}

impl TrainSet {
    /// Puts a set together; no `weights` at all means that every row weighs 1.
    ///
    /// A class may be without rows, and all rows may be of one class: the model is then constant.
    ///
    /// # Errors
    /// When lengths differ, a label is no class, or the weights are not finite and positive in sum.
    pub fn new(
        matrix: BitMatrix,
        labels: Vec<u16>,
        mut weights: Vec<f32>,
        classes: usize,
    ) -> Result<Self, TrainError> {
        let expected = matrix.rows();
        if expected == 0 || u32::try_from(expected).is_err() {
            return Err(TrainError::Rows { found: expected });
        }
        if weights.is_empty() {
            weights.resize(expected, 1.0);
        }
        for (what, found) in [("labels", labels.len()), ("weights", weights.len())] {
            if found != expected {
                return Err(TrainError::Length { what, expected, found });
            }
        }
        if classes == 0 || classes > MAX_CLASSES {
            return Err(TrainError::Classes { found: classes });
        }
        if let Some(row) = labels.iter().position(|label| usize::from(*label) >= classes) {
            return Err(TrainError::Label { row, label: labels[row], classes });
        }
        if let Some(row) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
            return Err(TrainError::Weight { row });
        }
        if weights.iter().all(|w| *w == 0.0) {
            return Err(TrainError::NoWeight);
        }
        Ok(Self { matrix, labels, weights, classes })
    }

    /// The planes.
    #[must_use]
    pub fn matrix(&self) -> &BitMatrix {
        &self.matrix
    }

    /// The class of each row.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The weight of each row.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The weight of each class: the sum over its rows.
    #[must_use]
    pub fn class_weights(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes];
        for (label, weight) in self.labels.iter().zip(&self.weights) {
            sums[usize::from(*label)] += f64::from(*weight);
        }
        sums
    }
}
