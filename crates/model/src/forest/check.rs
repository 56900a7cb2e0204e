//! What a forest promises, and the facts about the first promise that is broken.

use super::{Forest, ForestKind, MAX_CLASSES, Test, Tree};
use std::fmt;

/// Nodes that all trees may have together: each may read its own word, and bits of the words that a
/// forest reads are named by 32 bits.
const MAX_NODES: usize = 1 << 26;

/// Why parts do not make a forest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForestError {
    /// The number of classes is zero or above [`MAX_CLASSES`].
    Classes {
        /// What was asked for.
        found: usize,
    },
    /// An averaged forest needs a tree.
    NoTrees,
    /// A boosted forest has as many base scores as classes.
    Base {
        /// Number of classes.
        expected: usize,
        /// Number of base scores.
        found: usize,
    },
    /// A boosted forest has whole rounds: a multiple of the number of classes.
    Rounds {
        /// Number of trees.
        trees: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The forest has more nodes and leaves than an index can name.
    TooLarge {
        /// Inner nodes of all trees.
        nodes: usize,
        /// Leaf values of all trees.
        values: usize,
    },
    /// A tree has one leaf more than it has nodes, each with the forest's number of values.
    Leaves {
        /// The tree.
        tree: usize,
        /// Values that its nodes call for.
        expected: usize,
        /// Values that it has.
        found: usize,
    },
    /// A child is out of range, not after its parent, or has two parents.
    Child {
        /// The tree.
        tree: usize,
        /// The parent.
        node: usize,
        /// The child as written.
        child: i32,
    },
    /// A bit test reads outside the row's words or outside a word.
    Bit {
        /// The tree.
        tree: usize,
        /// The node.
        node: usize,
        /// Word that it reads.
        word: u32,
        /// Bit that it reads.
        bit: u8,
    },
    /// A number test reads outside the row's numbers, or its threshold is not finite.
    Number {
        /// The tree.
        tree: usize,
        /// The node.
        node: usize,
        /// Number that it reads.
        index: u32,
    },
    /// A leaf value is not finite.
    LeafValue {
        /// The tree.
        tree: usize,
        /// Index among the values of the tree's leaves.
        value: usize,
    },
    /// A base score is not finite.
    BaseValue {
        /// The class.
        class: usize,
    },
}

impl fmt::Display for ForestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes { found } => write!(f, "{found} classes: expected 1 to {MAX_CLASSES}"),
            Self::NoTrees => write!(f, "an averaged forest without trees"),
            Self::Base { expected, found } => {
                write!(f, "{found} base scores for {expected} classes")
            }
            Self::Rounds { trees, classes } => {
                write!(f, "{trees} boosted trees are not whole rounds of {classes}")
            }
            Self::TooLarge { nodes, values } => {
                write!(f, "{nodes} nodes and {values} leaf values are more than a forest can index")
            }
            Self::Leaves { tree, expected, found } => {
                write!(f, "tree {tree}: {found} leaf values, its nodes call for {expected}")
            }
            Self::Child { tree, node, child } => {
                write!(
                    f,
                    "tree {tree}, node {node}: child {child} is out of range, before its parent, \
                     or used twice"
                )
            }
            Self::Bit { tree, node, word, bit } => {
                write!(f, "tree {tree}, node {node}: bit {bit} of word {word} is outside the row")
            }
            Self::Number { tree, node, index } => {
                write!(
                    f,
                    "tree {tree}, node {node}: number {index} is outside the row, or its threshold \
                     not finite"
                )
            }
            Self::LeafValue { tree, value } => {
                write!(f, "tree {tree}: leaf value {value} is not finite")
            }
            Self::BaseValue { class } => write!(f, "base score of class {class} is not finite"),
        }
    }
}

impl std::error::Error for ForestError {}

/// Finds the first broken promise.
pub(super) fn check(forest: &Forest) -> Result<(), ForestError> {
    let (classes, trees) = (forest.classes, forest.trees.len());
    if classes == 0 || classes > MAX_CLASSES {
        return Err(ForestError::Classes { found: classes });
    }
    match &forest.kind {
        ForestKind::Averaged if trees == 0 => return Err(ForestError::NoTrees),
        ForestKind::Averaged => {}
        ForestKind::Boosted { base, .. } => {
            if base.len() != classes {
                return Err(ForestError::Base { expected: classes, found: base.len() });
            }
            if !trees.is_multiple_of(classes) {
                return Err(ForestError::Rounds { trees, classes });
            }
            if let Some(class) = base.iter().position(|b| !b.is_finite()) {
                return Err(ForestError::BaseValue { class });
            }
        }
    }
    let nodes: usize = forest.trees.iter().map(|t| t.nodes.len()).sum();
    let values: usize = forest.trees.iter().map(|t| t.leaves.len()).sum();
    if nodes + trees > MAX_NODES || values > u32::MAX as usize {
        return Err(ForestError::TooLarge { nodes, values });
    }
    for (t, tree) in forest.trees.iter().enumerate() {
        check_links(t, tree, forest.width())?;
        check_tests(t, tree, forest)?;
    }
    Ok(())
}

/// Every node but the root, and every leaf, has exactly one parent before it, so a walk can only
/// end in a leaf.
fn check_links(t: usize, tree: &Tree, width: usize) -> Result<(), ForestError> {
    let (nodes, expected) = (tree.nodes.len(), (tree.nodes.len() + 1).saturating_mul(width));
    if tree.leaves.len() != expected {
        return Err(ForestError::Leaves { tree: t, expected, found: tree.leaves.len() });
    }
    if let Some(value) = tree.leaves.iter().position(|v| !v.is_finite()) {
        return Err(ForestError::LeafValue { tree: t, value });
    }
    let (mut node_used, mut leaf_used) = (vec![false; nodes], vec![false; nodes + 1]);
    for (n, node) in tree.nodes.iter().enumerate() {
        for child in [node.left, node.right] {
            let used = if child >= 0 {
                node_used.get_mut(child as usize)
            } else {
                leaf_used.get_mut(!child as usize)
            };
            match used {
                Some(used) if !*used && (child < 0 || child as usize > n) => *used = true,
                _ => {
                    return Err(ForestError::Child { tree: t, node: n, child });
                }
            }
        }
    }
    Ok(())
}

fn check_tests(t: usize, tree: &Tree, forest: &Forest) -> Result<(), ForestError> {
    for (n, node) in tree.nodes.iter().enumerate() {
        match node.test {
            Test::Bit(at) if at.bit > 31 || at.word as usize >= forest.shape.words => {
                return Err(ForestError::Bit { tree: t, node: n, word: at.word, bit: at.bit });
            }
            Test::Number { index, threshold, .. }
                if index as usize >= forest.shape.numbers || !threshold.is_finite() =>
            {
                return Err(ForestError::Number { tree: t, node: n, index });
            }
            _ => {}
        }
    }
    Ok(())
}
