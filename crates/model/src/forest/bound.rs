//! The fast scorer: a forest laid out once, when it is loaded.
//!
//! A row is first **packed**: a zero word, the words that the forest reads, then one bit for each
//! distinct threshold of a number ("is it greater?"). From there on every test is a bit test.
//!
//! A few rows **walk**: 8-byte nodes in one array, the two children of a node side by side, so the
//! next node is `first + bit`. A leaf asks the zero bit and leads to itself, so eight walks go on in
//! turn, without a branch, until none moves: the walks of eight trees for one row, or of eight rows
//! in one tree. Many rows are **sliced**, see [`super::slice`]. Which of the two is cheaper for a
//! block is estimated from the forest's size; both add the same leaves in the same order.

use super::pack::Packing;
use super::slice::Slices;
use super::{Forest, Kind, Node, Tree, finish};
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Rows that are scored together.
const BLOCK: usize = 64;
/// Walks that go on in turn.
const LANES: usize = 8;

/// A node of the walk: a bit of the packed row, and the first of two children.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flat {
    pub(super) bit: u32,
    pub(super) first: u32,
}

/// A tree of the walk: where it starts, and the class that a boosted one adds to.
#[derive(Clone, Copy, Debug)]
struct Root {
    node: u32,
    class: u32,
}

/// A forest laid out for scoring.
#[derive(Debug)]
pub struct BoundForest {
    shape: RowShape,
    classes: usize,
    boosted: bool,
    base: Vec<f64>,
    packing: Packing,
    nodes: Vec<Flat>,
    /// For each leaf node, where its values start in `leaves`.
    values: Vec<u32>,
    leaves: Vec<f32>,
    roots: Vec<Root>,
    slices: Slices,
    /// Estimated cost of walking one row, in the unit of `slice_cost`.
    walk_cost: usize,
    /// Estimated cost of slicing a block, however many rows it has.
    slice_cost: usize,
}

/// Memory that a thread keeps between calls.
#[derive(Default)]
struct Scratch {
    packed: Vec<u32>,
    planes: Vec<u64>,
    masks: Vec<u64>,
    sums: Vec<f64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl BoundForest {
    /// Lays a forest out.
    #[must_use]
    pub fn new(forest: &Forest) -> Self {
        let packing = Packing::new(forest);
        let (boosted, base) = match forest.kind() {
            Kind::Boosted { base } => (true, base.iter().map(|b| f64::from(*b)).collect()),
            Kind::Averaged => (false, vec![0.0; forest.classes()]),
        };
        let slice_words = packing.width;
        let mut bound = Self {
            shape: forest.shape(),
            classes: forest.classes(),
            boosted,
            base,
            packing,
            nodes: Vec::new(),
            values: Vec::new(),
            leaves: Vec::new(),
            roots: Vec::new(),
            slices: Slices::default(),
            walk_cost: 0,
            slice_cost: 60 * slice_words,
        };
        for tree in forest.trees() {
            bound.add(tree, forest.width());
        }
        bound
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

    /// Appends a tree, breadth first, children side by side.
    fn add(&mut self, tree: &Tree, width: usize) {
        let start = self.nodes.len();
        let leaf_start = self.leaves.len();
        let class = self.roots.len() % self.classes;
        self.roots.push(Root { node: start as u32, class: class as u32 });
        self.leaves.extend_from_slice(&tree.leaves);
        self.push_slots(1);
        let root = if tree.nodes.is_empty() { !0 } else { 0 };
        let mut queue = VecDeque::from([(root, start, 0)]);
        let mut depths = 0;
        while let Some((child, slot, depth)) = queue.pop_front() {
            if child < 0 {
                self.nodes[slot] = Flat { bit: 0, first: slot as u32 };
                self.values[slot] = (leaf_start + !child as usize * width) as u32;
                depths += depth;
                continue;
            }
            let Node { test, left, right } = tree.nodes[child as usize];
            let first = self.nodes.len();
            self.push_slots(2);
            self.nodes[slot] = Flat { bit: self.packing.bit(test), first: first as u32 };
            queue.push_back((left, first, depth + 1));
            queue.push_back((right, first + 1, depth + 1));
        }
        self.slices.add(&self.nodes[start..], &self.values[start..], start as u32, class);
        let leaves = tree.nodes.len() + 1;
        self.walk_cost += depths / leaves + 2;
        self.slice_cost += BLOCK + BLOCK * width / 8 + 3 * leaves;
    }

    fn push_slots(&mut self, slots: usize) {
        let len = self.nodes.len() + slots;
        self.nodes.resize(len, Flat { bit: 0, first: 0 });
        self.values.resize(len, 0);
    }

    /// Scores every row. Nothing is allocated once the thread and `scores` have seen a batch of
    /// this size.
    ///
    /// # Panics
    /// When the rows have another shape than the forest.
    pub fn score(&self, rows: &Rows, scores: &mut Scores) {
        assert_eq!(rows.shape(), self.shape, "rows of the forest's shape");
        scores.reset(rows.len(), self.classes);
        SCRATCH.with_borrow_mut(|scratch| {
            for start in (0..rows.len()).step_by(BLOCK) {
                self.score_block(rows, start, BLOCK.min(rows.len() - start), scratch, scores);
            }
        });
    }

    fn score_block(
        &self,
        rows: &Rows,
        start: usize,
        len: usize,
        scratch: &mut Scratch,
        scores: &mut Scores,
    ) {
        let Scratch { packed, planes, masks, sums } = scratch;
        packed.clear();
        sums.clear();
        for row in start..start + len {
            self.packing.pack(rows.words(row), rows.numbers(row), packed);
            sums.extend_from_slice(&self.base);
        }
        if len * self.walk_cost > self.slice_cost {
            self.slices.transpose(packed, self.packing.width, planes);
            self.slices.run(planes, len, masks, |row, class, value| {
                self.add_leaf(sums, row, class, value);
            });
        } else if len < LANES {
            for row in 0..len {
                self.walk_trees(packed, row, sums);
            }
        } else {
            self.walk_rows(packed, len, sums);
        }
        let trees = self.roots.len();
        for (row, sums) in sums.chunks_exact_mut(self.classes).enumerate() {
            finish(self.boosted, trees, sums, scores.row_mut(start + row));
        }
    }

    /// Adds the leaf whose values start at `value` to a row's sums; a boosted one to its class.
    #[inline(always)]
    fn add_leaf(&self, sums: &mut [f64], row: usize, class: usize, value: u32) {
        let (value, classes) = (value as usize, self.classes);
        if self.boosted {
            sums[row * classes + class] += f64::from(self.leaves[value]);
        } else {
            let sums = &mut sums[row * classes..(row + 1) * classes];
            for (sum, leaf) in sums.iter_mut().zip(&self.leaves[value..value + classes]) {
                *sum += f64::from(*leaf);
            }
        }
    }

    /// One row through eight trees at a time, then through those that are left one by one.
    fn walk_trees(&self, packed: &[u32], row: usize, sums: &mut [f64]) {
        let base = row * self.packing.width;
        let groups = self.roots.chunks_exact(LANES);
        let rest = groups.remainder();
        for roots in groups {
            let starts = std::array::from_fn(|lane| roots[lane].node);
            let ends = descend(&self.nodes, packed, [base; LANES], starts);
            for (root, end) in roots.iter().zip(ends) {
                self.add_leaf(sums, row, root.class as usize, self.values[end as usize]);
            }
        }
        for root in rest {
            let [end] = descend(&self.nodes, packed, [base], [root.node]);
            self.add_leaf(sums, row, root.class as usize, self.values[end as usize]);
        }
    }

    /// One tree for eight rows at a time.
    fn walk_rows(&self, packed: &[u32], len: usize, sums: &mut [f64]) {
        let base = |row: usize| row.min(len - 1) * self.packing.width;
        for root in &self.roots {
            for start in (0..len).step_by(LANES) {
                let bases = std::array::from_fn(|lane| base(start + lane));
                let ends = descend(&self.nodes, packed, bases, [root.node; LANES]);
                for (row, end) in (start..len).zip(ends) {
                    self.add_leaf(sums, row, root.class as usize, self.values[end as usize]);
                }
            }
        }
    }
}

/// Several walks in turn, each on the packed row at its base, until all stand on leaves.
#[inline(always)]
fn descend<const WALKS: usize>(
    nodes: &[Flat],
    packed: &[u32],
    bases: [usize; WALKS],
    mut at: [u32; WALKS],
) -> [u32; WALKS] {
    loop {
        let mut moved = 0;
        for (at, base) in at.iter_mut().zip(bases) {
            let node = nodes[*at as usize];
            let bit = packed[base + (node.bit >> 5) as usize] >> (node.bit & 31) & 1;
            let next = node.first + bit;
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            return at;
        }
    }
}

impl Model for BoundForest {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        BoundForest::score(self, rows, scores);
        Ok(())
    }
}
