//! One tree, leaf-wise: split the leaf that gains most, again and again.

use super::gains::{Gains, Judge, TINY};
use super::histogram::Histogram;
use super::plane_tree::{PlaneNode, PlaneTree};
use super::quantise::{Bits, Quantised};
use super::{BoostParams, draw_columns};
use crate::trees::TrainSet;
use crate::trees::decision::search::Split;
use crate::trees::kernel::{part, wide};

/// A leaf of the tree that grows: a stretch of the rows.
struct Leaf {
    start: usize,
    end: usize,
    depth: usize,
    histogram: Option<Histogram>,
    split: Option<Split>,
    /// Parent, and whether this is its right child.
    parent: Option<(usize, bool)>,
}

/// Grows trees, with memory that it keeps.
pub(super) struct Grower<'a> {
    set: &'a TrainSet,
    params: &'a BoostParams,
    bits: Bits,
    gradients: Vec<f32>,
    hessians: Vec<f32>,
    values: Quantised,
    rows: Vec<u32>,
    moved: Vec<u32>,
    drawn: Vec<bool>,
    gains: Vec<f64>,
    spare: Vec<Histogram>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(set: &'a TrainSet, params: &'a BoostParams) -> Self {
        Self {
            set,
            params,
            bits: Bits { gradient: params.gradient_bits, hessian: params.hessian_bits },
            gradients: Vec::new(),
            hessians: Vec::new(),
            values: Quantised::default(),
            rows: Vec::new(),
            moved: Vec::new(),
            drawn: Vec::new(),
            gains: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Grows the tree of a class and adds it to the class's `scores`.
    pub(super) fn grow(
        &mut self,
        class: usize,
        scores: &mut [f64],
        log_sums: &[f64],
        bag: Option<&[bool]>,
        seed: u64,
    ) -> PlaneTree {
        self.differentiate(class, scores, log_sums);
        self.values.fill(&self.gradients, &self.hessians, bag, self.bits, seed);
        self.drawn = draw_columns(self.set, self.params.column_fraction, seed);
        self.rows.clear();
        let all = 0..self.set.matrix().rows() as u32;
        self.rows.extend(all.filter(|row| bag.is_none_or(|bag| bag[*row as usize])));
        let mut nodes = Vec::new();
        let mut leaves = vec![self.root()];
        while leaves.len() < self.params.max_leaves {
            let best = leaves.iter().enumerate().filter_map(|(at, leaf)| {
                leaf.split.map(|split| Split { plane: at, gain: split.gain })
            });
            let Some(best) = best.fold(None, Split::better) else {
                break;
            };
            self.split(best.plane, &mut nodes, &mut leaves);
        }
        if nodes.is_empty() {
            return PlaneTree::constant();
        }
        let tree = PlaneTree { nodes, leaves: self.leaf_values(&leaves) };
        self.add_to_scores(&tree, &leaves, bag, scores);
        self.spare.extend(leaves.into_iter().filter_map(|leaf| leaf.histogram));
        tree
    }

    /// Gradients and hessians of the class's log-loss, by weight.
    fn differentiate(&mut self, class: usize, scores: &[f64], log_sums: &[f64]) {
        let classes = self.set.classes() as f64;
        let factor = classes / (classes - 1.0);
        let rows = self.set.labels().iter().zip(self.set.weights());
        self.gradients.clear();
        self.hessians.clear();
        for ((score, log_sum), (label, weight)) in scores.iter().zip(log_sums).zip(rows) {
            let (p, weight) = ((score - log_sum).exp(), f64::from(*weight));
            let y = f64::from(u8::from(usize::from(*label) == class));
            self.gradients.push((weight * (p - y)) as f32);
            self.hessians.push((weight * factor * p * (1.0 - p)) as f32);
        }
    }

    fn root(&mut self) -> Leaf {
        let end = self.rows.len();
        let mut leaf = Leaf { start: 0, end, depth: 0, histogram: None, split: None, parent: None };
        if self.may_split(&leaf) {
            let mut histogram = self.spare.pop().unwrap_or_default();
            histogram.fill_all(self.set.matrix(), &self.values, self.bits);
            self.give(&mut leaf, histogram);
        }
        leaf
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        let shallow = self.params.max_depth.is_none_or(|depth| leaf.depth < depth);
        shallow && (leaf.end - leaf.start) / 2 >= self.params.min_leaf
    }

    /// Hands a leaf its histogram and finds its best split.
    fn give(&mut self, leaf: &mut Leaf, histogram: Histogram) {
        leaf.split = self.best(&histogram);
        leaf.histogram = Some(histogram);
    }

    /// Splits a leaf: its place goes to the left child, the right one comes last.
    fn split(&mut self, at: usize, nodes: &mut Vec<PlaneNode>, leaves: &mut Vec<Leaf>) {
        let (new, node) = (leaves.len(), nodes.len());
        let leaf = &mut leaves[at];
        let (Some(split), Some(mut histogram)) = (leaf.split.take(), leaf.histogram.take()) else {
            return;
        };
        match leaf.parent {
            Some((parent, true)) => nodes[parent].right = node as i32,
            Some((parent, false)) => nodes[parent].left = node as i32,
            None => {}
        }
        nodes.push(PlaneNode { plane: split.plane, left: !(at as i32), right: !(new as i32) });
        let middle = self.part(leaf.start, leaf.end, split.plane);
        let child = |start, end, right| Leaf {
            start,
            end,
            depth: leaf.depth + 1,
            histogram: None,
            split: None,
            parent: Some((node, right)),
        };
        let mut left = child(leaf.start, middle, false);
        let mut right = child(middle, leaf.end, true);
        let lasts = new + 1 >= self.params.max_leaves;
        if !lasts && (self.may_split(&left) || self.may_split(&right)) {
            let (small, large) = if middle - left.start <= right.end - middle {
                (&mut left, &mut right)
            } else {
                (&mut right, &mut left)
            };
            let mut of_small = self.spare.pop().unwrap_or_default();
            let rows = &self.rows[small.start..small.end];
            of_small.fill(self.set.matrix(), &self.values, self.bits, rows);
            histogram.subtract(&of_small);
            for (leaf, histogram) in [(small, of_small), (large, histogram)] {
                if self.may_split(leaf) {
                    self.give(leaf, histogram);
                } else {
                    self.spare.push(histogram);
                }
            }
        } else {
            self.spare.push(histogram);
        }
        leaves[at] = left;
        leaves.push(right);
    }

    /// Moves the rows that fail the test to the front, order kept; returns where the others start.
    fn part(&mut self, start: usize, end: usize, plane: usize) -> usize {
        let plane = self.set.matrix().plane(plane);
        start + part(&mut self.rows[start..end], plane, &mut self.moved)
    }

    /// The best split of the drawn planes, if any gains enough.
    fn best(&mut self, histogram: &Histogram) -> Option<Split> {
        self.gains.clear();
        self.gains.resize(histogram.rows.len(), 0.0);
        wide(Gains {
            gains: &mut self.gains,
            histogram,
            drawn: &self.drawn,
            judge: Judge {
                whole: histogram.whole,
                params: self.params,
                offset: self.bits.offset() as f64,
                gradient_unit: self.values.gradient_unit,
                hessian_unit: self.values.hessian_unit,
            },
        });
        let candidates = self.gains.iter().enumerate().filter(|(_, gain)| **gain > 0.0);
        candidates.fold(None, |best, (plane, &gain)| Split::better(best, Split { plane, gain }))
    }

    /// Leaf values from the gradients before rounding.
    fn leaf_values(&self, leaves: &[Leaf]) -> Vec<f32> {
        let value = |leaf: &Leaf| {
            let (mut g, mut h) = (0.0, 0.0);
            for &row in &self.rows[leaf.start..leaf.end] {
                g += f64::from(self.gradients[row as usize]);
                h += f64::from(self.hessians[row as usize]);
            }
            let value = -g / (h + self.params.l2 + TINY) * self.params.learning_rate;
            value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
        };
        leaves.iter().map(value).collect()
    }

    /// Adds the tree to the scores: the rows of each leaf are known, those out of the bag walk.
    fn add_to_scores(
        &self,
        tree: &PlaneTree,
        leaves: &[Leaf],
        bag: Option<&[bool]>,
        scores: &mut [f64],
    ) {
        for (leaf, value) in leaves.iter().zip(&tree.leaves) {
            for &row in &self.rows[leaf.start..leaf.end] {
                scores[row as usize] += f64::from(*value);
            }
        }
        for (row, _) in bag.into_iter().flatten().enumerate().filter(|(_, in_bag)| !**in_bag) {
            scores[row] += tree.value(self.set.matrix(), row);
        }
    }
}
