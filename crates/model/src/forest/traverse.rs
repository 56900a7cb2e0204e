//! A few rows: from the root of each tree to its leaf, eight walks in turn.
//!
//! A step has no branch (see [`super::nodes`]), and walks that are done stand still. So eight trees
//! of one row are walked together for as many steps as the deepest of them has, and trees are put
//! into eights by their depth. Where there is but one tree, eight rows are walked in it.
//!
//! What the trees answer is written down in their own order and only then added up, sixteen classes
//! side by side.
//!
//! The bits of a row may first be spread to bytes, which makes a step a third shorter: that pays
//! when a forest has many trees.

use super::isa::Set;
use super::link::Finish;
use super::nodes::{self, Bits, Index, Layout, Nodes, Table};
use super::pack::{Packed, Packing};
use super::{Forest, ForestKind};
use serveflow_core::rows::Scores;

/// Walks that go on in turn.
pub(super) const LANES: usize = 8;
/// Classes that are added up side by side.
const CLASSES: usize = 16;

/// Trees that are walked together.
#[derive(Debug)]
struct Group {
    /// Where its nodes start.
    start: usize,
    /// Steps to the deepest leaf.
    steps: usize,
    /// Where each of its trees stands among all; trees that are made up stand behind them.
    trees: [u32; LANES],
}

/// A forest as nodes.
#[derive(Debug)]
pub(super) struct Walks {
    boosted: bool,
    base: Vec<f64>,
    finish: Finish,
    nodes: Nodes,
    groups: Vec<Group>,
    /// Values of averaged trees, and what is read behind the last.
    leaves: Vec<f32>,
    trees: usize,
    /// Estimated steps of a row through all trees.
    pub(super) steps: usize,
}

/// Memory that a thread keeps between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    bytes: Vec<u8>,
    answers: Vec<u32>,
    values: Vec<f32>,
    sums: Vec<f64>,
}

impl Walks {
    pub(super) fn new(forest: &Forest, packing: &Packing) -> Self {
        let trees = forest.trees();
        let (boosted, base) = match forest.kind() {
            ForestKind::Boosted { base, .. } => {
                (true, base.iter().map(|b| f64::from(*b)).collect())
            }
            ForestKind::Averaged => (false, vec![0.0; forest.classes()]),
        };
        let mut starts = Vec::with_capacity(trees.len());
        let mut leaves = Vec::new();
        for tree in trees {
            starts.push(leaves.len());
            if !boosted {
                leaves.extend_from_slice(&tree.leaves);
            }
        }
        leaves.resize(leaves.len() + CLASSES, 0.0);
        let mut order: Vec<usize> = (0..trees.len()).collect();
        let depths: Vec<usize> = trees.iter().map(nodes::depth).collect();
        order.sort_by_key(|t| depths[*t]);
        let mut layout = Layout::default();
        let groups: Vec<Group> = order
            .chunks(LANES)
            .map(|few| {
                let start = layout.begin();
                let mut own = [trees.len() as u32; LANES];
                own.iter_mut().zip(few).for_each(|(own, t)| *own = *t as u32);
                // What is made up is like the first.
                for t in few.iter().chain(std::iter::repeat(&few[0])).take(LANES) {
                    let tree = &trees[*t];
                    layout.push(tree, packing, |leaf| {
                        let value = leaf * forest.width();
                        // For a leaf its value is kept, or where its values start.
                        let bits = boosted.then(|| tree.leaves[value].to_bits());
                        bits.unwrap_or((starts[*t] + value) as u32)
                    });
                }
                let deepest = few.iter().map(|t| depths[*t]).max().unwrap_or(0);
                Group { start, steps: deepest, trees: own }
            })
            .collect();
        let steps = groups.iter().map(|group| group.steps * LANES).sum();
        let (nodes, finish) = (layout.finish(), Finish::of(forest));
        Self { boosted, base, finish, nodes, groups, leaves, trees: trees.len(), steps }
    }

    /// Scores rows, from row `start` of the scores on; `spread` their bits first, or not.
    #[inline(always)]
    pub(super) fn run<S: Set>(
        &self,
        set: S,
        rows: Packed<'_>,
        spread: bool,
        buffers: &mut Buffers,
        scores: &mut Scores,
        start: usize,
    ) {
        match &self.nodes {
            Nodes::Short(nodes) => self.run_on(set, nodes, rows, spread, buffers, scores, start),
            Nodes::Long(nodes) => self.run_on(set, nodes, rows, spread, buffers, scores, start),
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "this is run, given the nodes")]
    fn run_on<S: Set, I: Index>(
        &self,
        set: S,
        table: &Table<I>,
        rows: Packed<'_>,
        spread: bool,
        buffers: &mut Buffers,
        scores: &mut Scores,
        start: usize,
    ) {
        if self.trees == 1 && !self.boosted {
            return self.lone(table, rows, scores, start);
        }
        let Buffers { bytes, answers, values, sums } = buffers;
        // Trees that are made up, and classes that are, have their places too.
        answers.resize(self.trees + 1, 0);
        values.resize(self.trees + CLASSES, 0.0);
        sums.resize(self.base.len(), 0.0);
        for row in 0..rows.len() {
            let words = rows.row(row);
            if spread {
                bytes.resize((words.len() * 32).max(I::BYTES), 0);
                set.spread(words, bytes);
                self.walk(table, I::bytes(bytes), answers);
            } else {
                self.walk(table, words, answers);
            }
            self.add_up(answers, values, sums);
            self.finish.row(sums, scores.row_mut(start + row));
        }
    }

    /// One row through all trees, eight at a time.
    #[inline(always)]
    fn walk<I: Index, B: Bits<I>>(&self, table: &Table<I>, row: B, answers: &mut [u32]) {
        let (starts, _) = table.starts.as_chunks::<LANES>();
        for (group, starts) in self.groups.iter().zip(starts) {
            let nodes = I::nodes(&table.nodes, group.start);
            let ends = &table.ends[group.start..];
            let below = nodes::descend::<I, B, LANES>(nodes, [row; LANES], *starts, group.steps);
            for (tree, at) in group.trees.iter().zip(below) {
                answers[*tree as usize] = ends[at];
            }
        }
    }

    /// Sums of the classes from the answers of all trees.
    #[inline(always)]
    fn add_up(&self, answers: &[u32], values: &mut [f32], sums: &mut [f64]) {
        let answers = &answers[..self.trees];
        if self.boosted {
            values.iter_mut().zip(answers).for_each(|(value, bits)| *value = f32::from_bits(*bits));
        }
        let classes = self.base.len();
        for first in (0..classes).step_by(CLASSES) {
            let len = CLASSES.min(classes - first);
            let mut some = [0.0; CLASSES];
            some[..len].copy_from_slice(&self.base[first..first + len]);
            if self.boosted {
                for round in (first..self.trees).step_by(classes) {
                    add(&mut some, &values[round..]);
                }
            } else {
                for answer in answers {
                    add(&mut some, &self.leaves[*answer as usize + first..]);
                }
            }
            sums[first..first + len].copy_from_slice(&some[..len]);
        }
    }

    /// A lone averaged tree, eight rows at a time: the leaf's values are the scores.
    #[inline(always)]
    fn lone<I: Index>(
        &self,
        table: &Table<I>,
        rows: Packed<'_>,
        scores: &mut Scores,
        start: usize,
    ) {
        let classes = self.base.len();
        let mut put = |row: usize, end: u32| {
            let leaf = &self.leaves[end as usize..][..classes];
            // A sum starts at zero, which makes a leaf's -0 a 0.
            let out = scores.row_mut(start + row);
            out.iter_mut().zip(leaf).for_each(|(score, value)| *score = *value + 0.0);
        };
        let (nodes, root) = (I::nodes(&table.nodes, 0), table.starts[0]);
        let steps = self.groups[0].steps;
        for first in (0..rows.len()).step_by(LANES) {
            if first + LANES <= rows.len() {
                let mut eight = [rows.row(first); LANES];
                for (lane, row) in eight.iter_mut().enumerate() {
                    *row = rows.row(first + lane);
                }
                let below = nodes::descend(nodes, eight, [root; LANES], steps);
                for (lane, at) in below.into_iter().enumerate() {
                    put(first + lane, table.ends[at]);
                }
            } else {
                for row in first..rows.len() {
                    let [at] = nodes::descend(nodes, [rows.row(row)], [root], steps);
                    put(row, table.ends[at]);
                }
            }
        }
    }
}

/// Adds a value to each sum.
#[inline(always)]
fn add(sums: &mut [f64; CLASSES], values: &[f32]) {
    if let Some(values) = values.first_chunk::<CLASSES>() {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
    }
}
