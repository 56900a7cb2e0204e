//! Nodes in one array, and walks on them.
//!
//! The two children of a node stand side by side, so the next node is `first + bit`, without a
//! branch. A leaf asks again what its parent asked, and since the answer is the same, it leads to
//! itself: walks that are done stand still until all are.

use super::pack::Packing;
use super::{Node, Tree};
use std::collections::VecDeque;

/// Numbers of 16 bits.
const SHORT: usize = 1 << 16;
/// Nodes that a number of 16 bits and an answer may name, as far as the compiler knows, to whom an
/// answer is a byte.
const NODES: usize = SHORT + 256;

/// The numbers of bits of a packed row, and of nodes counted from their group's start.
pub(super) trait Index: Copy + Into<u32> {
    /// A node.
    type Node: Copy;
    /// Bytes of a spread row, at least.
    const BYTES: usize;
    /// The nodes of a group.
    type Nodes<'a>: Copy;
    /// A spread row.
    type Bytes<'a>: Bits<Self>;

    /// The nodes from one on.
    fn nodes(nodes: &[Self::Node], start: usize) -> Self::Nodes<'_>;
    /// A spread row that has [`Self::BYTES`] bytes at least.
    fn bytes(bytes: &[u8]) -> Self::Bytes<'_>;
    /// A node: the bit that it asks, and the first of its children.
    fn node(nodes: Self::Nodes<'_>, at: usize) -> (Self, usize);
}

/// Numbers of 16 bits: nothing that they name lies outside of what is there, so no index is
/// checked.
impl Index for u16 {
    /// The first child and the bit.
    type Node = u32;
    const BYTES: usize = SHORT;
    type Nodes<'a> = &'a [u32; NODES];
    type Bytes<'a> = &'a [u8; SHORT];

    #[inline(always)]
    fn nodes(nodes: &[u32], start: usize) -> Self::Nodes<'_> {
        nodes[start..].first_chunk().expect("nodes that are never read follow")
    }

    #[inline(always)]
    fn bytes(bytes: &[u8]) -> Self::Bytes<'_> {
        bytes.first_chunk().expect("a spread row has all the bytes that a node can test")
    }

    #[inline(always)]
    fn node(nodes: Self::Nodes<'_>, at: usize) -> (Self, usize) {
        (nodes[at] as u16, (nodes[at] >> 16) as usize)
    }
}

impl Index for u32 {
    type Node = [u32; 2];
    const BYTES: usize = 0;
    type Nodes<'a> = &'a [[u32; 2]];
    type Bytes<'a> = &'a [u8];

    #[inline(always)]
    fn nodes(nodes: &[[u32; 2]], start: usize) -> Self::Nodes<'_> {
        &nodes[start..]
    }

    #[inline(always)]
    fn bytes(bytes: &[u8]) -> Self::Bytes<'_> {
        bytes
    }

    #[inline(always)]
    fn node(nodes: Self::Nodes<'_>, at: usize) -> (Self, usize) {
        let [bit, first] = nodes[at];
        (bit, first as usize)
    }
}

/// What a walk asks.
pub(super) trait Bits<I>: Copy {
    /// A bit.
    fn bit(self, at: I) -> usize;
}

impl<I: Index> Bits<I> for &[u32] {
    #[inline(always)]
    fn bit(self, at: I) -> usize {
        let at: u32 = at.into();
        (self[(at >> 5) as usize] >> (at & 31) & 1) as usize
    }
}

impl Bits<u16> for &[u8; SHORT] {
    #[inline(always)]
    fn bit(self, at: u16) -> usize {
        usize::from(self[usize::from(at)])
    }
}

impl Bits<u32> for &[u8] {
    #[inline(always)]
    fn bit(self, at: u32) -> usize {
        usize::from(self[at as usize])
    }
}

/// Several walks in turn, each on its row and from its start, for a number of steps.
#[inline(always)]
pub(super) fn descend<I: Index, B: Bits<I>, const WALKS: usize>(
    nodes: I::Nodes<'_>,
    rows: [B; WALKS],
    starts: [I; WALKS],
    steps: usize,
) -> [usize; WALKS] {
    let mut at = [0; WALKS];
    for (at, start) in at.iter_mut().zip(starts) {
        *at = start.into() as usize;
    }
    for _ in 0..steps {
        for (at, row) in at.iter_mut().zip(rows) {
            let (bit, first) = I::node(nodes, *at);
            *at = first + row.bit(bit);
        }
    }
    at
}

/// The trees in the shortest form that holds them.
#[derive(Debug)]
pub(super) enum Nodes {
    /// Numbers of 16 bits: twice as many stay in the cache.
    Short(Table<u16>),
    /// Numbers of 32 bits.
    Long(Table<u32>),
}

/// Nodes, and where each tree starts.
#[derive(Debug)]
pub(super) struct Table<I: Index> {
    pub(super) nodes: Vec<I::Node>,
    pub(super) starts: Vec<I>,
    /// What is kept for each node that is a leaf.
    pub(super) ends: Vec<u32>,
}

/// Trees while they are put together.
#[derive(Debug, Default)]
pub(super) struct Layout {
    nodes: Vec<[u32; 2]>,
    starts: Vec<u32>,
    ends: Vec<u32>,
    start: usize,
}

impl Layout {
    /// Starts a group, and says where: nodes are counted from here.
    pub(super) fn begin(&mut self) -> usize {
        self.start = self.nodes.len();
        self.start
    }

    /// Appends a tree, breadth first; `end` is what is kept for a leaf.
    pub(super) fn push(&mut self, tree: &Tree, packing: &Packing, end: impl Fn(usize) -> u32) {
        let root = self.nodes.len();
        let place = |slot: usize| (slot - self.start) as u32;
        self.starts.push(place(root));
        if tree.nodes.is_empty() {
            // Whatever the bit is, this leaf or its copy is where the walk stays.
            self.nodes.extend([[0, place(root)]; 2]);
            self.ends.extend([end(0); 2]);
            return;
        }
        let mut queue = VecDeque::from([(0, root)]);
        self.nodes.push([0; 2]);
        self.ends.push(0);
        while let Some((at, slot)) = queue.pop_front() {
            let Node { test, left, right } = tree.nodes[at as usize];
            let first = self.nodes.len();
            let node = [packing.bit(test), place(first)];
            self.nodes[slot] = node;
            for (side, child) in [left, right].into_iter().enumerate() {
                self.nodes.push(node);
                self.ends.push(if child < 0 { end(!child as usize) } else { 0 });
                if child >= 0 {
                    queue.push_back((child, first + side));
                }
            }
        }
    }

    /// The trees in the shortest form that holds them.
    pub(super) fn finish(self) -> Nodes {
        let Self { nodes, starts, ends, .. } = self;
        let fits = |number: &u32| *number < SHORT as u32;
        if !nodes.iter().flatten().chain(&starts).all(fits) {
            return Nodes::Long(Table { nodes, starts, ends });
        }
        let mut pairs = vec![0; nodes.len() + NODES];
        for (pair, [bit, first]) in pairs.iter_mut().zip(&nodes) {
            *pair = first << 16 | bit;
        }
        let starts = starts.into_iter().map(|start| start as u16).collect();
        Nodes::Short(Table { nodes: pairs, starts, ends })
    }
}

/// Steps from the root of a tree to its deepest leaf.
pub(super) fn depth(tree: &Tree) -> usize {
    let mut depths = vec![1; tree.nodes.len()];
    let mut deepest = 0;
    for (n, node) in tree.nodes.iter().enumerate() {
        let own = depths[n];
        deepest = deepest.max(own);
        for child in [node.left, node.right] {
            if let Some(depth) = usize::try_from(child).ok().and_then(|c| depths.get_mut(c)) {
                *depth = own + 1;
            }
        }
    }
    deepest
}
