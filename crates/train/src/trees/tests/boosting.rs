//! Boosted trees: laws, and an obvious twin in floats.

use super::*;
use crate::trees::{BoostParams, Boosted, Progress, TrainError, train_boosted};

fn boost(set: &TrainSet, params: &BoostParams) -> Boosted {
    train_boosted(set, None, params, &mut |_| {}).unwrap()
}

fn small() -> BoostParams {
    BoostParams { rounds: 12, max_leaves: 8, min_leaf: 5, ..BoostParams::default() }
}

/// A leaf of the twin: its rows, and the best split with its gain.
type TwinLeaf = (Vec<usize>, Option<(f64, usize)>);

/// The best split of rows by sums of floats.
fn twin_split(
    set: &TrainSet,
    rows: &[usize],
    g: &[f64],
    h: &[f64],
    params: &BoostParams,
) -> Option<(f64, usize)> {
    let worth = |rows: &[usize]| {
        let (g, h) = rows.iter().fold((0.0, 0.0), |(a, b), row| (a + g[*row], b + h[*row]));
        (g * g / (h + params.l2 + 1e-15), h)
    };
    let mut best = None;
    for plane in 0..set.matrix().tests().len() {
        let (right, left): (Vec<_>, Vec<_>) =
            rows.iter().copied().partition(|row| set.matrix().passes(*row, plane));
        if left.len().min(right.len()) < params.min_leaf {
            continue;
        }
        let ((a, ha), (b, hb)) = (worth(&left), worth(&right));
        let gain = a + b - worth(rows).0;
        let fits = ha.min(hb) >= params.min_hessian && gain > 0.0;
        if fits && best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, plane));
        }
    }
    best
}

/// Boosting as in a textbook; returns the loss on other rows after all rounds.
fn twin(set: &TrainSet, other: &TrainSet, params: &BoostParams) -> f64 {
    let classes = set.classes();
    let base: Vec<f64> = set.class_weights();
    let sum: f64 = base.iter().sum();
    let start: Vec<f64> = base.iter().map(|w| (w / sum).ln()).collect();
    let mut scores = vec![start.clone(); set.matrix().rows()];
    let mut others = vec![start; other.matrix().rows()];
    let softmax = |s: &[f64], k: usize| s[k].exp() / s.iter().map(|x| x.exp()).sum::<f64>();
    for _ in 0..params.rounds {
        let before = scores.clone();
        for class in 0..classes {
            let p: Vec<f64> = before.iter().map(|s| softmax(s, class)).collect();
            let y = |row: usize| f64::from(u8::from(usize::from(set.labels()[row]) == class));
            let w = |row: usize| f64::from(set.weights()[row]);
            let g: Vec<f64> = (0..p.len()).map(|row| w(row) * (p[row] - y(row))).collect();
            let factor = classes as f64 / (classes as f64 - 1.0);
            let h: Vec<f64> =
                (0..p.len()).map(|row| w(row) * factor * p[row] * (1.0 - p[row])).collect();
            let all: Vec<usize> = (0..p.len()).collect();
            let first = twin_split(set, &all, &g, &h, params);
            let mut leaves: Vec<(TwinLeaf, Vec<usize>)> =
                vec![((all, first), (0..others.len()).collect())];
            while leaves.len() < params.max_leaves {
                let gain = |leaf: &(TwinLeaf, Vec<usize>)| leaf.0.1.map_or(0.0, |(gain, _)| gain);
                let best = (0..leaves.len())
                    .max_by(|a, b| gain(&leaves[*a]).total_cmp(&gain(&leaves[*b])))
                    .unwrap();
                let Some((_, plane)) = leaves[best].0.1 else {
                    break;
                };
                let ((rows, _), theirs) = leaves.swap_remove(best);
                for side in [false, true] {
                    let on = |m: &BitMatrix, rows: &[usize]| -> Vec<usize> {
                        rows.iter().copied().filter(|row| m.passes(*row, plane) == side).collect()
                    };
                    let rows = on(set.matrix(), &rows);
                    let split = twin_split(set, &rows, &g, &h, params);
                    leaves.push(((rows, split), on(other.matrix(), &theirs)));
                }
            }
            for ((rows, _), theirs) in &leaves {
                let (g, h) = rows.iter().fold((0.0, 0.0), |(a, b), r| (a + g[*r], b + h[*r]));
                let value = -g / (h + params.l2) * params.learning_rate;
                rows.iter().for_each(|row| scores[*row][class] += value);
                theirs.iter().for_each(|row| others[*row][class] += value);
            }
        }
    }
    let label = |row: usize| usize::from(other.labels()[row]);
    let each = others.iter().enumerate().map(|(row, s)| -softmax(s, label(row)).ln());
    each.sum::<f64>() / others.len() as f64
}

fn with_weights(set: &TrainSet, weights: Vec<f32>) -> TrainSet {
    TrainSet::new(set.matrix().clone(), set.labels().to_vec(), weights, set.classes()).unwrap()
}

#[test]
fn quantised_boosting_is_as_good_as_the_twin_in_floats() {
    for (seed, weighted) in [(1, false), (2, false), (3, true), (4, true)] {
        let (rows, labels) = data(seed, 500, 4);
        let (other_rows, other_labels) = data(seed + 100, 500, 4);
        let matrix = BitMatrix::new(&rows, &columns(), 15).unwrap();
        let other_matrix = matrix.same_planes(&other_rows).unwrap();
        let mut set = TrainSet::new(matrix, labels, vec![], 4).unwrap();
        if weighted {
            // Weights over three orders of magnitude, which share one quantisation step.
            let mut random = Random::new(&[seed]);
            let weight = |_| 10f32.powf(random.below(300) as f32 / 100.0 - 1.5);
            set = with_weights(&set, (0..500).map(weight).collect());
        }
        let other = TrainSet::new(other_matrix, other_labels.clone(), vec![], 4).unwrap();
        let params = BoostParams { learning_rate: 0.2, ..small() };
        let twin = twin(&set, &other, &params);
        let ours = loss(&boost(&set, &params).forest, &other_rows, &other_labels);
        assert!((ours - twin).abs() < 0.04 * twin, "seed {seed}: {ours} twin {twin}");
    }
}

#[test]
fn a_seed_is_a_model_whatever_the_threads() {
    let set = set(5, 700, 5);
    let train = |seed, threads| {
        let params =
            BoostParams { seed, threads, row_fraction: 0.7, column_fraction: 0.5, ..small() };
        boost(&set, &params).forest.to_json()
    };
    let one = train(1, 1);
    assert!(one == train(1, 2) && one == train(1, 64) && one != train(2, 1));
}

#[test]
fn training_loss_falls_round_by_round_and_reports_tell_it() {
    let set = set(6, 600, 4);
    let mut reports: Vec<Progress> = Vec::new();
    let boosted = train_boosted(&set, Some(&set), &small(), &mut |report| {
        reports.push(report);
    })
    .unwrap();
    assert_eq!(reports.len(), 12);
    assert!(boosted.validation_losses.windows(2).all(|pair| pair[1] < pair[0]));
    assert_eq!(reports[11].validation_loss, boosted.validation_losses.last().copied());
    let (rows, labels) = data(6, 600, 4);
    let scored = loss(&boosted.forest, &rows, &labels);
    assert!((scored - boosted.validation_losses[11]).abs() < 1e-5);
}

#[test]
fn patience_keeps_the_best_round() {
    let (rows, labels) = data(7, 150, 3);
    let (other, other_labels) = data(8, 400, 3);
    let matrix = BitMatrix::new(&rows, &columns(), 255).unwrap();
    let other = matrix.same_planes(&other).unwrap();
    let set = TrainSet::new(matrix, labels, vec![], 3).unwrap();
    let other = TrainSet::new(other, other_labels, vec![], 3).unwrap();
    let params =
        BoostParams { rounds: 200, learning_rate: 0.5, patience: Some(5), min_leaf: 2, ..small() };
    let boosted = train_boosted(&set, Some(&other), &params, &mut |_| {}).unwrap();
    let losses = &boosted.validation_losses;
    let best = (0..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap();
    assert_eq!((boosted.rounds, boosted.forest.trees().len()), (best + 1, (best + 1) * 3));
    assert_eq!(losses.len(), best + 1 + 5);
}

#[test]
fn a_class_that_training_never_saw_does_not_stop_boosting() {
    let (rows, labels) = data(1, 600, 3);
    let matrix = BitMatrix::new(&rows, &columns(), MAX_CUTS).unwrap();
    let (other, truth) = data(2, 400, 3);
    let of = |labels| {
        let matrix = matrix.same_planes(&other).unwrap();
        TrainSet::new(matrix, labels, vec![], 4).unwrap()
    };
    let unseen: Vec<u16> =
        truth.iter().enumerate().map(|(row, &class)| if row < 300 { 3 } else { class }).collect();
    let set = TrainSet::new(matrix.clone(), labels, vec![], 4).unwrap();
    let params = BoostParams { patience: Some(3), ..small() };
    let rounds = |validation: TrainSet| {
        train_boosted(&set, Some(&validation), &params, &mut |_| {}).unwrap().rounds
    };
    assert_eq!((rounds(of(truth)), rounds(of(unseen))), (12, 12));
}

#[test]
fn limits_on_depth_leaves_and_rows_hold() {
    let set = set(9, 800, 3);
    let params = BoostParams { max_leaves: 6, max_depth: Some(3), min_leaf: 30, ..small() };
    for tree in boost(&set, &params).forest.trees() {
        assert!(tree.nodes.len() < 6);
        let mut depths = vec![1; tree.nodes.len()];
        for (n, node) in tree.nodes.iter().enumerate() {
            for child in [node.left, node.right].into_iter().filter(|child| *child >= 0) {
                depths[child as usize] = depths[n] + 1;
            }
        }
        assert!(depths.iter().all(|depth| *depth <= 3));
    }
}

#[test]
fn one_class_or_an_absent_class_is_a_constant_score() {
    let (rows, _) = data(10, 100, 2);
    let matrix = BitMatrix::new(&rows, &columns(), 255).unwrap();
    let lone = TrainSet::new(matrix.clone(), vec![1; 100], vec![], 3).unwrap();
    let forest = boost(&lone, &small()).forest;
    assert!(scores(&forest, &rows).iter().all(|p| p[1] > 0.999));
    let sole = TrainSet::new(matrix.clone(), vec![0; 100], vec![], 1).unwrap();
    assert!(scores(&boost(&sole, &small()).forest, &rows).iter().all(|p| p[0] == 1.0));
    let labels = (0..100).map(|row| (row % 2) * 2).collect();
    let gap = TrainSet::new(matrix, labels, vec![], 3).unwrap();
    let forest = boost(&gap, &small()).forest;
    assert!(scores(&forest, &rows).iter().all(|p| p[1] < 1e-6));
}

#[test]
fn parameters_out_of_range_are_named() {
    let set = set(12, 50, 2);
    let refused = |params: BoostParams| match train_boosted(&set, None, &params, &mut |_| {}) {
        Err(TrainError::Param { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let usual = BoostParams::default;
    assert_eq!(refused(BoostParams { learning_rate: 0.0, ..usual() }), "learning_rate");
    assert_eq!(refused(BoostParams { row_fraction: 1.5, ..usual() }), "row_fraction");
    assert_eq!(refused(BoostParams { gradient_bits: 1, ..usual() }), "gradient_bits");
    assert_eq!(refused(BoostParams { l2: f64::NAN, ..usual() }), "l2");
    assert_eq!(refused(BoostParams { threads: 0, ..usual() }), "threads");
    let other = super::set(13, 50, 2);
    let found = train_boosted(&set, Some(&other), &usual(), &mut |_| {});
    assert_eq!(found, Err(TrainError::Validation));
}
