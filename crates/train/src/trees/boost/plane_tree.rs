//! A boosted tree before it is bound to raw rows.

use crate::trees::BitMatrix;
use serveflow_model::forest::{Node, Test, Tree};

/// A tree whose nodes ask planes.
#[derive(Clone, Debug)]
pub(super) struct PlaneTree {
    pub(super) nodes: Vec<PlaneNode>,
    pub(super) leaves: Vec<f32>,
}

/// A node: the plane that it asks and its children, as in [`Node`].
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaneNode {
    pub(super) plane: usize,
    pub(super) left: i32,
    pub(super) right: i32,
}

impl PlaneTree {
    /// A tree that adds nothing.
    pub(super) fn constant() -> Self {
        Self { nodes: Vec::new(), leaves: vec![0.0] }
    }

    /// The value of a row's leaf.
    pub(super) fn value(&self, matrix: &BitMatrix, row: usize) -> f64 {
        let row = matrix.row(row);
        let mut at: i32 = if self.nodes.is_empty() { !0 } else { 0 };
        while at >= 0 {
            let node = &self.nodes[at as usize];
            let passes = row[node.plane / 64] >> (node.plane % 64) & 1 == 1;
            at = if passes { node.right } else { node.left };
        }
        f64::from(self.leaves[!at as usize])
    }

    /// The tree with tests of raw rows.
    pub(super) fn bind(&self, tests: &[Test]) -> Tree {
        let bind = |n: &PlaneNode| Node { test: tests[n.plane], left: n.left, right: n.right };
        Tree { nodes: self.nodes.iter().map(bind).collect(), leaves: self.leaves.clone() }
    }
}
