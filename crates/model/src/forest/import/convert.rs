//! A foreign tree becomes one of ours.

use super::rule::{Decision, Next, Question};
use super::{ImportError, SplitFault};
use crate::binding::Binding;
use crate::forest::{Node, Tree};

/// A place of a foreign tree, by the tree's own numbers.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// An inner node.
    Split {
        /// The column that it asks.
        column: i64,
        /// What it asks.
        question: Question,
        /// The place where yes leads.
        yes: usize,
        /// The place where no leads.
        no: usize,
    },
    /// Ends in this leaf.
    Leaf(usize),
}

/// A tree as its file has it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileTree {
    /// All places; the first one is the root.
    pub(super) parts: Vec<Part>,
    /// Values of the leaves, one leaf behind the other.
    pub(super) values: Vec<f32>,
}

/// Nodes and values that each place and value of a file may become, on average over a forest: a
/// split that takes two tests doubles what is below one of its sides, and a file must not grow
/// without bound.
const NODES_PER_PLACE: usize = 16;
/// And so many more.
const NODES_AT_LEAST: usize = 1 << 12;

/// How many nodes may still be made.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn of<'a>(trees: impl Iterator<Item = &'a FileTree>) -> Self {
        let places: usize = trees.map(|tree| tree.parts.len() + tree.values.len()).sum();
        Self(places.saturating_mul(NODES_PER_PLACE).saturating_add(NODES_AT_LEAST))
    }

    fn take(&mut self, nodes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(nodes)?;
        Some(())
    }
}

/// Where a child is to be written: a node and its side. The root has none.
type Slot = Option<(usize, bool)>;

/// Puts a tree together, nodes in breadth-first order, each leaf with `width` values.
///
/// # Errors
/// When the places make no tree, or ask what is not there; names the tree and the place.
pub(super) fn plant(
    number: usize,
    tree: &FileTree,
    width: usize,
    columns: &Binding,
    budget: &mut Budget,
) -> Result<Tree, ImportError> {
    let fault = |node, fault| ImportError::Split { tree: number, node, fault };
    check(number, tree)?;
    let mut grown = Tree::default();
    let mut queue: Vec<(usize, Slot)> = vec![(0, None)];
    let mut next = 0;
    while let Some(&(place, slot)) = queue.get(next) {
        next += 1;
        let (child, first) = match &tree.parts[place] {
            Part::Leaf(leaf) => {
                budget.take(width).ok_or_else(|| fault(place, SplitFault::TooMany))?;
                let values = tree.values.get(leaf * width..(leaf + 1) * width);
                let values = values.ok_or_else(|| fault(place, SplitFault::Leaf))?;
                grown.leaves.extend(values);
                (!((grown.leaves.len() / width - 1) as i32), grown.nodes.len())
            }
            Part::Split { column, question, yes, no } => {
                let input = usize::try_from(*column).ok().and_then(|c| columns.inputs().get(c));
                let input = *input.ok_or_else(|| fault(place, SplitFault::Column(*column)))?;
                let to = |answer: bool| if answer { *yes } else { *no };
                match question.decide(input, columns.missing()) {
                    Decision::Always(answer) => {
                        // The other side is never reached; the child takes this place's slot.
                        queue.push((to(answer), slot));
                        continue;
                    }
                    Decision::Steps(steps) => {
                        let taken = budget.take(steps.len());
                        taken.ok_or_else(|| fault(place, SplitFault::TooMany))?;
                        let first = grown.nodes.len();
                        for (at, step) in steps.iter().enumerate() {
                            let mut side = |next, right| match next {
                                Next::Step(step) => (first + step) as i32,
                                Next::Answer(answer) => {
                                    queue.push((to(answer), Some((first + at, right))));
                                    0
                                }
                            };
                            let (left, right) = (side(step.fails, false), side(step.passes, true));
                            grown.nodes.push(Node { test: step.test, left, right });
                        }
                        (first as i32, first)
                    }
                }
            }
        };
        if let Some((parent, right)) = slot {
            debug_assert!(parent < first, "children follow their parents");
            let parent = &mut grown.nodes[parent];
            *(if right { &mut parent.right } else { &mut parent.left }) = child;
        }
    }
    Ok(grown)
}

/// Every place that is reached is reached once, so that each walk ends.
fn check(number: usize, tree: &FileTree) -> Result<(), ImportError> {
    let fault = |node, fault| ImportError::Split { tree: number, node, fault };
    let mut seen = vec![false; tree.parts.len()];
    let mut open = vec![(0, 0)];
    while let Some((place, from)) = open.pop() {
        let Some(seen) = seen.get_mut(place) else {
            return Err(fault(from, SplitFault::Child(place as i64)));
        };
        if std::mem::replace(seen, true) {
            return Err(fault(place, SplitFault::Loop));
        }
        if let Part::Split { question, yes, no, .. } = &tree.parts[place] {
            if let Some(found) = question.fault() {
                return Err(fault(place, found));
            }
            open.extend([(*yes, place), (*no, place)]);
        }
    }
    Ok(())
}
