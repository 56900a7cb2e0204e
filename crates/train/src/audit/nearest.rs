//! The baseline: the labels of the nearest training flows, by sizes, gaps and directions alone.
//!
//! Columns are standardised on the training flows, so that each weighs the same; gaps are taken as
//! `ln(1 + gap)` before, because a single long pause would outweigh all else. Distances are
//! Euclidean, all pairs are compared. Of equally near flows the earlier training flow counts; when
//! labels have the same votes, the one whose vote is nearest wins.

use super::spread::spread;
use crate::dataset::Dataset;
use crate::metrics::Confusion;
use serveflow_core::rows::{Column, Place};

/// Numbers of neighbours that are tried.
pub(super) const TRIED: [usize; 3] = [1, 3, 5];
const MOST: usize = TRIED[TRIED.len() - 1];
/// Columns of `packet_series` that the baseline looks at: what needs no header beyond lengths.
pub(super) const COLUMNS: [&str; 3] = ["size", "gap_us", "direction"];

/// Training points, column by column.
#[derive(Clone, Debug)]
pub(super) struct Neighbours {
    columns: Vec<Vec<f32>>,
    labels: Vec<u16>,
}

/// Flows as standardised points, flow by flow.
pub(super) struct Points {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

/// Standardises points by the mean and deviation of the first `by` of them; a column that is always
/// the same there is 0 everywhere.
pub(super) fn standardise(points: &mut Points, by: usize) {
    let width = points.width;
    for column in 0..width {
        let own =
            || points.values.iter().skip(column).step_by(width).take(by).map(|&v| f64::from(v));
        let mean = own().sum::<f64>() / by.max(1) as f64;
        let deviation = (own().map(|v| (v - mean).powi(2)).sum::<f64>() / by.max(1) as f64).sqrt();
        for value in points.values.iter_mut().skip(column).step_by(width) {
            let centred = f64::from(*value) - mean;
            *value = if deviation > 0.0 { (centred / deviation) as f32 } else { 0.0 };
        }
    }
}

/// The raw points of some flows at a stage that holds `packet_series`.
pub(super) fn points(dataset: &Dataset, stage: usize, flows: &[usize]) -> Points {
    let wanted = |column: &&Column| COLUMNS.contains(&super::fields::field_name(&column.name));
    let columns: Vec<&Column> = dataset.columns[stage].iter().filter(wanted).collect();
    let rows = &dataset.rows[stage];
    let value = |flow: usize, column: &Column| {
        let Place::Number(index) = column.place else { return 0.0 };
        let number = rows.numbers(flow)[index as usize];
        // A packet that never came has a gap of -1, which stays apart from a gap of 0.
        if column.name.ends_with("gap_us") && number > 0.0 { number.ln_1p() } else { number }
    };
    let values =
        flows.iter().flat_map(|&flow| columns.iter().map(move |column| value(flow, column)));
    Points { width: columns.len(), values: values.collect() }
}

impl Neighbours {
    /// Keeps the first points with their labels.
    pub(super) fn new(points: &Points, labels: Vec<u16>) -> Self {
        let column = |column: usize| {
            points.values.iter().skip(column).step_by(points.width).take(labels.len()).copied()
        };
        let columns = (0..points.width).map(|at| column(at).collect()).collect();
        Self { columns, labels }
    }

    /// The nearest training flows of a point, nearest first.
    fn nearest(&self, point: &[f32]) -> Vec<usize> {
        let mut squares = vec![0.0_f32; self.labels.len()];
        for (column, &value) in self.columns.iter().zip(point) {
            for (square, &other) in squares.iter_mut().zip(column) {
                *square += (value - other) * (value - other);
            }
        }
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(MOST + 1);
        for (index, &square) in squares.iter().enumerate() {
            if best.len() < MOST || square < best[MOST - 1].0 {
                let at = best.partition_point(|&(other, _)| other <= square);
                best.insert(at, (square, index));
                best.truncate(MOST);
            }
        }
        best.into_iter().map(|(_, index)| index).collect()
    }

    /// The answers to some points: one list for each number of neighbours of [`TRIED`].
    pub(super) fn answers(&self, points: &[f32], threads: usize) -> Vec<Vec<u16>> {
        let width = self.columns.len();
        let count = points.len().checked_div(width).unwrap_or(0);
        let votes = spread(threads, count, |at| {
            let near = self.nearest(&points[at * width..(at + 1) * width]);
            let labels: Vec<u16> = near.iter().map(|&index| self.labels[index]).collect();
            TRIED.map(|k| vote(&labels[..k.min(labels.len())]))
        });
        (0..TRIED.len()).map(|k| votes.iter().map(|answers| answers[k]).collect()).collect()
    }
}

/// The label with the most votes; of several, the one that comes first.
fn vote(labels: &[u16]) -> u16 {
    let votes = |label: &u16| labels.iter().filter(|other| *other == label).count();
    let most = labels.iter().map(votes).max().unwrap_or(0);
    labels.iter().copied().find(|label| votes(label) == most).unwrap_or(0)
}

/// The entry of [`TRIED`] with the best macro-F1, of several the first, and all macro-F1s.
pub(super) fn choose_k(classes: usize, truth: &[u16], answers: &[Vec<u16>]) -> (usize, Vec<f64>) {
    let f1 = |answers: &Vec<u16>| {
        Confusion::of(classes, truth.iter().copied().zip(answers.iter().copied())).macro_f1()
    };
    let f1s: Vec<f64> = answers.iter().map(f1).collect();
    let best = (0..f1s.len()).rev().max_by(|&a, &b| f1s[a].total_cmp(&f1s[b]));
    (best.unwrap_or(0), f1s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeMap;

    /// Small whole numbers, so that many distances are equal.
    fn cloud(seed: u64, count: usize, width: usize) -> Points {
        let mut random = Random::new(&[seed]);
        let values = (0..count * width).map(|_| random.below(4) as f32).collect();
        Points { width, values }
    }

    /// The obvious way: sort all training flows by distance, then count.
    fn twin(train: &Points, labels: &[u16], point: &[f32], k: usize) -> u16 {
        let distance = |index: usize| -> f64 {
            let other = &train.values[index * train.width..(index + 1) * train.width];
            point.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)).then(a.cmp(&b)));
        let mut votes: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        for (rank, &index) in order.iter().take(k).enumerate() {
            votes.entry(labels[index]).or_insert((0, rank)).0 += 1;
        }
        let best = votes.iter().max_by_key(|(_, (count, rank))| (*count, usize::MAX - rank));
        *best.unwrap().0
    }

    #[test]
    fn the_obvious_way_gives_the_same_answers() {
        for seed in 0..20 {
            let (train, asked) = (cloud(seed, 30 + seed as usize, 3), cloud(seed + 100, 40, 3));
            let mut random = Random::new(&[seed, 9]);
            let labels: Vec<u16> =
                (0..train.values.len() / 3).map(|_| random.below(4) as u16).collect();
            let known = Neighbours::new(&train, labels.clone());
            let answers = known.answers(&asked.values, 1 + seed as usize % 3);
            for (k, answers) in TRIED.iter().zip(answers) {
                let points = asked.values.chunks_exact(3);
                let expected: Vec<u16> =
                    points.map(|point| twin(&train, &labels, point, *k)).collect();
                assert_eq!(answers, expected, "seed {seed}, {k} neighbours");
            }
        }
    }

    #[test]
    fn fewer_training_flows_than_neighbours_all_vote() {
        let train = Points { width: 1, values: vec![0.0, 1.0] };
        let known = Neighbours::new(&train, vec![4, 2]);
        assert_eq!(known.answers(&[0.9], 1), vec![vec![2]; 3]);
    }

    #[test]
    fn training_flows_have_mean_0_and_deviation_1_and_others_do_not_count() {
        let mut points = Points { width: 2, values: vec![1.0, 5.0, 3.0, 5.0, 1000.0, 7.0] };
        standardise(&mut points, 2);
        assert_eq!(points.values, [-1.0, 0.0, 1.0, 0.0, 998.0, 0.0]);
    }

    #[test]
    fn the_best_number_of_neighbours_wins_and_the_fewest_of_several() {
        let truth = [0, 1, 0, 1];
        let (good, bad) = (vec![0, 1, 0, 1], vec![0, 0, 0, 1]);
        assert_eq!(choose_k(2, &truth, &[bad.clone(), good.clone(), good.clone()]).0, 1);
        assert_eq!(choose_k(2, &truth, &[good, bad.clone(), bad]).0, 0);
    }
}
