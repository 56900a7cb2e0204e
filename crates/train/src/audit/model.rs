//! The reference model, trained on some flows and asked about others.

use super::split::Parts;
use crate::dataset::Dataset;
use crate::pipeline::{PipelineError, Step, Tier, TierData, TierParams, train_tier};
use serveflow_core::gate::best_class;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::forest::{BoundForest, Forest};

/// Rows that are scored at once.
const BATCH: usize = 4096;

/// A trained model.
pub(super) struct Model {
    pub(super) forest: Forest,
    bound: BoundForest,
}

impl Model {
    /// Trains on one part and stops early by another, as the pipeline does.
    pub(super) fn fit(
        dataset: &Dataset,
        stage: usize,
        parts: &Parts,
        tier: Tier,
        params: &TierParams,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Self, PipelineError> {
        let failed = |source| PipelineError::Train { tier, source };
        let data = TierData::new(dataset, stage, &parts.train, &parts.val, params.class_weights);
        let forest = train_tier(tier.kind, &data.map_err(failed)?, params, &mut |done| {
            progress(Step::Training(tier, done));
        });
        let forest = forest.map_err(failed)?;
        Ok(Self { bound: BoundForest::new(&forest), forest })
    }

    /// The likeliest label of each row.
    pub(super) fn answers(&self, rows: &Rows) -> Vec<u16> {
        let mut scores = Scores::default();
        let mut answers = Vec::with_capacity(rows.len());
        for from in (0..rows.len()).step_by(BATCH) {
            let to = rows.len().min(from + BATCH);
            let mut batch = Rows::with_capacity(rows.shape(), to - from);
            (from..to).for_each(|row| batch.push_copy(rows, row));
            self.bound.score(&batch, &mut scores);
            answers.extend((0..batch.len()).map(|row| best_class(scores.row(row)).0));
        }
        answers
    }
}
