//! Scores of many rows, and what scoring costs on this machine.

use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::CostPlan;
use serveflow_model::forest::BoundForest;

/// Scores of all rows, however many.
///
/// # Errors
/// When the model fails.
pub fn score_all(model: &dyn Model, rows: &Rows) -> Result<Scores, ScoreError> {
    let mut scores = Scores::default();
    scores.reset(0, model.classes());
    for chunk in chunks(rows) {
        let mut own = Scores::default();
        model.score(&chunk, &mut own)?;
        scores.append(&own);
    }
    Ok(scores)
}

/// Rows that a model scores at once.
const CHUNK: usize = 4096;

fn chunks(rows: &Rows) -> impl Iterator<Item = Rows> + '_ {
    (0..rows.len()).step_by(CHUNK).map(|start| {
        let end = rows.len().min(start + CHUNK);
        let mut part = Rows::with_capacity(rows.shape(), end - start);
        (start..end).for_each(|row| part.push_copy(rows, row));
        part
    })
}

/// Rows scored at once when the batch cost is measured.
const COST_BATCH: usize = 64;
/// Times that the cost is measured; the median counts.
const COST_ROUNDS: usize = 5;
/// Rows of a round at the most, and about how long it may take, nanoseconds.
const COST_ROWS: usize = 512;
const COST_NS: u64 = 200_000_000;

/// What scoring costs on this machine, nanoseconds per flow.
///
/// # Errors
/// When the model fails.
pub(crate) fn score_cost(
    model: &dyn Model,
    rows: &Rows,
    wall: &mut dyn FnMut() -> u64,
) -> Result<CostPlan, ScoreError> {
    // A slow model is measured on fewer rows.
    let mut first = Rows::with_capacity(rows.shape(), 1);
    if !rows.is_empty() {
        first.push_copy(rows, 0);
    }
    let started = wall();
    model.score(&first, &mut Scores::default())?;
    let one_ns = wall().saturating_sub(started).max(1);
    let most = usize::try_from(COST_NS / one_ns).unwrap_or(COST_ROWS).clamp(2, COST_ROWS);
    let mut per_flow = |batch: usize| {
        let batches: Vec<Rows> = (0..rows.len().min(most))
            .collect::<Vec<usize>>()
            .chunks(batch)
            .map(|chunk| {
                let mut part = Rows::with_capacity(rows.shape(), chunk.len());
                chunk.iter().for_each(|&row| part.push_copy(rows, row));
                part
            })
            .collect();
        let flows: usize = batches.iter().map(Rows::len).sum();
        let mut scores = Scores::default();
        let mut measured = Vec::with_capacity(COST_ROUNDS);
        for _ in 0..COST_ROUNDS {
            let started = wall();
            batches.iter().try_for_each(|batch| model.score(batch, &mut scores))?;
            measured.push(wall().saturating_sub(started));
        }
        measured.sort_unstable();
        Ok(measured[COST_ROUNDS / 2] as f64 / flows.max(1) as f64)
    };
    Ok(CostPlan { score_batch_ns: per_flow(COST_BATCH)?, score_single_ns: per_flow(1)? })
}

/// The same of a forest, which never fails.
pub(crate) fn forest_cost(
    model: &BoundForest,
    rows: &Rows,
    wall: &mut dyn FnMut() -> u64,
) -> CostPlan {
    score_cost(model, rows, wall).expect("a forest scores every row")
}
