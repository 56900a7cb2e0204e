//! A model whose classes stand in another order than the labels, or are fewer.

use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Why classes are no labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassError {
    /// The model has another number of classes than are named.
    Count {
        /// Classes that are named.
        expected: usize,
        /// Classes of the model.
        found: usize,
    },
    /// A class is no label.
    Unknown {
        /// Index among the model's classes.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A class is named twice.
    Twice {
        /// Index of the second.
        index: usize,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { expected, found } => {
                write!(f, "{expected} classes are named, the model has {found}")
            }
            Self::Unknown { index, name } => {
                write!(f, "class {index}, `{name}`, is none of the plan's labels")
            }
            Self::Twice { index, name } => {
                write!(f, "class {index}, `{name}`: expected once, found twice")
            }
        }
    }
}

impl std::error::Error for ClassError {}

/// The same model with the labels as its classes. A label that the model does not know has
/// probability 0.
///
/// # Errors
/// When the named classes are not the model's, or no labels.
pub fn as_labels(
    model: Arc<dyn Model>,
    classes: &[String],
    labels: &[String],
) -> Result<Arc<dyn Model>, ClassError> {
    if model.classes() != classes.len() {
        return Err(ClassError::Count { expected: classes.len(), found: model.classes() });
    }
    let mut to = Vec::with_capacity(classes.len());
    for (index, name) in classes.iter().enumerate() {
        let label = labels.iter().position(|label| label == name);
        let label = label.ok_or_else(|| ClassError::Unknown { index, name: name.clone() })?;
        if to.contains(&label) {
            return Err(ClassError::Twice { index, name: name.clone() });
        }
        to.push(label);
    }
    if to.iter().copied().eq(0..labels.len()) {
        return Ok(model);
    }
    Ok(Arc::new(Labelled { inner: model, to, labels: labels.len() }))
}

#[derive(Debug)]
struct Labelled {
    inner: Arc<dyn Model>,
    /// The label of each class.
    to: Vec<usize>,
    labels: usize,
}

thread_local! {
    static OWN: RefCell<Scores> = RefCell::default();
}

impl Model for Labelled {
    fn shape(&self) -> RowShape {
        self.inner.shape()
    }

    fn classes(&self) -> usize {
        self.labels
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let mut own = OWN.take();
        let scored = self.inner.score(rows, &mut own);
        if scored.is_ok() {
            scores.reset(own.len(), self.labels);
            for row in 0..own.len() {
                let out = scores.row_mut(row);
                self.to.iter().zip(own.row(row)).for_each(|(&to, &score)| out[to] = score);
            }
        }
        OWN.set(own);
        scored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Three;

    impl Model for Three {
        fn shape(&self) -> RowShape {
            RowShape::default()
        }
        fn classes(&self) -> usize {
            3
        }
        fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
            scores.reset(rows.len(), 3);
            (0..rows.len()).for_each(|row| scores.row_mut(row).copy_from_slice(&[0.5, 0.3, 0.2]));
            Ok(())
        }
    }

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn scores_stand_under_their_labels() {
        let model = as_labels(Arc::new(Three), &names("c a x"), &names("a b c x")).unwrap();
        let mut rows = Rows::default();
        rows.push();
        rows.push();
        let mut scores = Scores::default();
        model.score(&rows, &mut scores).unwrap();
        assert_eq!((scores.row(0), scores.row(1)), (&[0.3, 0.0, 0.5, 0.2][..], scores.row(0)));
        assert_eq!(model.classes(), 4);
    }

    #[test]
    fn classes_that_are_no_labels_are_named() {
        let refused = |classes: &str| {
            let model = as_labels(Arc::new(Three), &names(classes), &names("a b c"));
            model.unwrap_err().to_string()
        };
        assert_eq!(refused("a b"), "2 classes are named, the model has 3");
        assert_eq!(refused("a d b"), "class 1, `d`, is none of the plan's labels");
        assert_eq!(refused("a b a"), "class 2, `a`: expected once, found twice");
    }
}
