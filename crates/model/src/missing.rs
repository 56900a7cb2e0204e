//! A model that was trained with a number in the place of what was missing.
//!
//! A model file does not say so: XGBoost keeps `missing=` out of it, and a sparse matrix leaves
//! zeros out. Where a header bit has this value is known when the model is bound; numbers are
//! replaced in a copy of the rows, since forests know what to do about a number that is missing,
//! and a test of one more value at each split would make trees grow without bound.

use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::cell::RefCell;
use std::sync::Arc;

/// The same model, to which each number of this value is missing.
#[must_use]
pub fn with_missing(model: Arc<dyn Model>, missing: f32) -> Arc<dyn Model> {
    if model.shape().numbers == 0 {
        return model;
    }
    Arc::new(Replaced { inner: model, missing })
}

#[derive(Debug)]
struct Replaced {
    inner: Arc<dyn Model>,
    missing: f32,
}

thread_local! {
    static COPY: RefCell<Rows> = RefCell::default();
}

impl Model for Replaced {
    fn shape(&self) -> RowShape {
        self.inner.shape()
    }

    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let mut copy = COPY.take();
        copy.clear();
        if copy.shape() != rows.shape() {
            copy = Rows::with_capacity(rows.shape(), rows.len());
        }
        for row in 0..rows.len() {
            let (words, numbers) = copy.push();
            words.copy_from_slice(rows.words(row));
            for (to, &from) in numbers.iter_mut().zip(rows.numbers(row)) {
                *to = if from == self.missing { f32::NAN } else { from };
            }
        }
        let scored = self.inner.score(&copy, scores);
        COPY.set(copy);
        scored
    }
}
