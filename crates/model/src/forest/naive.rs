//! The obvious scorer: the truth that the fast one is held against.

use super::link::Finish;
use super::{Forest, ForestKind, Tree};
use serveflow_core::rows::{Rows, Scores};

/// Index of the leaf that a row falls into.
///
/// # Panics
/// When the tree does not fit the row.
#[must_use]
pub fn leaf(tree: &Tree, words: &[u32], numbers: &[f32]) -> usize {
    let mut at: i32 = if tree.nodes.is_empty() { !0 } else { 0 };
    while at >= 0 {
        let node = &tree.nodes[at as usize];
        at = if node.test.passes(words, numbers) { node.right } else { node.left };
    }
    !at as usize
}

/// Scores every row, one tree after the other.
///
/// # Panics
/// When the rows have another shape than the forest.
pub fn score(forest: &Forest, rows: &Rows, scores: &mut Scores) {
    assert_eq!(rows.shape(), forest.shape(), "rows of the forest's shape");
    let classes = forest.classes();
    scores.reset(rows.len(), classes);
    for row in 0..rows.len() {
        let mut sums = match forest.kind() {
            ForestKind::Boosted { base, .. } => base.iter().map(|b| f64::from(*b)).collect(),
            ForestKind::Averaged => vec![0.0; classes],
        };
        for (t, tree) in forest.trees().iter().enumerate() {
            let leaf = leaf(tree, rows.words(row), rows.numbers(row));
            match forest.kind() {
                ForestKind::Boosted { .. } => sums[t % classes] += f64::from(tree.leaves[leaf]),
                ForestKind::Averaged => {
                    let values = &tree.leaves[leaf * classes..(leaf + 1) * classes];
                    sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += f64::from(*v));
                }
            }
        }
        Finish::of(forest).row(&mut sums, scores.row_mut(row));
    }
}
