//! The command line: how models are trained.

use super::args::heading;
use super::values::plan_number;
use clap::{Args, ValueEnum};
use serveflow_train::pipeline::ClassWeights;

/// How models are trained.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::MODELS)]
pub(crate) struct TrainerArgs {
    /// Largest number of boosting rounds
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) rounds: usize,
    /// Learning rate of boosted trees
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub(crate) learning_rate: f64,
    /// Most leaves of a boosted tree
    #[arg(long, value_name = "N", default_value_t = 31)]
    pub(crate) leaves: usize,
    /// Fewest flows in a leaf of a boosted tree
    #[arg(long, value_name = "FLOWS", default_value_t = 5)]
    pub(crate) min_leaf: usize,
    /// L2 regularisation of the leaves of boosted trees
    #[arg(long, value_name = "LAMBDA", default_value_t = 5.0)]
    pub(crate) l2: f64,
    /// Share of the columns that each boosted tree samples
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub(crate) column_fraction: f64,
    /// Share of the flows that each boosting round samples
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub(crate) row_fraction: f64,
    /// Early stopping: boosting rounds without a lower loss on the calibration split; 0 for none
    #[arg(long, value_name = "ROUNDS", default_value_t = 20)]
    pub(crate) patience: usize,
    /// Largest depth of a decision tree
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) tree_depth: usize,
    /// Trees of a random forest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) trees: usize,
    /// Weight of a flow by its class
    #[arg(long, value_enum, value_name = "WEIGHTS", default_value_t = Weights::None)]
    pub(crate) class_weights: Weights,
    /// Random seed; the same seed gives the same models
    ///
    /// The plan also depends on measured costs, which differ from run to run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = plan_number())]
    pub(crate) seed: u64,
    /// Training threads [default: all cores]; models do not depend on the number
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Weight of a flow by its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// All flows weigh the same
    None,
    /// All classes weigh the same in total
    Balanced,
    /// Square root of balanced
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
