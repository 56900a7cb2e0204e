//! Forests that other libraries trained.
//!
//! Reading is two steps: a file becomes a [`Foreign`] model with places, rules and missing values
//! as its library has them; binding its columns to a row makes a [`Forest`] of it, whose tests are
//! of bits where the columns are header bits, and of numbers elsewhere. What is not supported is
//! refused with its tree and node: no file is half understood. Leaf values are kept as `f32`.

mod catboost;
mod convert;
mod error;
mod lightgbm;
mod lightgbm_json;
mod lightgbm_parts;
mod onnx;
mod rule;
mod sklearn;
#[cfg(test)]
mod tests;
mod ubjson;
mod xgboost;

pub use catboost::read as catboost;
pub use error::{ImportError, SplitFault};
pub use lightgbm::read as lightgbm;
pub use lightgbm_json::read as lightgbm_json;
pub use onnx::{is_forest as onnx_is_forest, read as onnx};
pub use sklearn::read as sklearn;
pub use xgboost::{read as xgboost, read_ubjson as xgboost_ubjson};

use super::{Forest, ForestKind, Link, MAX_CLASSES, Tree};
use crate::binding::Binding;
use crate::formats::FormatHead;
use convert::{Budget, FileTree, plant};

/// How the trees of a foreign model make up its probabilities.
#[derive(Clone, Debug, PartialEq)]
enum Sum {
    /// Trees add to the raw scores of classes, which begin with `base`.
    Classes { base: Vec<f32>, link: Link },
    /// Trees add to one raw score, which begins with this; its logistic function is the probability
    /// of the second of two classes.
    Binary(f32),
    /// Leaves hold a value per class, of which the mean is taken.
    Mean,
}

/// A model as its file has it.
#[derive(Debug)]
pub struct Foreign {
    head: FormatHead,
    sum: Sum,
    /// The trees, each with the class that it adds to.
    trees: Vec<(usize, FileTree)>,
}

impl Foreign {
    /// What the file says of columns and classes.
    #[must_use]
    pub fn head(&self) -> &FormatHead {
        &self.head
    }

    /// Its forest on rows in which its columns are bound so.
    ///
    /// # Errors
    /// When there are more or fewer columns, or a tree cannot be bound; see [`ImportError`].
    pub fn bind(&self, columns: &Binding) -> Result<Forest, ImportError> {
        if let Some(found) = self.head.columns.filter(|&found| found != columns.len()) {
            return Err(ImportError::Columns { expected: columns.len(), found });
        }
        if self.trees.is_empty() {
            return Err(ImportError::unsupported("trees", "none", "at least one tree"));
        }
        let classes = self.head.classes;
        let width = if self.sum == Sum::Mean { classes.max(1) } else { 1 };
        let mut budget = Budget::of(self.trees.iter().map(|(_, tree)| tree));
        let plant = |(number, (class, tree)): (usize, &(usize, FileTree))| {
            Ok((*class, plant(number, tree, width, columns, &mut budget)?))
        };
        let trees: Vec<(usize, Tree)> =
            self.trees.iter().enumerate().map(plant).collect::<Result<_, ImportError>>()?;
        let shape = columns.shape();
        let (kind, trees) = match &self.sum {
            Sum::Mean => (ForestKind::Averaged, trees.into_iter().map(|(_, tree)| tree).collect()),
            Sum::Classes { base, link } => {
                (ForestKind::Boosted { base: base.clone(), link: *link }, rounds(trees, classes)?)
            }
            Sum::Binary(base) => (ForestKind::softmax(vec![0.0, *base]), rounds(halves(trees), 2)?),
        };
        Ok(Forest::new(shape, classes, kind, trees)?)
    }
}

/// The logistic function of a sum is the second share of a softmax over 0 and the sum. Every other
/// tree is taken off the first instead of being added to the second: so no tree is made up.
fn halves(trees: Vec<(usize, Tree)>) -> Vec<(usize, Tree)> {
    let half = |(at, (_, mut tree)): (usize, (usize, Tree))| {
        let class = at % 2;
        if class == 0 {
            tree.leaves.iter_mut().for_each(|value| *value = -*value);
        }
        (class, tree)
    };
    trees.into_iter().enumerate().map(half).collect()
}

/// Trees that may be made up for each that is there, so that a file does not grow without bound.
const MADE_UP: usize = 8;

/// Trees in rounds, one of each class in turn; a class that has fewer adds nothing.
fn rounds(trees: Vec<(usize, Tree)>, classes: usize) -> Result<Vec<Tree>, ImportError> {
    let count = trees.len();
    let mut own: Vec<Vec<Tree>> = (0..classes.min(MAX_CLASSES)).map(|_| Vec::new()).collect();
    for (class, tree) in trees {
        if let Some(own) = own.get_mut(class) {
            own.push(tree);
        }
    }
    let most = own.iter().map(Vec::len).max().unwrap_or(0);
    if most.saturating_mul(classes) > count.saturating_mul(MADE_UP).saturating_add(MAX_CLASSES) {
        let found = format!("{most} of {count} trees for one of {classes} classes");
        return Err(ImportError::unsupported("trees", &found, "about as many for each class"));
    }
    let nothing = || Tree { nodes: Vec::new(), leaves: vec![0.0] };
    let mut turns: Vec<_> = own.into_iter().map(Vec::into_iter).collect();
    let round = |_| {
        let round = turns.iter_mut().map(|own| own.next().unwrap_or_else(nothing));
        round.collect::<Vec<_>>()
    };
    Ok((0..most).flat_map(round).collect())
}

/// Base scores, checked to be few enough.
fn zeros(classes: usize) -> Result<Vec<f32>, ImportError> {
    if classes == 0 || classes > MAX_CLASSES {
        return Err(crate::forest::ForestError::Classes { found: classes }.into());
    }
    Ok(vec![0.0; classes])
}
