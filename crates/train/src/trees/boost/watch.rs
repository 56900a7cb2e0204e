//! The loss on other rows than the training rows, round by round.

use super::loss::log_loss;
use super::plane_tree::PlaneTree;
use super::start;
use crate::trees::TrainSet;

/// The validation set as it is scored so far.
pub(super) struct Watch<'a> {
    set: &'a TrainSet,
    scores: Vec<f64>,
    pub(super) losses: Vec<f64>,
    /// Rounds up to and with the best one.
    pub(super) best: usize,
    least: f64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(set: &'a TrainSet, base: &[f32]) -> Self {
        let scores = start(base, set.matrix().rows());
        let least = log_loss(set, &scores);
        Self { set, scores, losses: Vec::new(), best: 0, least }
    }

    /// Adds a round and returns the loss after it.
    pub(super) fn add(&mut self, trees: &[PlaneTree]) -> f64 {
        let rows = self.set.matrix().rows();
        for (tree, scores) in trees.iter().zip(self.scores.chunks_mut(rows)) {
            for (row, score) in scores.iter_mut().enumerate() {
                *score += tree.value(self.set.matrix(), row);
            }
        }
        let loss = log_loss(self.set, &self.scores);
        self.losses.push(loss);
        if loss < self.least {
            (self.least, self.best) = (loss, self.losses.len());
        }
        loss
    }
}
