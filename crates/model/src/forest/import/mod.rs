//! Forests that other libraries trained, on columns of 0 and 1.
//!
//! Their column `i` is bit `31 - i % 32` of word `i / 32`, so the first column is the most
//! significant bit of the row, as everywhere in this project. A split between 0 and 1 becomes a bit
//! test. What has no meaning on bits, or is not supported, is refused with its tree and node: no
//! file is half understood. Leaf values are kept as `f32`.

mod error;
mod lightgbm;
mod sklearn;
#[cfg(test)]
mod tests;
mod xgboost;

pub use error::{ImportError, SplitFault};
pub use lightgbm::from_lightgbm;
pub use sklearn::from_sklearn;
pub use xgboost::from_xgboost;

use super::{Node, Test, Tree};
use serveflow_core::rows::{BitAt, RowShape};

/// Most columns that a file may claim: a row of 128 KiB.
const MAX_COLUMNS: usize = 1 << 20;

/// A place of a foreign tree, by the tree's own numbers.
enum Part {
    /// Zero in `column` leads to `zero`, one to `one`.
    Split { column: usize, zero: usize, one: usize },
    /// Ends in this leaf.
    Leaf(usize),
}

/// The row that holds this many columns.
fn shape(columns: usize) -> Result<RowShape, ImportError> {
    if columns > MAX_COLUMNS {
        return Err(ImportError::Columns { found: columns });
    }
    Ok(RowShape { words: columns.div_ceil(32), numbers: 0 })
}

/// Puts a tree together from its root, nodes in breadth-first order. `limit` is the number of places
/// that the file has, so that a tree which bites its tail is found out.
fn grow(
    tree: usize,
    root: usize,
    limit: usize,
    width: usize,
    part: impl Fn(usize) -> Result<Part, ImportError>,
    leaf: impl Fn(usize) -> Option<Vec<f32>>,
) -> Result<Tree, ImportError> {
    let mut grown = Tree::default();
    let fault = |node, fault| ImportError::Split { tree, node, fault };
    // Places to visit, each with the node and the side that lead to it.
    let mut queue = vec![(root, None)];
    let mut next = 0;
    while let Some(&(place, from)) = queue.get(next) {
        next += 1;
        if next > limit {
            return Err(fault(place, SplitFault::Loop));
        }
        let child = match part(place)? {
            Part::Split { column, zero, one } => {
                let bit = BitAt { word: (column / 32) as u32, bit: (31 - column % 32) as u8 };
                let node = grown.nodes.len();
                grown.nodes.push(Node { test: Test::Bit(bit), left: 0, right: 0 });
                queue.extend([(zero, Some((node, false))), (one, Some((node, true)))]);
                node as i32
            }
            Part::Leaf(index) => {
                let value = leaf(index).filter(|value| value.len() == width);
                let value = value.ok_or_else(|| fault(place, SplitFault::Leaf))?;
                grown.leaves.extend(value);
                !((grown.leaves.len() / width - 1) as i32)
            }
        };
        if let Some((parent, right)) = from {
            let parent: &mut Node = &mut grown.nodes[parent];
            *(if right { &mut parent.right } else { &mut parent.left }) = child;
        }
    }
    Ok(grown)
}
