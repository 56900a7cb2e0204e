//! Decision trees and random forests.

use super::*;
use crate::trees::decision::{ColumnSample, Learner};
use crate::trees::{Criterion, ForestParams, TrainError, TreeParams, train_forest, train_tree};
use proptest::prelude::*;
use serveflow_model::forest::Tree;

/// How impure class weights are, times their sum: the textbook formulas.
fn impurity(criterion: Criterion, weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let shares = weights.iter().map(|w| w / sum).filter(|p| *p > 0.0);
    sum * match criterion {
        Criterion::Gini => 1.0 - shares.map(|p| p * p).sum::<f64>(),
        Criterion::Entropy => -shares.map(|p| p * p.ln()).sum::<f64>(),
    }
}

fn class_sums(set: &TrainSet, rows: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; set.classes()];
    for row in rows {
        sums[usize::from(set.labels()[*row])] += f64::from(set.weights()[*row]);
    }
    sums
}

/// What parting rows by a plane gains; none where a side is smaller than `min_leaf`.
fn gain(set: &TrainSet, rows: &[usize], plane: usize, params: &TreeParams) -> Option<f64> {
    let (right, left): (Vec<_>, Vec<_>) =
        rows.iter().copied().partition(|row| set.matrix().passes(*row, plane));
    let impure = |rows: &[usize]| impurity(params.criterion, &class_sums(set, rows));
    let small = left.len().min(right.len()) < params.min_leaf.max(1);
    (!small).then(|| impure(rows) - impure(&left) - impure(&right))
}

/// Walks the grown tree with the rows that made it: no node may be beaten by a brute-force search.
fn check_node(
    set: &TrainSet,
    tree: &Tree,
    params: &TreeParams,
    at: i32,
    rows: &[usize],
    depth: usize,
) {
    let planes = 0..set.matrix().tests().len();
    let gains = planes.map(|plane| gain(set, rows, plane, params)).collect::<Vec<_>>();
    let best = gains.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let sums = class_sums(set, rows);
    if at < 0 {
        let pure = rows.iter().all(|row| set.labels()[*row] == set.labels()[rows[0]]);
        assert!(pure || depth == params.max_depth || best == f64::NEG_INFINITY, "stopped early");
        let leaf = &tree.leaves[!at as usize * set.classes()..][..set.classes()];
        let sum: f64 = sums.iter().sum();
        for (share, weight) in leaf.iter().zip(&sums) {
            assert!((f64::from(*share) - weight / sum).abs() < 1e-6);
        }
        return;
    }
    let node = tree.nodes[at as usize];
    let plane = set.matrix().tests().iter().position(|test| *test == node.test).unwrap();
    let found = gains[plane].expect("a split within the limits");
    assert!((found - best).abs() < 1e-9 * (1.0 + best.abs()) * rows.len() as f64, "{found} {best}");
    let (right, left): (Vec<_>, Vec<_>) =
        rows.iter().copied().partition(|row| set.matrix().passes(*row, plane));
    check_node(set, tree, params, node.left, &left, depth + 1);
    check_node(set, tree, params, node.right, &right, depth + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_split_is_as_good_as_brute_force_finds(
        seed: u64, rows in 1usize..260, classes in 1usize..5, entropy: bool, weighted: bool,
        max_depth in 0usize..8, min_leaf in 1usize..9,
    ) {
        let plain = set(seed, rows, classes);
        let mut random = Random::new(&[seed, 1]);
        let weight = |_| if weighted { random.below(1000) as f32 / 300.0 + 0.01 } else { 2.0 };
        let weights = (0..rows).map(weight).collect();
        let (matrix, labels) = (plain.matrix().clone(), plain.labels().to_vec());
        let set = TrainSet::new(matrix, labels, weights, classes).unwrap();
        let criterion = if entropy { Criterion::Entropy } else { Criterion::Gini };
        let params = TreeParams { criterion, max_depth, min_leaf, ..TreeParams::default() };
        let forest = train_tree(&set, &params).unwrap();
        let tree = &forest.trees()[0];
        let root = if tree.nodes.is_empty() { !0 } else { 0 };
        check_node(&set, tree, &params, root, &(0..rows).collect::<Vec<_>>(), 0);
    }

    #[test]
    fn a_weight_of_three_is_three_rows(seed: u64, classes in 2usize..5, len in 5usize..150) {
        let (rows, labels) = data(seed, len, classes);
        let mut random = Random::new(&[seed, 2]);
        let times: Vec<usize> = (0..len).map(|_| 1 + random.below(3)).collect();
        let matrix = BitMatrix::new(&rows, &columns()[..64], MAX_CUTS).unwrap();
        let weights = times.iter().map(|n| *n as f32).collect();
        let weighted = TrainSet::new(matrix, labels.clone(), weights, classes).unwrap();
        let mut many = Rows::with_capacity(SHAPE, 0);
        let mut many_labels = Vec::new();
        for (row, n) in times.iter().enumerate() {
            (0..*n).for_each(|_| many.push_copy(&rows, row));
            many_labels.extend(vec![labels[row]; *n]);
        }
        let matrix = BitMatrix::new(&many, &columns()[..64], MAX_CUTS).unwrap();
        let repeated = TrainSet::new(matrix, many_labels, vec![], classes).unwrap();
        let params = TreeParams::default();
        prop_assert_eq!(train_tree(&weighted, &params), train_tree(&repeated, &params));
    }
}

#[test]
fn drawing_all_columns_is_drawing_none() {
    for seed in 0..6 {
        let set = set(seed, 400, 4);
        let params = TreeParams { min_leaf: 2, ..TreeParams::default() };
        let learner = Learner::new(&set, &params);
        let sample = ColumnSample { columns: usize::MAX, random: Random::new(&[seed]) };
        let drawn = learner.grow(learner.rows_by_class(), Some(sample));
        assert!(drawn == learner.grow(learner.rows_by_class(), None));
    }
}

#[test]
fn exclusive_or_is_learned_perfectly() {
    let (rows, _) = data(11, 500, 2);
    let label = |row| ((rows.words(row)[0] >> 20 ^ rows.words(row)[0] >> 27) & 1) as u16;
    let labels: Vec<u16> = (0..500).map(label).collect();
    let matrix = BitMatrix::new(&rows, &columns()[..64], MAX_CUTS).unwrap();
    let set = TrainSet::new(matrix, labels.clone(), vec![], 2).unwrap();
    let params = TreeParams { max_depth: usize::MAX, ..TreeParams::default() };
    let scores = scores(&train_tree(&set, &params).unwrap(), &rows);
    let right = |(p, label): (&Vec<f32>, &u16)| p[usize::from(*label)] == 1.0;
    assert!(scores.iter().zip(&labels).all(right));
}

#[test]
fn class_weights_and_smoothing_shape_the_leaves() {
    let set = set(3, 200, 2);
    let lone = TreeParams { max_depth: 0, ..TreeParams::default() };
    let share =
        |params: &TreeParams| f64::from(train_tree(&set, params).unwrap().trees()[0].leaves[1]);
    let ones = set.class_weights()[1];
    assert!((share(&lone) - ones / 200.0).abs() < 1e-6);
    let heavy = TreeParams { class_weights: vec![1.0, 3.0], ..lone.clone() };
    assert!((share(&heavy) - 3.0 * ones / (200.0 + 2.0 * ones)).abs() < 1e-6);
    let smooth = TreeParams { smoothing: 5.0, ..lone.clone() };
    assert!((share(&smooth) - (ones + 5.0) / 210.0).abs() < 1e-6);
    let wrong = TreeParams { class_weights: vec![1.0], ..lone };
    assert!(matches!(
        train_tree(&set, &wrong),
        Err(TrainError::Param { name: "class_weights", .. })
    ));
}

#[test]
fn a_forest_depends_on_its_seed_alone_and_beats_a_stump() {
    let set = set(4, 600, 4);
    let mut reports = Vec::new();
    let mut train = |seed, threads| {
        let params = ForestParams { trees: 12, seed, threads, ..ForestParams::default() };
        train_forest(&set, &params, &mut |p| reports.push(p.done)).unwrap().to_json()
    };
    let one = train(1, 1);
    assert!(one == train(1, 3) && one == train(1, 2) && one != train(2, 1));
    assert_eq!(reports.iter().filter(|done| **done == 12).count(), 4);
    let (rows, labels) = data(44, 600, 4);
    let right = |forest: &Forest| {
        let top = |p: &Vec<f32>| (0..4).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap() as u16;
        scores(forest, &rows).iter().zip(&labels).filter(|(p, label)| top(p) == **label).count()
    };
    let stump = TreeParams { max_depth: 1, ..TreeParams::default() };
    let forest = Forest::from_json(&one).unwrap();
    assert!(right(&forest) > right(&train_tree(&set, &stump).unwrap()) + 100);
}
