//! The audit evaluation of a training run: how far its figures can be trusted, and why not
//! further.
//!
//! One reference model is trained four times, on the split that the data comes with and on a random
//! split of the same flows, each with the planned masks and with none. Around it stand what needs
//! no training: intervals by bootstrap over captures, test flows that equal a training flow, a
//! nearest-neighbour baseline on sizes, directions and gaps, and what the model leans on, by
//! permutation. What that means is said in [warnings](Warning), with these thresholds:
//!
//! | warning | when |
//! |---|---|
//! | random split | its macro-F1 is more than [`SPLIT_GAP`] above that of the given split |
//! | identity | identity fields carry the model on either split, as below |
//! | no masks | macro-F1 rises on the random split, or moves on the given one, by [`UNMASK_GAP`] |
//! | duplicates | more than [`DUPLICATE_SHARE`] of the test flows equal a training flow |
//! | nearest neighbours | the model is at most [`NEAREST_MARGIN`] better |
//! | shared captures | a capture has both training and test flows |
//! | unseen | a label of test flows has no training flow |
//! | few captures | the test flows are from fewer than [`FEW_CAPTURES`] captures |
//!
//! A group of identity fields carries the model if it has more than [`IDENTITY_SHARE`] of the drops
//! in macro-F1 or of the changed predictions, and more than [`IDENTITY_FLOOR`] of all macro-F1 or
//! predictions.

mod bootstrap;
mod duplicates;
mod fields;
mod model;
mod nearest;
mod report;
mod split;
mod spread;
#[cfg(test)]
mod tests;
mod text;
mod warnings;

pub use report::{
    AuditReport, BootstrapReport, Counts, DataReport, DuplicateReport, Estimate, FieldReport,
    FieldsReport, Figures, Interval, NearestReport, SplitReport, UnseenLabel, Warning, WarningKind,
};

use crate::dataset::{Dataset, RecordPlan, record};
use crate::pipeline::{PipelineError, Step, Tier, TrainPlan};
use bootstrap::{Bootstrap, ByCapture, Resampled};
use duplicates::{Copied, copies};
use fields::{Asked, FieldSampling, importance};
use model::Model;
use nearest::Neighbours;
use serveflow_core::features::{Mask, MaskSet};
use serveflow_label::{Capture, LabelBook};
use split::{Parts, stratified};
use std::collections::BTreeSet;

/// Macro-F1 by which a random split may be kinder than the given one.
pub const SPLIT_GAP: f64 = 0.05;
/// Part of the importance that one group of identity fields may carry.
pub const IDENTITY_SHARE: f64 = 0.3;
/// Macro-F1, or share of changed answers, below which importance is too small to warn of.
pub const IDENTITY_FLOOR: f64 = 0.01;
/// Macro-F1 that masks may make a difference of.
pub const UNMASK_GAP: f64 = 0.05;
/// Share of the test flows that may equal a training flow.
pub const DUPLICATE_SHARE: f64 = 0.2;
/// Macro-F1 that a model should be above the nearest neighbours.
pub const NEAREST_MARGIN: f64 = 0.02;
/// Test captures below which intervals are rough.
pub const FEW_CAPTURES: usize = 10;
/// Draws of the bootstrap.
pub const RESAMPLES: usize = 1000;
/// Most training flows that the nearest-neighbour baseline keeps.
pub const NEAREST_FLOWS: usize = 10_000;
/// Most calibration flows that fields are dealt out among, and neighbours are counted on.
pub const VAL_FLOWS: usize = 5_000;
/// Times that each field is dealt out.
pub const REPEATS: usize = 3;

/// Stages of the recording: planned masks, none, what the baseline sees, no TCP timestamps.
const MASKED: usize = 0;
const UNMASKED: usize = 1;
const SERIES: usize = 2;
const UNTIMED: usize = 3;

/// Evaluates a tier of a plan honestly, on the labelled flows of a book.
///
/// The captures are read once; most of the time goes into training the tier four times, or twice
/// where the plan masks nothing that its features show.
///
/// # Errors
/// When a part of the data has no flow, a feature name is unknown, or a parameter is out of range.
pub fn examine(
    book: &LabelBook,
    plan: &TrainPlan,
    tier: Tier,
    progress: &mut dyn FnMut(Step),
) -> Result<AuditReport, PipelineError> {
    let files = book.files.len();
    let recorded = record(book, &recording(plan, tier), &mut |done| {
        progress(Step::Recording(done, files));
    });
    examine_recorded(&recorded.map_err(PipelineError::Record)?, plan, tier, progress)
}

/// What is recorded: the tier's rows in all forms that are looked at.
fn recording(plan: &TrainPlan, tier: Tier) -> RecordPlan {
    let mut recording = plan.recording(&[tier.packets; 4]);
    recording.specs[UNMASKED].masks = MaskSet::from_iter([]);
    recording.specs[SERIES].encoders = vec!["packet_series".to_owned()];
    recording.specs[UNTIMED].masks = plan.masks.iter().chain([Mask::TcpTimestamps]).collect();
    recording
}

/// Evaluates on what was recorded with the stages of [`recording`].
fn examine_recorded(
    dataset: &Dataset,
    plan: &TrainPlan,
    tier: Tier,
    progress: &mut dyn FnMut(Step),
) -> Result<AuditReport, PipelineError> {
    let bench = Bench { dataset, plan, tier };
    let given = Parts::given(dataset)?;
    let random = given.random(plan.seed);
    let of_given = bench.split(&given, progress)?;
    let of_random = bench.split(&random, progress)?;
    let masked = of_given.report.masked.macro_f1.value;
    let mut report = AuditReport {
        model: tier.to_string(),
        seed: plan.seed,
        data: data(dataset, &given),
        masks: plan.masks.iter().map(|mask| mask.name().to_owned()).collect(),
        bootstrap: BootstrapReport { resamples: RESAMPLES, captures: of_given.captures },
        random_minus_given: of_random.report.masked.macro_f1.value - masked,
        given: of_given.report,
        random: of_random.report,
        duplicates: bench.duplicates(&given, &of_given.answers),
        random_duplicates: bench.duplicates(&random, &of_random.answers),
        nearest: bench.nearest(&given, &of_given.resampled),
        fields: bench.fields(&given, &of_given.model),
        random_fields: bench.fields(&random, &of_random.model),
        warnings: Vec::new(),
    };
    report.warnings = warnings::warnings(&report);
    Ok(report)
}

/// What all parts of the evaluation share.
struct Bench<'a> {
    dataset: &'a Dataset,
    plan: &'a TrainPlan,
    tier: Tier,
}

/// The models of one split, asked about its test flows.
struct Judged {
    report: SplitReport,
    /// The model with the planned masks, its answers and resamples.
    model: Model,
    answers: Vec<u16>,
    resampled: Resampled,
    captures: usize,
}

impl Bench<'_> {
    fn bootstrap(&self) -> Bootstrap {
        let (seed, threads) = (self.plan.seed, self.plan.threads);
        Bootstrap { resamples: RESAMPLES, seed, threads }
    }

    fn by_capture(&self, flows: &[usize], answers: &[u16]) -> ByCapture {
        let captures: Vec<Capture> =
            flows.iter().map(|&flow| self.dataset.flows[flow].capture).collect();
        let truth = self.dataset.labels_of(flows);
        ByCapture::new(self.dataset.labels.len(), &captures, &truth, answers)
    }

    /// Whether the masks change nothing, because there are none or the features show no header.
    fn masks_do_nothing(&self) -> bool {
        let (rows, columns) = (&self.dataset.rows, &self.dataset.columns);
        columns[MASKED] == columns[UNMASKED] && rows[MASKED] == rows[UNMASKED]
    }

    fn split(
        &self,
        parts: &Parts,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Judged, PipelineError> {
        let params = self.plan.seeded_params();
        let mut fit = |stage| {
            Model::fit(self.dataset, stage, parts, self.tier, &params, progress).map(|model| {
                let answers = model.answers(&self.dataset.rows_of(stage, &parts.test));
                (model, answers)
            })
        };
        let (model, answers) = fit(MASKED)?;
        let unmasked = if self.masks_do_nothing() { answers.clone() } else { fit(UNMASKED)?.1 };
        let grouped = self.by_capture(&parts.test, &answers);
        let resampled = grouped.resample(self.bootstrap());
        let unmasked = self.by_capture(&parts.test, &unmasked).resample(self.bootstrap());
        let report = SplitReport {
            masked: resampled.figures(),
            unmasked: unmasked.figures(),
            masked_minus_unmasked: resampled.minus(&unmasked),
        };
        Ok(Judged { report, model, answers, resampled, captures: grouped.captures() })
    }

    fn duplicates(&self, parts: &Parts, answers: &[u16]) -> DuplicateReport {
        let copied = copies(self.dataset, MASKED, &parts.train, &parts.test);
        let count = |of: &[Copied]| copied.iter().filter(|copied| of.contains(copied)).count();
        let fresh = (0..copied.len()).filter(|&at| copied[at] == Copied::No);
        let (flows, answers): (Vec<usize>, Vec<u16>) =
            fresh.map(|at| (parts.test[at], answers[at])).unzip();
        let judged = || self.by_capture(&flows, &answers).resample(self.bootstrap()).figures();
        DuplicateReport {
            test_flows: copied.len(),
            duplicates: copied.len() - flows.len(),
            other_label: count(&[Copied::Mixed, Copied::Other]),
            only_other_labels: count(&[Copied::Other]),
            without: (!flows.is_empty()).then(judged),
        }
    }

    /// At most so many of some flows, by their labels.
    fn sample(&self, flows: &[usize], most: usize) -> Vec<usize> {
        stratified(flows, &self.dataset.labels_of(flows), most, self.plan.seed)
    }

    fn nearest(&self, parts: &Parts, model: &Resampled) -> NearestReport {
        let (dataset, threads) = (self.dataset, self.plan.threads);
        let (train, val) =
            (self.sample(&parts.train, NEAREST_FLOWS), self.sample(&parts.val, VAL_FLOWS));
        let all = [&train[..], &val, &parts.test].concat();
        let mut points = nearest::points(dataset, SERIES, &all);
        nearest::standardise(&mut points, train.len());
        let known = Neighbours::new(&points, dataset.labels_of(&train));
        let width = points.width;
        let (to_val, to_test) = (train.len() * width, (train.len() + val.len()) * width);
        let tried = known.answers(&points.values[to_val..to_test], threads);
        let classes = dataset.labels.len();
        let (best, f1s) = nearest::choose_k(classes, &dataset.labels_of(&val), &tried);
        let answers = known.answers(&points.values[to_test..], threads).swap_remove(best);
        let resampled = self.by_capture(&parts.test, &answers).resample(self.bootstrap());
        NearestReport {
            columns: nearest::COLUMNS.map(str::to_owned).to_vec(),
            k: nearest::TRIED[best],
            val_macro_f1: nearest::TRIED.into_iter().zip(f1s).collect(),
            train_flows: parts.train.len(),
            kept_flows: train.len(),
            figures: resampled.figures(),
            model_minus_nearest: model.minus(&resampled),
        }
    }

    fn fields(&self, parts: &Parts, model: &Model) -> FieldsReport {
        let (dataset, plan) = (self.dataset, self.plan);
        let val = self.sample(&parts.val, VAL_FLOWS);
        let timed = !plan.masks.contains(Mask::TcpTimestamps)
            && plan.features.iter().any(|name| name == "header_bits");
        let untimed = timed.then(|| dataset.rows_of(UNTIMED, &val));
        let asked = Asked {
            classes: dataset.labels.len(),
            rows: &dataset.rows_of(MASKED, &val),
            truth: &dataset.labels_of(&val),
            untimed: untimed.as_ref(),
        };
        let dealing = FieldSampling { repeats: REPEATS, seed: plan.seed, threads: plan.threads };
        importance(&asked, model, &dataset.columns[MASKED], dealing)
    }
}

/// Counts of the flows, captures and labels of a split.
fn data(dataset: &Dataset, parts: &Parts) -> DataReport {
    let captures = |flows: &[usize]| -> BTreeSet<Capture> {
        flows.iter().map(|&flow| dataset.flows[flow].capture).collect()
    };
    let [train, val, test] = [&parts.train, &parts.val, &parts.test].map(|part| captures(part));
    let learned: BTreeSet<u16> = dataset.labels_of(&parts.train).into_iter().collect();
    let asked = dataset.labels_of(&parts.test);
    let unseen = |(index, label): (usize, &String)| {
        let flows = asked.iter().filter(|&&own| usize::from(own) == index).count();
        let unseen = flows > 0 && !learned.contains(&(index as u16));
        unseen.then(|| UnseenLabel { label: label.clone(), flows })
    };
    let (flows, of_test) = (parts, &test);
    DataReport {
        flows: Counts { train: flows.train.len(), val: flows.val.len(), test: flows.test.len() },
        captures: Counts { train: train.len(), val: val.len(), test: test.len() },
        shared_captures: train.intersection(of_test).count(),
        captures_from_table: test.iter().any(|capture| matches!(capture, Capture::Source(_))),
        unseen: dataset.labels.iter().enumerate().filter_map(unseen).collect(),
    }
}
