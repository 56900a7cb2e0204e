//! Sixty-four rows at once, one bit of a word each.
//!
//! The packed rows are transposed: every tested bit becomes a **plane**, a 64-bit word with one bit
//! for each row. In a tree, a mask says which rows stand on a node: all on the root, then
//! `mask & !plane` on the left child and `mask & plane` on the right one. There is no branch and no
//! load that depends on data until the leaves, each of which names the rows in its mask.

use super::bound::Flat;
use super::transpose::transpose;

/// The trees as lists of mask steps.
#[derive(Debug, Default)]
pub(super) struct Slices {
    splits: Vec<Split>,
    leaves: Vec<Leaf>,
    trees: Vec<Span>,
    slots: usize,
}

/// Splits the mask at `at` by a plane into those at `first` and `first + 1`.
#[derive(Debug)]
struct Split {
    plane: u32,
    at: u32,
    first: u32,
}

/// The rows of the mask at `at` get the values that start at `value`.
#[derive(Debug)]
struct Leaf {
    at: u32,
    value: u32,
}

/// Where a tree's splits and leaves end, and the class that a boosted one adds to.
#[derive(Debug)]
struct Span {
    class: usize,
    splits: usize,
    leaves: usize,
}

impl Slices {
    /// Appends a tree of a class, whose nodes start at `start` of the forest.
    pub(super) fn add(&mut self, nodes: &[Flat], values: &[u32], start: u32, class: usize) {
        for (at, (node, &value)) in nodes.iter().zip(values).enumerate() {
            let (at, first) = (at as u32, node.first - start);
            if first == at {
                self.leaves.push(Leaf { at, value });
            } else {
                self.splits.push(Split { plane: node.bit, at, first });
            }
        }
        self.slots = self.slots.max(nodes.len());
        self.trees.push(Span { class, splits: self.splits.len(), leaves: self.leaves.len() });
    }

    /// Turns up to 64 packed rows of `width` words into `32 * width` planes.
    pub(super) fn transpose(&self, packed: &[u32], width: usize, planes: &mut Vec<u64>) {
        planes.clear();
        for word in (0..width).step_by(2) {
            let mut square = [0; 64];
            for (to, row) in square.iter_mut().zip(packed.chunks_exact(width)) {
                let high = row.get(word + 1).copied().unwrap_or(0);
                *to = u64::from(high) << 32 | u64::from(row[word]);
            }
            transpose(&mut square);
            planes.extend_from_slice(&square);
        }
    }

    /// Runs the masks of `rows` rows through all trees and calls `add` with each row, the tree's class
    /// and the start of the leaf's values, trees in order.
    #[inline(always)]
    pub(super) fn run(
        &self,
        planes: &[u64],
        rows: usize,
        masks: &mut Vec<u64>,
        mut add: impl FnMut(usize, usize, u32),
    ) {
        masks.clear();
        masks.resize(self.slots, 0);
        let (mut split, mut leaf) = (0, 0);
        for span in &self.trees {
            masks[0] = !0 >> (64 - rows);
            for step in &self.splits[split..span.splits] {
                let (mask, plane) = (masks[step.at as usize], planes[step.plane as usize]);
                let pair = &mut masks[step.first as usize..step.first as usize + 2];
                pair[0] = mask & !plane;
                pair[1] = mask & plane;
            }
            for Leaf { at, value } in &self.leaves[leaf..span.leaves] {
                let mut mask = masks[*at as usize];
                while mask != 0 {
                    add(mask.trailing_zeros() as usize, span.class, *value);
                    mask &= mask - 1;
                }
            }
            (split, leaf) = (span.splits, span.leaves);
        }
    }
}
