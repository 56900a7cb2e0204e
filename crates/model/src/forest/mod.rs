//! Forests of decision trees over the bits and numbers of a row.
//!
//! A [`Forest`] is the checked description of a model: it can be written, read and walked in the
//! obvious way by [`naive::score`]. A [`BoundForest`] is the same model laid out for speed. Both
//! give the same scores to the last bit, for every batch size: each adds the leaves of the trees in
//! tree order, per row and class, in `f64`, and both end in the same function.

mod autotune;
mod bitslice;
mod bound;
mod check;
mod file;
pub mod import;
mod isa;
mod link;
pub mod naive;
mod nodes;
mod pack;
mod program;
#[cfg(test)]
mod tests;
pub mod transpose;
mod traverse;

pub use bound::BoundForest;
pub use check::ForestError;
pub use file::ReadError;
pub use isa::Level;

use serveflow_core::rows::{BitAt, RowShape};

/// The most classes a forest may have: labels are 16 bits wide.
pub const MAX_CLASSES: usize = 1 << 16;

/// The question of an inner node; yes leads to the right child.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    /// Is this bit of the row's words set? Value bits and presence bits alike.
    Bit(BitAt),
    /// Is this number of the row greater than the threshold?
    Number {
        /// Index in the row's numbers.
        index: u32,
        /// The largest value that goes left.
        threshold: f32,
        /// Whether what is missing passes: not-a-number.
        missing: bool,
    },
}

impl Test {
    /// Is this number greater than the threshold? What is missing is not.
    #[must_use]
    pub fn above(index: u32, threshold: f32) -> Self {
        Self::Number { index, threshold, missing: false }
    }

    /// The answer for a row.
    ///
    /// # Panics
    /// When the test reads outside the row.
    #[must_use]
    pub fn passes(self, words: &[u32], numbers: &[f32]) -> bool {
        match self {
            Self::Bit(at) => at.get(words),
            Self::Number { index, threshold, missing } => {
                let number = numbers[index as usize];
                number > threshold || missing && number.is_nan()
            }
        }
    }
}

/// An inner node of a tree. A child `c >= 0` is node `c`, a negative one is leaf `!c`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The question.
    pub test: Test,
    /// Where a row goes that does not pass.
    pub left: i32,
    /// Where a row goes that passes.
    pub right: i32,
}

/// A binary tree: node 0 is the root, and a tree without nodes is its leaf 0.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tree {
    /// Inner nodes, each after its parent.
    pub nodes: Vec<Node>,
    /// Values of the leaves, one after the other: one value each in a boosted forest, one per class
    /// in an averaged one.
    pub leaves: Vec<f32>,
}

/// How the raw scores of boosted trees become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Link {
    /// The softmax of all of them.
    #[default]
    Softmax,
    /// The logistic function of each alone: one against all others.
    Logistic,
}

/// How the trees make up the scores.
#[derive(Clone, Debug, PartialEq)]
pub enum ForestKind {
    /// Tree `t` adds its leaf to the raw score of class `t % classes`.
    Boosted {
        /// Raw score of each class before any tree.
        base: Vec<f32>,
        /// How raw scores become the answer.
        link: Link,
    },
    /// A leaf holds a value per class, and the answer is the mean over the trees.
    Averaged,
}

impl ForestKind {
    /// Boosted trees whose raw scores begin with `base` and end in a softmax.
    #[must_use]
    pub fn softmax(base: Vec<f32>) -> Self {
        Self::Boosted { base, link: Link::Softmax }
    }
}

/// A checked forest: every walk ends in a leaf, reads only inside the row, and adds finite values.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    shape: RowShape,
    classes: usize,
    kind: ForestKind,
    trees: Vec<Tree>,
}

impl Forest {
    /// Puts a forest together.
    ///
    /// # Errors
    /// When the parts break what a forest guarantees; see [`ForestError`].
    pub fn new(
        shape: RowShape,
        classes: usize,
        kind: ForestKind,
        trees: Vec<Tree>,
    ) -> Result<Self, ForestError> {
        let forest = Self { shape, classes, kind, trees };
        check::check(&forest)?;
        Ok(forest)
    }

    /// The shape of the rows that it scores.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How the trees make up the scores.
    #[must_use]
    pub fn kind(&self) -> &ForestKind {
        &self.kind
    }

    /// The trees.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Values per leaf.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.kind {
            ForestKind::Boosted { .. } => 1,
            ForestKind::Averaged => self.classes,
        }
    }
}
