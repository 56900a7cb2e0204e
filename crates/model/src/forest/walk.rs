//! A few rows: from the root of each tree to its leaf, eight walks in turn.
//!
//! Nodes of 4 or 8 bytes stand in one array, the two children of a node side by side, so the next node
//! is `first + bit`, without a branch. A leaf asks again what its parent asked, and since the answer is
//! the same, it can lead to itself: walks that are done stand still until all eight are. These are the
//! walks of eight trees for one row, or, where there are fewer trees, of eight rows in one tree.
//!
//! The bits of a row may first be spread to bytes, which makes a step a third shorter: that pays when
//! a forest has many trees.

use super::finish::Finish;
use super::level::Set;
use super::pack::{Packed, Packing};
use super::{Forest, Kind, Node, Tree};
use serveflow_core::rows::Scores;
use std::collections::VecDeque;

/// Walks that go on in turn.
const LANES: usize = 8;

/// A bit of the packed row, and the first of two children, counted from the tree's root.
#[derive(Clone, Copy, Debug)]
struct Flat<I> {
    bit: I,
    first: I,
}

/// The nodes of all trees. Where 16 bits are enough, twice as many stay in the cache.
#[derive(Debug)]
enum Nodes {
    Short(Vec<Flat<u16>>),
    Long(Vec<Flat<u32>>),
}

impl Nodes {
    /// The shortest form that holds the nodes.
    fn new(nodes: Vec<Flat<u32>>) -> Self {
        let short = |node: &Flat<u32>| {
            let (bit, first) = (u16::try_from(node.bit).ok()?, u16::try_from(node.first).ok()?);
            Some(Flat { bit, first })
        };
        let shorts = nodes.iter().map(short).collect::<Option<Vec<_>>>();
        shorts.map_or(Self::Long(nodes), Self::Short)
    }
}

/// Where a tree starts, and the class that a boosted one adds to.
#[derive(Clone, Copy, Debug)]
struct Root {
    node: u32,
    class: u32,
}

/// A forest as nodes.
#[derive(Debug)]
pub(super) struct Walks {
    boosted: bool,
    base: Vec<f64>,
    finish: Finish,
    nodes: Nodes,
    /// For each leaf node its value, if boosted, else where its values start in `leaves`.
    ends: Vec<End>,
    leaves: Vec<f32>,
    roots: Vec<Root>,
    /// Estimated steps of a row through all trees.
    pub(super) steps: usize,
}

#[derive(Clone, Copy, Debug)]
struct End(u32);

/// Memory that a thread keeps between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    bytes: Vec<u8>,
    sums: Vec<f64>,
}

/// What a walk asks.
trait Bits: Copy {
    /// A bit.
    fn bit(self, at: u32) -> u32;
}

impl Bits for &[u32] {
    #[inline(always)]
    fn bit(self, at: u32) -> u32 {
        self[(at >> 5) as usize] >> (at & 31) & 1
    }
}

impl Bits for &[u8] {
    #[inline(always)]
    fn bit(self, at: u32) -> u32 {
        u32::from(self[at as usize])
    }
}

impl Walks {
    pub(super) fn new(forest: &Forest, packing: &Packing) -> Self {
        let classes = forest.classes();
        let (boosted, base) = match forest.kind() {
            Kind::Boosted { base } => (true, base.iter().map(|b| f64::from(*b)).collect()),
            Kind::Averaged => (false, vec![0.0; classes]),
        };
        let mut walks = Self {
            boosted,
            base,
            finish: Finish::of(forest),
            nodes: Nodes::Long(Vec::new()),
            ends: Vec::new(),
            leaves: Vec::new(),
            roots: Vec::new(),
            steps: 0,
        };
        let mut nodes = Vec::new();
        for tree in forest.trees() {
            walks.add(tree, packing, forest.width(), &mut nodes);
        }
        walks.nodes = Nodes::new(nodes);
        walks
    }

    /// Appends a tree, breadth first, children side by side.
    fn add(&mut self, tree: &Tree, packing: &Packing, width: usize, nodes: &mut Vec<Flat<u32>>) {
        let start = nodes.len();
        let class = self.roots.len() % self.base.len();
        self.roots.push(Root { node: start as u32, class: class as u32 });
        let leaf_start = self.leaves.len();
        if !self.boosted {
            self.leaves.extend_from_slice(&tree.leaves);
        }
        let end = |leaf: i32| {
            let value = !leaf as usize * width;
            let boosted = self.boosted.then(|| tree.leaves[value].to_bits());
            End(boosted.unwrap_or((leaf_start + value) as u32))
        };
        if tree.nodes.is_empty() {
            // Whatever the bit is, this leaf or its copy is where the walk stays.
            nodes.extend([Flat { bit: 0, first: 0 }; 2]);
            self.ends.extend([end(!0); 2]);
            return;
        }
        let mut queue = VecDeque::from([(0, start, 1)]);
        let mut depths = 0;
        nodes.push(Flat { bit: 0, first: 0 });
        self.ends.push(End(0));
        while let Some((at, slot, depth)) = queue.pop_front() {
            let Node { test, left, right } = tree.nodes[at as usize];
            let first = nodes.len();
            let node = Flat { bit: packing.bit(test), first: (first - start) as u32 };
            nodes[slot] = node;
            for (side, child) in [left, right].into_iter().enumerate() {
                nodes.push(node);
                self.ends.push(if child < 0 { end(child) } else { End(0) });
                if child >= 0 {
                    queue.push_back((child, first + side, depth + 1));
                } else {
                    depths += depth;
                }
            }
        }
        self.steps += depths / (tree.nodes.len() + 1) + 1;
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
    fn run_on<S: Set, I: Copy + Into<u32>>(
        &self,
        set: S,
        nodes: &[Flat<I>],
        rows: Packed<'_>,
        spread: bool,
        buffers: &mut Buffers,
        scores: &mut Scores,
        start: usize,
    ) {
        if self.roots.len() == 1 && !self.boosted {
            return self.lone(nodes, rows, scores, start);
        }
        let Buffers { bytes, sums } = buffers;
        for row in 0..rows.len() {
            sums.clear();
            sums.extend_from_slice(&self.base);
            let words = rows.row(row);
            if spread {
                bytes.resize(words.len() * 32, 0);
                set.spread(words, bytes);
                self.walk(nodes, &bytes[..], sums);
            } else {
                self.walk(nodes, words, sums);
            }
            self.finish.row(sums, scores.row_mut(start + row));
        }
    }

    /// One row through eight trees at a time, then through those that are left one by one.
    #[inline(always)]
    fn walk<I: Copy + Into<u32>, B: Bits>(&self, nodes: &[Flat<I>], row: B, sums: &mut [f64]) {
        let (groups, rest) = self.roots.as_chunks::<LANES>();
        for roots in groups {
            let ends = descend(nodes, [row; LANES], roots.map(|root| root.node));
            for (root, end) in roots.iter().zip(ends) {
                self.add_leaf(sums, root.class, self.ends[end as usize]);
            }
        }
        for root in rest {
            let [end] = descend(nodes, [row], [root.node]);
            self.add_leaf(sums, root.class, self.ends[end as usize]);
        }
    }

    #[inline(always)]
    fn add_leaf(&self, sums: &mut [f64], class: u32, End(end): End) {
        if self.boosted {
            sums[class as usize] += f64::from(f32::from_bits(end));
        } else {
            let leaf = &self.leaves[end as usize..][..sums.len()];
            sums.iter_mut().zip(leaf).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }

    /// A lone averaged tree, eight rows at a time: the leaf's values are the scores.
    #[inline(always)]
    fn lone<I: Copy + Into<u32>>(
        &self,
        nodes: &[Flat<I>],
        rows: Packed<'_>,
        scores: &mut Scores,
        start: usize,
    ) {
        let classes = self.base.len();
        let root = self.roots[0].node;
        let mut put = |row: usize, end: u32| {
            let leaf = &self.leaves[self.ends[end as usize].0 as usize..][..classes];
            // A sum starts at zero, which makes a leaf's -0 a 0.
            let out = scores.row_mut(start + row);
            out.iter_mut().zip(leaf).for_each(|(score, value)| *score = *value + 0.0);
        };
        let whole = rows.len() / LANES * LANES;
        for row in (0..whole).step_by(LANES) {
            let eight: [_; LANES] = std::array::from_fn(|lane| rows.row(row + lane));
            let ends = descend(nodes, eight, [root; LANES]);
            ends.into_iter().enumerate().for_each(|(lane, end)| put(row + lane, end));
        }
        for row in whole..rows.len() {
            let [end] = descend(nodes, [rows.row(row)], [root]);
            put(row, end);
        }
    }
}

/// Several walks in turn, each on its row and from its root, until all stand on leaves.
#[inline(always)]
fn descend<I: Copy + Into<u32>, B: Bits, const WALKS: usize>(
    nodes: &[Flat<I>],
    rows: [B; WALKS],
    roots: [u32; WALKS],
) -> [u32; WALKS] {
    let mut at = roots;
    loop {
        let mut moved = 0;
        for ((at, row), root) in at.iter_mut().zip(rows).zip(roots) {
            let node = nodes[*at as usize];
            let next = root + node.first.into() + row.bit(node.bit.into());
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            return at;
        }
    }
}
