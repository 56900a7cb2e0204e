//! A training: the order of its steps, once.
//!
//! [`Session::run`] takes labelled flows to a bundle and its report: record, train the candidates
//! and keep them, search a cascade, calibrate open-set rules, make the drift reference, write,
//! measure what was predicted, audit. [`Session::replan`] takes the candidates of an earlier
//! training to another bundle. Files are written here and nowhere else; nothing is printed.

mod checks;
mod error;
mod external;
mod files;
mod options;

pub use error::SessionError;
pub use files::{KeptPool, POOL, Page, pool_file, publish};
pub use options::{CandidateOptions, SessionOptions, UnknownOptions};

use crate::audit::examine;
use crate::dataset::Dataset;
use crate::drift;
use crate::open_set::{self, HeldOut, HeldOutWish};
use crate::pipeline::{Step, TrainPlan};
use crate::planner::candidates::{Built, build};
use crate::planner::pool::CandidatePool;
use crate::planner::report::{PlanReport, report};
use crate::planner::search::PlanGoal;
use crate::planner::writer::{PlanRequest, WrittenPlan, plan};
use serveflow_io::SourceError;
use serveflow_label::LabelBook;
use serveflow_model::bundle::{self, Bundle, DriftPlan};
use std::collections::BTreeMap;

/// The drift reference of a bundle.
const DRIFT_FILE: &str = "drift.json";

/// Follows a training.
pub trait Observer {
    /// How far a phase has come.
    fn step(&mut self, _: Step) {}
    /// A phase of such steps is over.
    fn phase_ended(&mut self) {}
    /// All captures were recorded.
    fn recorded(&mut self, _: &Dataset) {}
}

/// Follows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// What a training gives.
#[derive(Debug)]
pub struct SessionOutcome {
    /// The bundle, as it was written.
    pub bundle: Bundle,
    /// Its report; [`publish`] writes it beside the bundle.
    pub report: PlanReport,
    /// Damaged captures.
    pub damaged: Vec<SourceError>,
}

/// A training with its options.
#[derive(Clone, Debug)]
pub struct Session {
    options: SessionOptions,
    /// Wall time, nanoseconds from a fixed start.
    wall: fn() -> u64,
}

/// Candidates to plan with.
#[derive(Clone, Copy)]
struct Candidates<'a> {
    pool: &'a CandidatePool,
    models: &'a BTreeMap<String, Vec<u8>>,
}

/// Measures how well a plan's last stage detects classes without training data, where at most this
/// share of the known flows may be labelled unknown.
type HoldOut<'a> = dyn FnMut(&WrittenPlan, f64) -> Result<Option<HeldOut>, SessionError> + 'a;

impl Session {
    /// A training; `wall` gives wall time in nanoseconds from a fixed start, to measure costs.
    #[must_use]
    pub fn new(options: SessionOptions, wall: fn() -> u64) -> Self {
        Self { options, wall }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Trains candidates on the labelled flows of a book, plans a cascade of them, and writes it.
    ///
    /// # Errors
    /// When options contradict each other, before anything is trained; when a split has no flow, or
    /// a file cannot be written.
    pub fn run(
        &self,
        book: &LabelBook,
        observer: &mut dyn Observer,
    ) -> Result<SessionOutcome, SessionError> {
        let options = &self.options;
        options.check()?;
        let pool_plan = options.pool_plan()?;
        let train = options.train_plan();
        let mut cache = files::Folder::create(&options.out)?;
        let built = build(book, &train, &pool_plan, &mut cache, self.wall, &mut |step| {
            observer.step(step);
        })?;
        observer.phase_ended();
        observer.recorded(&built.dataset);
        files::write_pool(&options.out, &built)?;
        let stages = match train.tiers.is_empty() {
            true => None,
            false => Some(files::places(&built.pool, &pool_plan.recipes)?),
        };
        let request = self.request(stages, &train);
        let mut hold_out = |found: &WrittenPlan, rate| {
            let held = self.held_out(book, &train, &built.pool, found, rate, observer)?;
            observer.phase_ended();
            Ok(held)
        };
        let candidates = Candidates { pool: &built.pool, models: &built.models };
        let (mut bundle, mut report) = self.planned(candidates, &request, &mut hold_out)?;
        let checked = checks::Checked { pool: &built.pool, report: &report, flows: train.flows };
        report.checks = checked.run(book, &mut bundle, options.load(), self.wall)?;
        if options.audit {
            report.audit = audited(book, &train, &built, observer)?;
        }
        Ok(SessionOutcome { bundle, report, damaged: built.dataset.damaged })
    }

    /// Plans a cascade of the candidates of an earlier training, and writes it.
    ///
    /// # Errors
    /// When options contradict each other or the candidates, or a file cannot be written.
    pub fn replan(&self, kept: &KeptPool) -> Result<SessionOutcome, SessionError> {
        let options = &self.options;
        let stages = options.stage_names.as_deref().map(|names| kept.named(names)).transpose()?;
        options.check_goal(stages.as_ref().map(Vec::len))?;
        kept.check_guarantee(options.guarantee.is_some())?;
        kept.check_out(&options.out)?;
        let seed = kept.pool.provenance.seed;
        let train = TrainPlan { seed, threads: options.train.threads, ..TrainPlan::default() };
        let request = self.request(stages, &train);
        let candidates = Candidates { pool: &kept.pool, models: &kept.models };
        // Without captures no class can be held out.
        let (bundle, report) = self.planned(candidates, &request, &mut |_, _| Ok(None))?;
        Ok(SessionOutcome { bundle, report, damaged: Vec::new() })
    }

    fn request(&self, stages: Option<Vec<usize>>, train: &TrainPlan) -> PlanRequest {
        let options = &self.options;
        let ends_in_best = options.guarantee.is_some();
        PlanRequest {
            wish: PlanGoal { stages, ends_in_best, ..options.goal.clone() },
            guarantee: options.guarantee,
            lanes: options.lanes,
            seed: train.seed,
            threads: train.threads,
        }
    }

    /// Searches a cascade, writes the bundle, and reports it.
    fn planned(
        &self,
        Candidates { pool, models }: Candidates<'_>,
        request: &PlanRequest,
        hold_out: &mut HoldOut<'_>,
    ) -> Result<(Bundle, PlanReport), SessionError> {
        let mut found = plan(pool, models, request, self.wall)?;
        let mut report = report(pool, request, &found);
        if let Some(unknown) = self.options.unknown {
            let held = hold_out(&found, unknown.rate)?;
            report.unknown = Some(open_set::install(pool, &mut found, unknown.rate, held));
        }
        if let Some(reference) = drift::reference(pool, &found, drift::RATE) {
            found.plan.drift = Some(DriftPlan { file: DRIFT_FILE.to_owned() });
            found.models.insert(DRIFT_FILE.to_owned(), files::json(&reference));
        }
        let bundle = bundle::write(&self.options.out, &found.plan, found.models)?;
        report.bundle.clone_from(&bundle.id);
        Ok((bundle, report))
    }

    /// Trains the last stage of a plan again without each of some classes.
    fn held_out(
        &self,
        book: &LabelBook,
        train: &TrainPlan,
        pool: &CandidatePool,
        found: &WrittenPlan,
        rate: f64,
        observer: &mut dyn Observer,
    ) -> Result<Option<HeldOut>, SessionError> {
        let last = found.found.chosen.cascade.stages.last().copied().unwrap_or_default();
        let most = self.options.unknown.map_or(0, |unknown| unknown.most_classes);
        let (recipe, features) = (pool.candidates[last].recipe, &pool.features[..]);
        let wish = HeldOutWish { recipe, features, most, rate };
        Ok(open_set::hold_out(book, train, wish, &mut |step| observer.step(step))?)
    }
}

/// The audit of the best candidate that was trained here; none where all were given.
fn audited(
    book: &LabelBook,
    train: &TrainPlan,
    built: &Built,
    observer: &mut dyn Observer,
) -> Result<Option<crate::audit::AuditReport>, SessionError> {
    let Some(best) = built.pool.best_trained() else { return Ok(None) };
    let tier = built.pool.candidates[best].recipe.tier();
    let audit = examine(book, train, tier, &mut |step| observer.step(step))?;
    observer.phase_ended();
    Ok(Some(audit))
}
