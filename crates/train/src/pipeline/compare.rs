//! Single models side by side: each kind at each packet depth, the form of the paper's tables.

use super::{Kind, PipelineError, Step, Tier, TierData, TrainPlan, filled, train_tier};
use crate::dataset::record;
use crate::metrics::Confusion;
use serveflow_core::gate::best_class;
use serveflow_core::rows::{Rows, Scores};
use serveflow_label::{LabelBook, Split};
use serveflow_model::forest::BoundForest;

/// A trained model's figures.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The model.
    pub tier: Tier,
    /// On the calibration split.
    pub val: Confusion,
    /// On the test split.
    pub test: Confusion,
    /// Wall time of training, nanoseconds, without recording.
    pub train_ns: u64,
    /// What scoring costs, nanoseconds per flow in batches of 64.
    pub score_ns: f64,
}

/// Trains each kind of model at each packet depth and scores it on the calibration and the test
/// split.
///
/// # Errors
/// When a split has no flow, or a parameter is out of range.
pub fn compare(
    book: &LabelBook,
    plan: &TrainPlan,
    kinds: &[Kind],
    depths: &[u16],
    wall: &mut dyn FnMut() -> u64,
    progress: &mut dyn FnMut(Step),
) -> Result<Vec<Compared>, PipelineError> {
    let files = book.files.len();
    let recorded = record(book, &plan.recording(depths), &mut |done| {
        progress(Step::Recording(done, files));
    });
    let dataset = recorded.map_err(PipelineError::Record)?;
    let (train, val) = (filled(&dataset, Split::Train)?, filled(&dataset, Split::Val)?);
    let test = filled(&dataset, Split::Test)?;
    let params = plan.seeded_params();
    let classes = dataset.labels.len();
    let mut compared = Vec::new();
    for (stage, &packets) in depths.iter().enumerate() {
        let of = |kind| Tier { kind, packets };
        let failed = |kind| move |source| PipelineError::Train { tier: of(kind), source };
        let data = TierData::new(&dataset, stage, &train, &val, params.class_weights);
        let data = data.map_err(failed(kinds[0]))?;
        let test_rows = dataset.rows_of(stage, &test);
        for &kind in kinds {
            let started = wall();
            let forest = train_tier(kind, &data, &params, &mut |done| {
                progress(Step::Training(of(kind), done));
            });
            let train_ns = wall() - started;
            let bound = BoundForest::new(&forest.map_err(failed(kind))?);
            let table = |rows: &Rows, truth: &[u16]| {
                let mut scores = Scores::default();
                bound.score(rows, &mut scores);
                let answer = |row: usize| best_class(scores.row(row)).0;
                Confusion::of(classes, truth.iter().enumerate().map(|(i, &t)| (t, answer(i))))
            };
            compared.push(Compared {
                tier: of(kind),
                val: table(&data.val_rows, &dataset.labels_of(&val)),
                test: table(&test_rows, &dataset.labels_of(&test)),
                train_ns,
                score_ns: crate::scoring::forest_cost(&bound, &test_rows, wall).score_batch_ns,
            });
        }
    }
    Ok(compared)
}
