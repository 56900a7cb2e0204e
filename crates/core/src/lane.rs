//! Jobs, the models that score them, and the lanes they are scored in.

use crate::deferral::FlowFacts;
use crate::rows::{RowShape, Rows, Scores};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a model gave no scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreError {
    /// What went wrong, in words.
    pub message: String,
}

impl fmt::Display for ScoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ScoreError {}

/// How to score: rows in, class probabilities out.
pub trait Model: Send + Sync + fmt::Debug {
    /// Width of the rows it takes.
    fn shape(&self) -> RowShape;
    /// Number of classes it scores.
    fn classes(&self) -> usize;
    /// Scores all rows; `scores` becomes `rows.len()` x `classes()`.
    ///
    /// # Errors
    /// When the model could not be evaluated; the flows keep the best answer so far.
    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError>;
}

/// A model that answers at once and always the same: what remains is what is around it.
#[derive(Clone, Debug)]
pub struct Constant {
    shape: RowShape,
    answer: Vec<f32>,
}

impl Constant {
    /// A model of rows of this shape that gives the first of so many classes this probability, and
    /// the others none.
    #[must_use]
    pub fn first(shape: RowShape, classes: usize, probability: f32) -> Self {
        let mut answer = vec![0.0; classes];
        answer.iter_mut().take(1).for_each(|first| *first = probability);
        Self { shape, answer }
    }
}

impl Model for Constant {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        self.answer.len()
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), self.answer.len());
        (0..rows.len()).for_each(|row| scores.row_mut(row).copy_from_slice(&self.answer));
        Ok(())
    }
}

/// A batch of flows that asked one stage.
#[derive(Debug, Default)]
pub struct Job {
    /// Index of the stage that is asked.
    pub stage: usize,
    /// Number of the plan that the stage is one of.
    pub(crate) plan: u8,
    /// The engine's tickets of the asking flows, one per row.
    pub(crate) tickets: Vec<u32>,
    /// Numbers of the asking flows, one per row, as in their verdicts.
    pub flows: Vec<u64>,
    /// What else is known of the flows, one per row.
    pub facts: Vec<FlowFacts>,
    /// Features, one row per flow.
    pub rows: Rows,
    /// The answer, filled by the lane.
    pub scores: Scores,
    /// Set by the lane when the model failed or was too late, and `scores` mean nothing.
    pub failed: bool,
}

/// Where a stage's jobs are scored. Never blocks.
pub trait Lane {
    /// Takes a job.
    ///
    /// # Errors
    /// Hands the job back when the lane is full; its flows are then shed.
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>>;
    /// A scored job, if one is done.
    fn poll(&mut self) -> Option<Box<Job>>;
    /// Whether its jobs are to be waited for no longer. Asked only by who waits: a lane that gives
    /// jobs up by itself, or whose models always answer, need not say so.
    fn is_given_up(&self) -> bool {
        false
    }
}

/// A lane that takes nothing: in the place of one that no stage uses, or that was given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLane;

impl Lane for NoLane {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        Err(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        None
    }
}

/// Whether a call of a model went well. A model that panics fails like any other: its job must come
/// back, or its flows would be waited for without end. Every lane calls its models through this.
///
/// To catch is sound here: a model is only borrowed, and must itself be fit to be called again; the
/// scores of a job that failed are never read.
pub fn went_well(call: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(false)
}

/// Scores on the caller's thread, as soon as a job is submitted.
#[derive(Debug)]
pub struct InlineLane {
    models: Vec<Arc<dyn Model>>,
    done: VecDeque<Box<Job>>,
}

impl InlineLane {
    /// A lane with the model of each stage, by stage index.
    #[must_use]
    pub fn new(models: Vec<Arc<dyn Model>>) -> Self {
        Self { models, done: VecDeque::new() }
    }
}

impl Lane for InlineLane {
    fn submit(&mut self, mut job: Box<Job>) -> Result<(), Box<Job>> {
        let (model, own) = (&self.models[job.stage], &mut *job);
        own.failed = !went_well(|| model.score(&own.rows, &mut own.scores).is_ok());
        self.done.push_back(job);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.done.pop_front()
    }
}
