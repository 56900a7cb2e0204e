//! Decision trees: the best split of every node, depth first.

mod counts;
mod draw;
mod grow;
pub(super) mod search;

pub(super) use draw::ColumnSample;
pub(super) use grow::Learner;

use super::error::require;
use super::{TrainError, TrainSet};
use serveflow_model::forest::{Forest, ForestKind};

/// What a split should lessen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Criterion {
    /// The chance that two rows of a node differ in class.
    #[default]
    Gini,
    /// The information that the class of a row gives.
    Entropy,
}

/// How a decision tree grows.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeParams {
    /// What a split should lessen.
    pub criterion: Criterion,
    /// Tests from the root to a leaf, at most.
    pub max_depth: usize,
    /// Rows in a leaf, at least, whatever they weigh.
    pub min_leaf: usize,
    /// Weight added to every class in a leaf before shares are taken (Laplace smoothing).
    pub smoothing: f64,
    /// Factor to the weight of each class's rows; empty for 1.
    pub class_weights: Vec<f64>,
}

impl Default for TreeParams {
    fn default() -> Self {
        Self {
            criterion: Criterion::Gini,
            max_depth: 12,
            min_leaf: 1,
            smoothing: 0.0,
            class_weights: Vec::new(),
        }
    }
}

impl TreeParams {
    /// Refuses what no tree can grow by.
    pub(super) fn check(&self, classes: usize) -> Result<(), TrainError> {
        let weights = &self.class_weights;
        let fine = |x: f64| x.is_finite() && x >= 0.0;
        require(self.min_leaf > 0, "min_leaf", "at least 1")?;
        require(fine(self.smoothing), "smoothing", "finite and not negative")?;
        let each = weights.iter().all(|w| w.is_finite() && *w > 0.0);
        let fits = weights.is_empty() || weights.len() == classes;
        require(fits && each, "class_weights", "a positive number for each class, or none")
    }
}

/// Trains one decision tree. Of equally good splits the one with the lowest plane is taken.
///
/// As in scikit-learn, a node that holds more than one class is split even where the best split
/// gains nothing, because its children may (think of exclusive-or).
///
/// # Errors
/// When a parameter is out of range.
pub fn train_tree(set: &TrainSet, params: &TreeParams) -> Result<Forest, TrainError> {
    params.check(set.classes())?;
    let learner = Learner::new(set, params);
    let tree = learner.grow(learner.rows_by_class(), None);
    let shape = set.matrix().shape();
    let forest = Forest::new(shape, set.classes(), ForestKind::Averaged, vec![tree]);
    Ok(forest.expect("a grown tree keeps what a forest guarantees"))
}
