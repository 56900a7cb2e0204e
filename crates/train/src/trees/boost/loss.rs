//! Softmax over scores that stand class after class.

use crate::trees::TrainSet;

/// For each row, the log of the sum over classes of the exponentials of its scores. The
/// probability of a class is then `exp(score - log_sum)`.
pub(super) fn log_sums(scores: &[f64], rows: usize) -> Vec<f64> {
    let mut top = vec![f64::NEG_INFINITY; rows];
    for class in scores.chunks_exact(rows) {
        top.iter_mut().zip(class).for_each(|(top, score)| *top = top.max(*score));
    }
    let mut sums = vec![0.0; rows];
    for class in scores.chunks_exact(rows) {
        for ((sum, top), score) in sums.iter_mut().zip(&top).zip(class) {
            *sum += (score - top).exp();
        }
    }
    sums.iter_mut().zip(&top).for_each(|(sum, top)| *sum = top + sum.ln());
    sums
}

/// Most that a row counts in the log-loss: a probability of 1e-15, as LightGBM has it.
///
/// A row of a class that training never saw is answered ever worse the surer the others become.
/// Without an end to that, a handful of such rows would stop boosting in its first rounds.
const MOST_LOSS: f64 = 34.538_776_394_910_684;

/// Mean log-loss of the set's rows, by weight.
pub(super) fn log_loss(set: &TrainSet, scores: &[f64]) -> f64 {
    let rows = set.matrix().rows();
    let (mut sum, mut weights) = (0.0, 0.0);
    for (row, log_sum) in log_sums(scores, rows).iter().enumerate() {
        let weight = f64::from(set.weights()[row]);
        let loss = log_sum - scores[usize::from(set.labels()[row]) * rows + row];
        sum += weight * loss.min(MOST_LOSS);
        weights += weight;
    }
    sum / weights
}
