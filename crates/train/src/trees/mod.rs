//! Training of decision trees, random forests and gradient-boosted trees on bits.
//!
//! A [`BitMatrix`] turns rows into **planes**: one bit per row for each question that a tree may
//! ask ("is this header bit set?", "is its word there?", "is this number above 57.5?"). A
//! [`TrainSet`] adds labels and weights. All three trainers take such a set and give a
//! [`Forest`](serveflow_model::forest::Forest) that asks the same questions of raw rows. The same
//! set, parameters and seed give the same forest to the last byte, on any number of threads.

mod boost;
mod cuts;
mod decision;
mod error;
mod kernel;
mod matrix;
mod random_forest;
mod set;
#[cfg(test)]
mod tests;

pub use boost::{BoostParams, Boosted, train_boosted};
pub use cuts::cuts;
pub use decision::{Criterion, TreeParams, train_tree};
pub use error::TrainError;
pub use matrix::{BitMatrix, MAX_CUTS};
pub use random_forest::{ForestParams, train_forest};
pub use set::TrainSet;

/// How far a trainer has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Trees or rounds that are done.
    pub done: usize,
    /// Trees or rounds that were asked for.
    pub total: usize,
    /// Mean log-loss on the validation set, where there is one.
    pub validation_loss: Option<f64>,
}
