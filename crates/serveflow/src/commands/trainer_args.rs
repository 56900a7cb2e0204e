//! The command line: how models are trained.

use super::args::plan_number;
use clap::{Args, ValueEnum};
use serveflow_train::pipeline::ClassWeights;

/// How models are trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "Models")]
pub(crate) struct TrainerArgs {
    /// Rounds of boosting, at most
    #[arg(long, default_value_t = 100)]
    pub(crate) rounds: usize,
    /// Shrinkage of boosted trees
    #[arg(long, default_value_t = 0.1)]
    pub(crate) learning_rate: f64,
    /// Leaves of a boosted tree, at most
    #[arg(long, default_value_t = 31)]
    pub(crate) leaves: usize,
    /// Flows in a leaf of a boosted tree, at least
    #[arg(long, default_value_t = 5)]
    pub(crate) min_leaf: usize,
    /// L2 penalty on the leaves of boosted trees
    #[arg(long, default_value_t = 5.0)]
    pub(crate) l2: f64,
    /// Share of the columns that each boosted tree sees
    #[arg(long, default_value_t = 0.3)]
    pub(crate) column_fraction: f64,
    /// Share of the flows that each round of boosting sees
    #[arg(long, default_value_t = 1.0)]
    pub(crate) row_fraction: f64,
    /// Stop boosting after so many rounds without a better loss on the calibration split; 0 never
    #[arg(long, default_value_t = 20)]
    pub(crate) patience: usize,
    /// Depth of a decision tree, at most
    #[arg(long, default_value_t = 12)]
    pub(crate) tree_depth: usize,
    /// Trees of a random forest
    #[arg(long, default_value_t = 100)]
    pub(crate) trees: usize,
    /// How flows weigh by their class
    #[arg(long, value_enum, default_value_t = Weights::None)]
    pub(crate) class_weights: Weights,
    /// Seed of all random choices; the same seed gives the same models. What a plan rests on is also
    /// what they were measured to cost
    #[arg(long, default_value_t = 1, value_parser = plan_number())]
    pub(crate) seed: u64,
    /// Threads to train with [default: all cores]; models do not depend on it
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// How flows weigh by their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// All the same
    None,
    /// Each class the same in sum
    Balanced,
    /// Between the two: the square root of balanced
    Root,
}

impl From<Weights> for ClassWeights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::None => Self::None,
            Weights::Balanced => Self::Balanced,
            Weights::Root => Self::Root,
        }
    }
}
