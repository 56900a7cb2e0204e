//! Trees as programs on planes.
//!
//! A **plane** holds one bit of many rows. The leaves of a tree are numbered from left to right;
//! what a tree answers is then a few planes: the bits of the numbers of the leaves that the rows
//! fall into. These planes are found from the leaves up. At a leaf each is all zeros or all ones,
//! and at a node it is "where the test is 1 that of the one-child, else that of the zero-child",
//! which is a single instruction for 64 to 512 rows. Where both children have the same plane there
//! is nothing to do, and where they have zeros and ones it is the test's own plane.

use super::{Node, Tree};

/// Planes of the rows live in one buffer: zeros, ones, one plane per tested bit, then what the tree
/// at hand computes.
pub(super) const CONSTANTS: usize = 2;
/// The place of the zeros.
pub(super) const ZEROS: u16 = 0;
/// Nodes of a tree whose leaves are numbered in more than two ways.
const MANY_WAYS: usize = 16;
/// Times that each node of such a tree is swapped.
const PASSES: usize = 2;
/// Bits of a leaf's number at the most.
pub(super) const CODE_BITS: usize = 16;

/// `buffer[at] = test ? one : zero`, bit by bit, where `at` counts up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mux {
    pub(super) test: u16,
    pub(super) zero: u16,
    pub(super) one: u16,
}

/// A tree's program.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// What to compute, each from what was there before.
    pub(super) steps: Vec<Mux>,
    /// Where the planes of the leaf's number are, from its lowest bit on.
    pub(super) code: Vec<u16>,
    /// The leaf with each number.
    pub(super) leaves: Vec<usize>,
}

impl Program {
    /// Compiles a tree, given the place of each node's test and the first free place of the buffer.
    /// None when it would not fit the buffer's 65,536 places.
    pub(super) fn new(tree: &Tree, tests: &[u16], free: usize) -> Option<Self> {
        let mut best: Option<Self> = None;
        let mut swaps = vec![false; tree.nodes.len()];
        let mut consider = |swaps: &[bool]| {
            let program = Self::compile(tree, number(tree, swaps), tests, free)?;
            let fewer = best.as_ref().is_none_or(|best| program.steps.len() < best.steps.len());
            if fewer {
                best = Some(program);
            }
            Some(fewer)
        };
        consider(&swaps)?;
        let larger = larger_right(tree);
        if consider(&larger)? {
            swaps = larger;
        }
        // A small tree is numbered in more ways, one node swapped after the other.
        for _ in 0..if swaps.len() <= MANY_WAYS { PASSES } else { 0 } {
            for n in 0..swaps.len() {
                swaps[n] = !swaps[n];
                if !consider(&swaps)? {
                    swaps[n] = !swaps[n];
                }
            }
        }
        best
    }

    /// Compiles a tree whose leaves are numbered.
    fn compile(tree: &Tree, leaves: Vec<usize>, tests: &[u16], free: usize) -> Option<Self> {
        let count = leaves.len();
        let bits = count.next_power_of_two().trailing_zeros() as usize;
        if bits > CODE_BITS {
            return None;
        }
        let mut numbers = vec![0; count];
        leaves.iter().enumerate().for_each(|(number, leaf)| numbers[*leaf] = number);
        let mut steps = Vec::new();
        // For each node, where the planes of its code are.
        let mut planes = vec![0u16; tree.nodes.len() * bits];
        for (n, node) in tree.nodes.iter().enumerate().rev() {
            let plane = |child: i32, bit: usize| {
                if child < 0 {
                    (numbers[!child as usize] >> bit & 1) as u16
                } else {
                    planes[child as usize * bits + bit]
                }
            };
            let pairs: Vec<_> =
                (0..bits).map(|bit| (plane(node.left, bit), plane(node.right, bit))).collect();
            for (bit, &(zero, one)) in pairs.iter().enumerate() {
                let same = pairs[..bit].iter().position(|pair| *pair == (zero, one));
                planes[n * bits + bit] = if zero == one {
                    zero
                } else if (zero, one) == (0, 1) {
                    tests[n]
                } else if let Some(same) = same {
                    planes[n * bits + same]
                } else {
                    steps.push(Mux { test: tests[n], zero, one });
                    u16::try_from(free + steps.len() - 1).ok()?
                };
            }
        }
        planes.truncate(bits);
        Some(Self { steps, code: planes, leaves })
    }
}

/// Where the right child has more leaves than the left one. Numbers that start with the larger
/// child differ in fewer bits below most nodes, which saves steps.
fn larger_right(tree: &Tree) -> Vec<bool> {
    let mut sizes = vec![1u32; tree.nodes.len()];
    let mut larger = vec![false; tree.nodes.len()];
    for (n, node) in tree.nodes.iter().enumerate().rev() {
        let size = |child: i32| sizes.get(child as usize).copied().unwrap_or(0);
        let (left, right) = (size(node.left), size(node.right));
        sizes[n] += left + right;
        larger[n] = right > left;
    }
    larger
}

/// The leaves from left to right, with the children of some nodes swapped.
fn number(tree: &Tree, swaps: &[bool]) -> Vec<usize> {
    let mut open = vec![if tree.nodes.is_empty() { !0 } else { 0 }];
    let mut leaves = Vec::with_capacity(tree.nodes.len() + 1);
    while let Some(at) = open.pop() {
        if at < 0 {
            leaves.push(!at as usize);
            continue;
        }
        let Node { left, right, .. } = tree.nodes[at as usize];
        open.extend(if swaps[at as usize] { [left, right] } else { [right, left] });
    }
    leaves
}
