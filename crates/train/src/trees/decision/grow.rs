//! Growing: part the rows of a node, depth first, until nothing is left to part.
//!
//! The rows of a node are one stretch of a list, sorted by class; a split moves those that fail its
//! test to the front of the stretch. The counts of all planes are taken once for the smaller child;
//! those of the larger are the parent's less the smaller's. Where only some columns are drawn at
//! each node, as in a random forest, counts are taken of the drawn planes alone.

use super::counts::{CountTask, Counts, Weighing};
use super::draw::{ColumnSample, Draw};
use super::search::{Split, Whole, purity};
use super::{Criterion, TreeParams};
use crate::trees::TrainSet;
use crate::trees::kernel::part;
use serveflow_model::forest::{Node, Tree};

/// What all trees on one set share.
pub(in crate::trees) struct Learner<'a> {
    set: &'a TrainSet,
    params: &'a TreeParams,
    weighing: Weighing,
}

/// A node that waits for its split.
struct Pending {
    start: usize,
    end: usize,
    depth: usize,
    counts: Option<Counts>,
    /// Parent, and whether this is its right child.
    parent: Option<(usize, bool)>,
}

/// The tree so far, and what it is grown with.
struct Growth<'l, 'a> {
    learner: &'l Learner<'a>,
    rows: Vec<u32>,
    moved: Vec<u32>,
    sample: Option<ColumnSample>,
    draw: Draw,
    spare: Vec<Counts>,
    tree: Tree,
    leaves: i32,
}

impl<'a> Learner<'a> {
    pub(in crate::trees) fn new(set: &'a TrainSet, params: &'a TreeParams) -> Self {
        let factor = |class: usize| params.class_weights.get(class).copied().unwrap_or(1.0);
        let weights = set.labels().iter().zip(set.weights());
        let weights: Vec<f64> =
            weights.map(|(k, w)| factor(usize::from(*k)) * f64::from(*w)).collect();
        let mut by_class = vec![None; set.classes()];
        let same = set.labels().iter().zip(&weights).all(|(label, weight)| {
            *by_class[usize::from(*label)].get_or_insert(*weight) == *weight
        });
        let weighing = if same {
            Weighing::ByClass(by_class.into_iter().map(|w| w.unwrap_or(0.0)).collect())
        } else {
            Weighing::ByRow(weights)
        };
        Self { set, params, weighing }
    }

    /// All rows, class by class.
    pub(in crate::trees) fn rows_by_class(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..self.set.matrix().rows() as u32).collect();
        rows.sort_by_key(|row| self.set.labels()[*row as usize]);
        rows
    }

    /// Grows a tree on `rows`, which are sorted by class; a row may be there more than once.
    pub(in crate::trees) fn grow(&self, rows: Vec<u32>, sample: Option<ColumnSample>) -> Tree {
        let mut growth = Growth {
            learner: self,
            moved: Vec::with_capacity(rows.len()),
            rows,
            sample,
            draw: Draw::new(self.set.matrix()),
            spare: Vec::new(),
            tree: Tree::default(),
            leaves: 0,
        };
        let (start, end) = (0, growth.rows.len());
        let mut stack = vec![Pending { start, end, depth: 0, counts: None, parent: None }];
        while let Some(pending) = stack.pop() {
            growth.visit(pending, &mut stack);
        }
        growth.tree
    }

    fn ledger(&self) -> CountTask<'_> {
        CountTask {
            matrix: self.set.matrix(),
            labels: self.set.labels(),
            classes: self.set.classes(),
            weighing: &self.weighing,
        }
    }

    fn label(&self, row: u32) -> u16 {
        self.set.labels()[row as usize]
    }

    /// Class weights of rows.
    fn totals(&self, rows: &[u32]) -> Vec<f64> {
        let mut totals = vec![0.0; self.set.classes()];
        for &row in rows {
            let label = self.label(row);
            totals[usize::from(label)] += self.weighing.of(row, label);
        }
        totals
    }

    /// Whether a stretch of rows at some depth may still be parted.
    fn may_split(&self, rows: &[u32], depth: usize) -> bool {
        let impure = match (rows.first(), rows.last()) {
            (Some(first), Some(last)) => self.label(*first) != self.label(*last),
            _ => false,
        };
        impure && depth < self.params.max_depth && rows.len() / 2 >= self.params.min_leaf
    }
}

impl Growth<'_, '_> {
    /// Makes a leaf of the node, or splits it and puts its children on the stack.
    fn visit(&mut self, mut pending: Pending, stack: &mut Vec<Pending>) {
        let (start, end, depth) = (pending.start, pending.end, pending.depth);
        let totals = self.learner.totals(&self.rows[start..end]);
        let split = if self.learner.may_split(&self.rows[start..end], depth) {
            self.best(&mut pending, &totals)
        } else {
            None
        };
        let Some(split) = split else {
            self.spare.extend(pending.counts);
            self.leaf(&totals, pending.parent);
            return;
        };
        let test = self.learner.set.matrix().tests()[split.plane];
        let node = self.tree.nodes.len();
        self.tree.nodes.push(Node { test, left: 0, right: 0 });
        self.link(pending.parent, node as i32);
        let middle = self.part(start, end, split.plane);
        let mut left = Pending {
            end: middle,
            depth: depth + 1,
            counts: None,
            parent: Some((node, false)),
            start,
        };
        let mut right = Pending {
            start: middle,
            depth: depth + 1,
            counts: None,
            parent: Some((node, true)),
            end,
        };
        if let Some(counts) = pending.counts {
            let (small, large) = if middle - start <= end - middle {
                (&mut left, &mut right)
            } else {
                (&mut right, &mut left)
            };
            self.share(counts, small, large);
        }
        stack.extend([right, left]);
    }

    /// Gives the children their counts, where they will need them.
    fn share(&mut self, mut counts: Counts, small: &mut Pending, large: &mut Pending) {
        let needs = |child: &Pending| {
            self.learner.may_split(&self.rows[child.start..child.end], child.depth)
        };
        let (small_needs, large_needs) = (needs(small), needs(large));
        if !small_needs && !large_needs {
            self.spare.push(counts);
            return;
        }
        let mut of_small = self.spare.pop().unwrap_or_default();
        of_small.fill(self.learner.ledger(), &self.rows[small.start..small.end]);
        counts.subtract(&of_small);
        (small.counts, large.counts) = (Some(of_small), Some(counts));
    }

    fn leaf(&mut self, totals: &[f64], parent: Option<(usize, bool)>) {
        let smoothing = self.learner.params.smoothing;
        let sum = totals.iter().sum::<f64>() + smoothing * totals.len() as f64;
        let even = 1.0 / totals.len() as f64;
        let share = |w: &f64| {
            if sum > 0.0 { (w + smoothing) / sum } else { even }
        };
        self.tree.leaves.extend(totals.iter().map(|w| share(w) as f32));
        self.link(parent, !self.leaves);
        self.leaves += 1;
    }

    fn link(&mut self, parent: Option<(usize, bool)>, child: i32) {
        match parent {
            Some((node, true)) => self.tree.nodes[node].right = child,
            Some((node, false)) => self.tree.nodes[node].left = child,
            None => {}
        }
    }

    /// Moves the rows that fail the test to the front, order kept; returns where the others start.
    fn part(&mut self, start: usize, end: usize, plane: usize) -> usize {
        let plane = self.learner.set.matrix().plane(plane);
        start + part(&mut self.rows[start..end], plane, &mut self.moved)
    }

    /// The best split of a node, from all columns or from drawn ones.
    fn best(&mut self, pending: &mut Pending, totals: &[f64]) -> Option<Split> {
        let rows = &self.rows[pending.start..pending.end];
        let criterion: Criterion = self.learner.params.criterion;
        let whole = Whole {
            criterion,
            min_leaf: self.learner.params.min_leaf as u64,
            rows: rows.len() as u64,
            weights: totals,
            purity: purity(criterion, totals.iter().copied()),
        };
        if let Some(sample) = &mut self.sample {
            return self.draw.best(self.learner.ledger(), rows, &whole, sample);
        }
        let counts = pending.counts.get_or_insert_with(|| {
            let mut counts = self.spare.pop().unwrap_or_default();
            counts.fill(self.learner.ledger(), rows);
            counts
        });
        let planes = 0..self.learner.set.matrix().tests().len();
        planes.fold(None, |best, plane| pick(best, &whole, counts, plane))
    }
}

/// Holds a plane's counts against the best split so far.
fn pick(best: Option<Split>, whole: &Whole<'_>, counts: &Counts, plane: usize) -> Option<Split> {
    let classes = whole.weights.len();
    match whole.gain(counts.rows[plane], |class| counts.weight(classes, plane, class)) {
        Some(gain) => Split::better(best, Split { plane, gain }),
        None => best,
    }
}
