//! The parameters of boosting.

use crate::trees::TrainError;
use crate::trees::error::require;

/// How boosted trees grow. Names in brackets are LightGBM's.
#[derive(Clone, Debug, PartialEq)]
pub struct BoostParams {
    /// Rounds, each a tree per class (`num_iterations`).
    pub rounds: usize,
    /// Factor to the values of the leaves (`learning_rate`).
    pub learning_rate: f64,
    /// Leaves of a tree, at most (`num_leaves`).
    pub max_leaves: usize,
    /// Tests from the root to a leaf, at most (`max_depth`); none for any number.
    pub max_depth: Option<usize>,
    /// Rows in a leaf, at least, whatever they weigh (`min_data_in_leaf`).
    pub min_leaf: usize,
    /// Sum of hessians in a leaf, at least (`min_sum_hessian_in_leaf`).
    pub min_hessian: f64,
    /// Added to the sum of hessians of a leaf (`lambda_l2`).
    pub l2: f64,
    /// What a split has to gain (`min_gain_to_split`).
    pub min_gain: f64,
    /// Share of the columns that each tree sees (`feature_fraction`).
    pub column_fraction: f64,
    /// Share of the rows that each round sees (`bagging_fraction`, with a `bagging_freq` of 1).
    pub row_fraction: f64,
    /// Stop after so many rounds without a better validation loss, and keep the best round
    /// (`early_stopping_round`); none to keep all rounds.
    pub patience: Option<usize>,
    /// Bits of a quantised gradient, its sign among them.
    pub gradient_bits: u32,
    /// Bits of a quantised hessian.
    pub hessian_bits: u32,
    /// Decides rounding and all draws.
    pub seed: u64,
    /// Threads to use, at most one for each class. The forest does not depend on it.
    pub threads: usize,
}

impl Default for BoostParams {
    fn default() -> Self {
        Self {
            rounds: 100,
            learning_rate: 0.1,
            max_leaves: 31,
            max_depth: None,
            min_leaf: 20,
            min_hessian: 1e-3,
            l2: 0.0,
            min_gain: 0.0,
            column_fraction: 1.0,
            row_fraction: 1.0,
            patience: None,
            gradient_bits: 8,
            hessian_bits: 6,
            seed: 0,
            threads: 1,
        }
    }
}

impl BoostParams {
    /// Refuses what no tree can grow by.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let share = |x: f64| x > 0.0 && x <= 1.0;
        require(positive(self.learning_rate), "learning_rate", "finite and positive")?;
        require(self.max_leaves > 0 && self.max_leaves < 1 << 24, "max_leaves", "1 to 2^24 - 1")?;
        require(self.min_leaf > 0, "min_leaf", "at least 1")?;
        require(not_negative(self.min_hessian), "min_hessian", "finite and not negative")?;
        require(not_negative(self.l2), "l2", "finite and not negative")?;
        require(not_negative(self.min_gain), "min_gain", "finite and not negative")?;
        require(share(self.column_fraction), "column_fraction", "above 0, at most 1")?;
        require(share(self.row_fraction), "row_fraction", "above 0, at most 1")?;
        require(self.patience != Some(0), "patience", "at least 1, or none")?;
        require((2..=16).contains(&self.gradient_bits), "gradient_bits", "2 to 16")?;
        require((1..=15).contains(&self.hessian_bits), "hessian_bits", "1 to 15")?;
        require(self.threads > 0, "threads", "at least 1")
    }
}
