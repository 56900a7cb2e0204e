//! Random forests: many trees, each on rows drawn with replacement and columns drawn at each node.

use super::decision::{ColumnSample, Learner};
use super::error::require;
use super::{Progress, TrainError, TrainSet, TreeParams};
use crate::random::Random;
use serveflow_model::forest::{Forest, ForestKind, Tree};
use std::thread::Builder;

/// How a random forest grows.
#[derive(Clone, Debug, PartialEq)]
pub struct ForestParams {
    /// Number of trees.
    pub trees: usize,
    /// How each tree grows.
    pub tree: TreeParams,
    /// Columns drawn at each node; none for the square root of their number.
    pub columns: Option<usize>,
    /// Decides all draws.
    pub seed: u64,
    /// Threads to use. The forest does not depend on it.
    pub threads: usize,
}

impl Default for ForestParams {
    fn default() -> Self {
        let tree = TreeParams { max_depth: usize::MAX, ..TreeParams::default() };
        Self { trees: 100, tree, columns: None, seed: 0, threads: 1 }
    }
}

/// Trains a random forest and reports after every tree for each thread.
///
/// # Errors
/// When a parameter is out of range.
pub fn train_forest(
    set: &TrainSet,
    params: &ForestParams,
    progress: &mut dyn FnMut(Progress),
) -> Result<Forest, TrainError> {
    params.tree.check(set.classes())?;
    require(params.trees > 0, "trees", "at least 1")?;
    require(params.threads > 0, "threads", "at least 1")?;
    require(params.columns != Some(0), "columns", "at least 1")?;
    let learner = Learner::new(set, &params.tree);
    let rows = learner.rows_by_class();
    let mut trees = Vec::with_capacity(params.trees);
    while trees.len() < params.trees {
        let end = params.trees.min(trees.len() + params.threads);
        let numbers = trees.len()..end;
        let grown: Vec<Tree> = std::thread::scope(|scope| {
            let grow = |number| grow(&learner, set, &rows, params, number);
            let start = |number| (number, Builder::new().spawn_scoped(scope, move || grow(number)));
            let others: Vec<_> = numbers.clone().skip(1).map(start).collect();
            let first = grow(numbers.start);
            // What the system gives no thread for is grown here.
            let others = others.into_iter().map(|(number, thread)| match thread {
                Ok(thread) => thread.join().expect("growing a tree panics never"),
                Err(_) => grow(number),
            });
            std::iter::once(first).chain(others).collect()
        });
        trees.extend(grown);
        progress(Progress { done: trees.len(), total: params.trees, validation_loss: None });
    }
    let forest = Forest::new(set.matrix().shape(), set.classes(), ForestKind::Averaged, trees);
    Ok(forest.expect("grown trees keep what a forest guarantees"))
}

/// Grows tree `number` on as many rows as there are, drawn with replacement.
fn grow(
    learner: &Learner<'_>,
    set: &TrainSet,
    rows: &[u32],
    params: &ForestParams,
    number: usize,
) -> Tree {
    let mut random = Random::new(&[params.seed, number as u64]);
    let mut times = vec![0u32; rows.len()];
    for _ in 0..rows.len() {
        times[random.below(rows.len())] += 1;
    }
    let drawn = rows.iter().zip(times).flat_map(|(row, n)| std::iter::repeat_n(*row, n as usize));
    let columns = set.matrix().sources().len();
    let columns = params.columns.unwrap_or(columns.isqrt().max(1));
    learner.grow(drawn.collect(), Some(ColumnSample { columns, random }))
}
