//! The fast scorer against the obvious one, the file format, and what is refused.

use super::autotune::Way;
use super::*;
use proptest::prelude::*;
use serveflow_core::rows::{Rows, Scores};

/// A tree whose nodes have a leaf on one side each, and ask the first and the last bits of nine
/// words.
fn vine(dice: &mut Dice, nodes: usize, to_the_right: bool, width: usize) -> Tree {
    let mut tree = Tree::default();
    for n in 0..nodes as i32 {
        let (word, bit) = [(0, 0), (8, 31), (7, 31), (8, 0), (3, 31), (4, 0)][dice.roll(6)];
        let next = if n + 1 < nodes as i32 { n + 1 } else { !(nodes as i32) };
        let (left, right) = if to_the_right { (!n, next) } else { (next, !n) };
        tree.nodes.push(Node { test: Test::Bit(BitAt { word, bit }), left, right });
    }
    tree.leaves = (0..(nodes + 1) * width).map(|_| dice.float()).collect();
    tree
}

/// A small seeded generator, so that a failing case is one number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 33) as usize) % sides.max(1)
    }

    fn float(&mut self) -> f32 {
        (self.roll(2001) as f32 - 1000.0) / 300.0
    }
}

fn tree(dice: &mut Dice, shape: RowShape, nodes: usize, width: usize) -> Tree {
    // Grows by turning a random open place into a node, as a trainer would.
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut tree = Tree::default();
    for n in 0..nodes {
        if n > 0 {
            let (parent, right) = open.swap_remove(dice.roll(open.len()));
            let slot = &mut tree.nodes[parent];
            *(if right { &mut slot.right } else { &mut slot.left }) = n as i32;
        }
        let test = if shape.numbers > 0 && (shape.words == 0 || dice.roll(3) == 0) {
            let threshold = (dice.roll(40) as f32 - 20.0) / 4.0;
            let (index, missing) = (dice.roll(shape.numbers) as u32, dice.roll(2) == 1);
            Test::Number { index, threshold, missing }
        } else {
            Test::Bit(BitAt { word: dice.roll(shape.words) as u32, bit: dice.roll(32) as u8 })
        };
        tree.nodes.push(Node { test, left: 0, right: 0 });
        open.extend([(n, false), (n, true)]);
    }
    for (leaf, (parent, right)) in open.into_iter().enumerate() {
        let slot = &mut tree.nodes[parent];
        *(if right { &mut slot.right } else { &mut slot.left }) = !(leaf as i32);
    }
    tree.leaves = (0..(nodes + 1) * width).map(|_| dice.float()).collect();
    tree
}

fn forest(seed: u64, boosted: bool, classes: usize, trees: usize, nodes: usize) -> Forest {
    let mut dice = Dice(seed);
    let shape = RowShape { words: 1 + dice.roll(5), numbers: dice.roll(4) };
    forest_on(shape, seed, boosted, classes, trees, nodes)
}

fn forest_on(
    shape: RowShape,
    seed: u64,
    boosted: bool,
    classes: usize,
    trees: usize,
    nodes: usize,
) -> Forest {
    let mut dice = Dice(seed);
    let (width, trees) = if boosted { (1, trees * classes) } else { (classes, trees.max(1)) };
    let trees = (0..trees)
        .map(|_| {
            let nodes = dice.roll(nodes);
            tree(&mut dice, shape, nodes, width)
        })
        .collect();
    let kind = match boosted {
        true => {
            let base = (0..classes).map(|_| dice.float()).collect();
            let link = if dice.roll(2) == 0 { Link::Softmax } else { Link::Logistic };
            ForestKind::Boosted { base, link }
        }
        false => ForestKind::Averaged,
    };
    Forest::new(shape, classes, kind, trees).unwrap()
}

fn rows(seed: u64, shape: RowShape, len: usize) -> Rows {
    let mut dice = Dice(seed);
    let mut rows = Rows::default();
    if len > 0 {
        rows = Rows::with_capacity(shape, len);
    }
    for _ in 0..len {
        let (words, numbers) = rows.push();
        words.iter_mut().for_each(|w| *w = (dice.roll(1 << 16) << 16 | dice.roll(1 << 16)) as u32);
        for number in numbers {
            *number = match dice.roll(12) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => (dice.roll(40) as f32 - 20.0) / 4.0,
                _ => dice.float() * 2.0,
            };
        }
    }
    rows
}

fn bits(scores: &Scores, rows: usize) -> Vec<u32> {
    (0..rows)
        .flat_map(|row| scores.row(row).iter().map(|s| s.to_bits()).collect::<Vec<_>>())
        .collect()
}

/// Scores in batches of one size.
fn in_batches(bound: &BoundForest, rows: &Rows, batch: usize) -> Vec<u32> {
    let mut scores = Scores::default();
    let mut parts = Vec::new();
    for start in (0..rows.len()).step_by(batch) {
        let mut part = Rows::with_capacity(rows.shape(), batch);
        (start..rows.len().min(start + batch)).for_each(|row| part.push_copy(rows, row));
        bound.score(&part, &mut scores);
        parts.extend(bits(&scores, part.len()));
    }
    parts
}

/// Holds every level and every way of scoring, and the choice between them, against the naive
/// scorer.
fn same_as_naive(forest: &Forest, rows: &Rows, batch: usize) -> Result<(), TestCaseError> {
    let mut scores = Scores::default();
    naive::score(forest, rows, &mut scores);
    let naive = bits(&scores, rows.len());
    for level in Level::here() {
        let mut bound = BoundForest::new(forest).at_level(level);
        prop_assert_eq!(&naive, &in_batches(&bound, rows, batch), "{:?}", level);
        let ways = [
            (Way::Walk { spread: false }, rows.len()),
            (Way::Walk { spread: true }, rows.len()),
            (Way::Narrow, 64),
            (Way::Wide, 512),
        ];
        for (way, most) in ways {
            let mut scores = Scores::default();
            scores.reset(rows.len(), forest.classes());
            for start in (0..rows.len()).step_by(most.min(batch)) {
                let len = most.min(batch).min(rows.len() - start);
                bound.score_by(way, rows, start, len, &mut scores);
            }
            prop_assert_eq!(&naive, &bits(&scores, rows.len()), "{:?} {:?}", level, way);
        }
        let mut time = 0;
        bound.tune(&mut || {
            time += 1000;
            time
        });
        prop_assert_eq!(&naive, &in_batches(&bound, rows, batch), "tuned {:?}", level);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_level_and_way_gives_the_naive_scores_for_every_batch_size(
        seed: u64, boosted: bool, classes in 1usize..6, trees in 0usize..30, nodes in 1usize..60,
        len in 1usize..300, batch in 1usize..100,
    ) {
        let forest = forest(seed, boosted, classes, trees, nodes);
        let rows = rows(!seed, forest.shape(), len);
        same_as_naive(&forest, &rows, batch)?;
    }

    #[test]
    fn large_trees_and_long_batches_give_the_naive_scores(
        seed: u64,
        boosted: bool,
        nodes in 1usize..1500,
        len in 500usize..1100,
        batch in 1usize..700,
    ) {
        let forest = forest(seed, boosted, 3, 1 + (seed % 3) as usize, nodes);
        let rows = rows(!seed, forest.shape(), len);
        same_as_naive(&forest, &rows, batch)?;
    }

    #[test]
    fn long_rows_and_many_classes_give_the_naive_scores(
        seed: u64, boosted: bool, words in 0usize..80, numbers in 0usize..3, classes in 1usize..40,
        nodes in 1usize..90, len in 1usize..150, batch in 1usize..140,
    ) {
        let shape = RowShape { words, numbers: numbers + usize::from(words == 0) };
        let forest = forest_on(shape, seed, boosted, classes, 3, nodes);
        let rows = rows(!seed, shape, len);
        same_as_naive(&forest, &rows, batch)?;
    }

    #[test]
    fn lopsided_trees_beside_lone_leaves_give_the_naive_scores(
        seed: u64, boosted: bool, nodes in 1usize..100, len in 1usize..80,
    ) {
        let mut dice = Dice(seed);
        let shape = RowShape { words: 9, numbers: 1 };
        let classes = 2;
        let width = if boosted { 1 } else { classes };
        let trees = (0..10).map(|t| match t % 3 {
            0 => tree(&mut dice, shape, 0, width),
            _ => vine(&mut dice, nodes, t % 3 == 1, width),
        });
        let kind = match boosted {
            true => ForestKind::softmax(vec![0.5; classes]),
            false => ForestKind::Averaged,
        };
        let forest = Forest::new(shape, classes, kind, trees.collect()).unwrap();
        same_as_naive(&forest, &rows(!seed, shape, len), 1 + len / 2)?;
    }

    #[test]
    fn a_forest_reads_back_as_it_was_written(
        seed: u64, boosted: bool, classes in 1usize..4, trees in 0usize..6,
        odd in prop::collection::vec(any::<f32>(), 1..20),
    ) {
        let before = forest(seed, boosted, classes, trees, 20);
        let mut trees = before.trees().to_vec();
        for (tree, odd) in trees.iter_mut().zip(odd.iter().filter(|odd| odd.is_finite())) {
            tree.leaves[0] = *odd;
        }
        let before = Forest::new(before.shape(), classes, before.kind().clone(), trees).unwrap();
        let json = before.to_json();
        let after = Forest::from_json(&json).unwrap();
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(json, after.to_json());
    }

    #[test]
    fn damaged_files_are_refused_or_still_a_forest(seed: u64, cut in 0usize..4000, byte: u8) {
        let mut json = forest(seed, true, 2, 3, 12).to_json();
        let cut = cut % json.len();
        json[cut] = byte;
        if let Ok(forest) = Forest::from_json(&json) {
            prop_assert_eq!(BoundForest::new(&forest).classes(), forest.classes());
        }
        prop_assert!(Forest::from_json(&json[..cut]).is_err());
    }
}

#[test]
fn a_lone_leaf_answers_for_all_and_no_rows_are_no_scores() {
    let tree = Tree { nodes: vec![], leaves: vec![0.25, 0.75] };
    let shape = RowShape { words: 1, numbers: 0 };
    let forest = Forest::new(shape, 2, ForestKind::Averaged, vec![tree]).unwrap();
    let mut scores = Scores::default();
    let bound = BoundForest::new(&forest);
    bound.score(&rows(1, shape, 70), &mut scores);
    assert_eq!(scores.row(69), [0.25, 0.75]);
    bound.score(&Rows::with_capacity(shape, 0), &mut scores);
    let constant = ForestKind::softmax(vec![0.0, 0.0]);
    BoundForest::new(&Forest::new(shape, 2, constant, vec![]).unwrap())
        .score(&rows(1, shape, 3), &mut scores);
    assert_eq!(scores.row(2), [0.5, 0.5]);
}

#[test]
fn bits_and_nodes_that_16_bits_cannot_name_give_the_naive_scores() {
    let wide = RowShape { words: 2_100, numbers: 0 };
    let bits = forest_on(wide, 11, true, 3, 4, 200);
    same_as_naive(&bits, &rows(12, wide, 70), 33).unwrap();
    let shape = RowShape { words: 4, numbers: 0 };
    let nodes = forest_on(shape, 13, false, 2, 8, 30_000);
    assert!(nodes.trees().iter().map(|tree| tree.nodes.len()).sum::<usize>() > 33_000);
    same_as_naive(&nodes, &rows(14, shape, 40), 9).unwrap();
}

#[test]
fn broken_promises_are_named() {
    let shape = RowShape { words: 2, numbers: 1 };
    let node = |word, left, right| Node { test: Test::Bit(BitAt { word, bit: 3 }), left, right };
    let number =
        |index, threshold| Node { test: Test::above(index, threshold), left: !0, right: !1 };
    let try_tree = |nodes: Vec<Node>, leaves: Vec<f32>| {
        Forest::new(shape, 1, ForestKind::Averaged, vec![Tree { nodes, leaves }]).unwrap_err()
    };
    let child = |node, child| ForestError::Child { tree: 0, node, child };
    assert_eq!(try_tree(vec![node(0, 0, !1)], vec![0.0; 2]), child(0, 0));
    assert_eq!(try_tree(vec![node(0, !0, !0)], vec![0.0; 2]), child(0, !0));
    assert_eq!(try_tree(vec![node(0, !0, !2)], vec![0.0; 2]), child(0, !2));
    assert_eq!(try_tree(vec![node(0, !0, 1), node(0, !1, 1)], vec![0.0; 3]), child(1, 1));
    assert_eq!(try_tree(vec![node(0, i32::MIN, !0)], vec![0.0; 2]), child(0, i32::MIN));
    assert_eq!(
        try_tree(vec![node(2, !0, !1)], vec![0.0; 2]),
        ForestError::Bit { tree: 0, node: 0, word: 2, bit: 3 }
    );
    let outside = |index| ForestError::Number { tree: 0, node: 0, index };
    assert_eq!(try_tree(vec![number(1, 0.0)], vec![0.0; 2]), outside(1));
    assert_eq!(try_tree(vec![number(0, f32::NAN)], vec![0.0; 2]), outside(0));
    assert_eq!(
        try_tree(vec![node(0, !0, !1)], vec![0.0; 3]),
        ForestError::Leaves { tree: 0, expected: 2, found: 3 }
    );
    assert_eq!(try_tree(vec![], vec![f32::INFINITY]), ForestError::LeafValue { tree: 0, value: 0 });
    let boosted = |base: &[f32], trees| {
        Forest::new(shape, 2, ForestKind::softmax(base.to_vec()), trees).unwrap_err()
    };
    let leaf = Tree { nodes: vec![], leaves: vec![1.0] };
    assert_eq!(boosted(&[0.0], vec![]), ForestError::Base { expected: 2, found: 1 });
    assert_eq!(boosted(&[0.0; 2], vec![leaf]), ForestError::Rounds { trees: 1, classes: 2 });
    assert_eq!(boosted(&[0.0, f32::NAN], vec![]), ForestError::BaseValue { class: 1 });
    assert_eq!(Forest::new(shape, 2, ForestKind::Averaged, vec![]), Err(ForestError::NoTrees));
    let none = ForestKind::softmax(vec![]);
    assert_eq!(Forest::new(shape, 0, none, vec![]), Err(ForestError::Classes { found: 0 }));
}

#[test]
fn files_are_refused_with_a_reason() {
    let good = String::from_utf8(forest(3, true, 2, 2, 9).to_json()).unwrap();
    let read = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is in {good}");
        Forest::from_json(good.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    assert!(read("\"version\":1", "\"version\":7,\"new\":1").contains("version 7"));
    assert!(read("serveflow-forest", "other").contains("\"other\""));
    assert!(read("\"boosted-logistic\"", "\"stacked\"").contains("\"stacked\""));
    assert!(read("\"missing\":[1", "\"missing\":[0").contains("node 0 tests no number"));
    assert!(read("\"missing\":[1,6", "\"missing\":[6,1").contains("is out of order"));
    assert!(read("\"words\":", "\"extra\":1,\"words\":").contains("unknown field"));
    assert!(read("\"left\":[", "\"left\":[7,").contains("left"));
    assert!(read("\"thresholds\":[", "\"thresholds\":[0.5,0.5,0.5,").contains("thresholds"));
    assert!(read("\"tests\":[", "\"tests\":[99999999999999,").contains("tree 0"));
    assert!(read("\"base\":[", "\"base\":[1e99,").contains("not a forest file"));
}
