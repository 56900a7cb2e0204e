//! Evaluation: the cascade on labelled captures, beside each of its tiers alone, random escalation
//! and an oracle, all in the same run through the same engine.

mod replay;
mod report;
mod text;

pub use replay::{Answered, EvaluationReplay, stage_alone};
pub use report::{
    AccountsReport, ClassReport, FlowReport, LatencyReport, PacketReport, Percentiles,
    ReferenceReport, Report, StageReport, TierReport, UnknownReport,
};

use crate::metrics::Confusion;
use crate::random::Random;
use replay::ReplayTally;
use serveflow_core::engine::EngineConfig;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::Bundle;
use std::fmt;

/// What the JSON's `schema` says.
pub const SCHEMA: &str = "serveflow-evaluation/1";
/// The mark that the paper sets.
const MARK_NS: u64 = 16_000_000;
/// Draws of random escalation.
const DRAWS: u64 = 20;

/// Why nothing could be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The labels name a class that the bundle does not know.
    UnknownLabel {
        /// The class.
        label: String,
        /// Labels of the bundle.
        known: Vec<String>,
    },
    /// No labelled flow of the split was met.
    NoFlows {
        /// The split.
        split: Split,
    },
}

impl fmt::Display for EvaluateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLabel { label, known } => {
                write!(f, "label `{label}`: expected one of the bundle's: {}", known.join(", "))
            }
            Self::NoFlows { split } => {
                write!(f, "no labelled flow of the split `{}` was found", split.name())
            }
        }
    }
}

impl std::error::Error for EvaluateError {}

/// The figures, and the flows that they are made of.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The figures.
    pub report: Report,
    /// The cascade's verdicts on the labelled flows of the split.
    pub answered: Vec<Answered>,
}

/// Evaluates a bundle on the flows of a split.
///
/// `wall` tells wall time in nanoseconds; `progress` is told how many of the passes over the
/// captures are done, of how many.
///
/// # Errors
/// When the labels do not fit the bundle, or there is no flow to evaluate.
pub fn evaluate(
    bundle: &Bundle,
    book: &LabelBook,
    split: Split,
    limits: EngineConfig,
    wall: &mut dyn FnMut() -> u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, EvaluateError> {
    let labels = label_map(bundle, book)?;
    let passes = bundle.cascade.stages().len() + 1;
    let mut replay = EvaluationReplay::new(bundle, book, &labels, split, limits, wall);
    let cascade = replay.cascade();
    progress(1, passes);
    let mut tiers = Vec::new();
    for stage in 0..bundle.cascade.stages().len() {
        tiers.push(replay.tier(stage));
        progress(stage + 2, passes);
    }
    if cascade.answered.is_empty() {
        return Err(EvaluateError::NoFlows { split });
    }
    let report = report(bundle, split, &cascade, &tiers);
    Ok(Evaluation { report, answered: cascade.answered })
}

/// The bundle's index of each label of the book.
///
/// # Errors
/// When the bundle does not know a label.
pub fn label_map(bundle: &Bundle, book: &LabelBook) -> Result<Vec<u16>, EvaluateError> {
    let known = bundle.cascade.labels();
    let index = |label: &String| {
        let found = known.iter().position(|name| name == label).map(|index| index as u16);
        let unknown =
            || EvaluateError::UnknownLabel { label: label.clone(), known: known.to_vec() };
        found.ok_or_else(unknown)
    };
    book.labels.iter().map(index).collect()
}

fn report(bundle: &Bundle, split: Split, cascade: &ReplayTally, tiers: &[ReplayTally]) -> Report {
    let labels = bundle.cascade.labels();
    let table = confusion(labels.len(), &cascade.answered);
    let tier_reports: Vec<TierReport> =
        tiers.iter().enumerate().map(|(stage, tally)| tier_report(bundle, stage, tally)).collect();
    let (fast, slow) = (tier_reports[0].clone(), tier_reports[tier_reports.len() - 1].clone());
    let latency_us = latency(&cascade.answered);
    let seconds = cascade.wall_ns.max(1) as f64 / 1e9;
    Report {
        schema: SCHEMA,
        bundle: bundle.id.clone(),
        split: split.name().to_owned(),
        flows: cascade.answered.len() as u64,
        other_flows: cascade.other_flows,
        missing_flows: cascade.missing_flows,
        accuracy: table.accuracy(),
        macro_f1: table.macro_f1(),
        weighted_f1: table.weighted_f1(),
        unknown: unknown_report(bundle, &cascade.answered),
        classes: class_reports(labels, &table),
        confusion: matrix(&table),
        stages: stage_reports(bundle, cascade),
        reasons: AccountsReport::new(&cascade.accounts).flows.verdicts,
        median_speedup: slow.latency_us.end_to_end.p50 / latency_us.end_to_end.p50.max(1e-3),
        slow_only: slow,
        fast_only: fast,
        tiers: tier_reports,
        random: random(labels.len(), cascade, tiers),
        oracle: oracle(labels.len(), tiers),
        latency_us,
        share_under_16ms: share_under_mark(&cascade.answered),
        flows_per_s: cascade.accounts.flows.seen as f64 / seconds,
        packets_per_s: cascade.accounts.packets.seen as f64 / seconds,
        disagreements: disagreements(cascade, tiers),
        accounts: AccountsReport::new(&cascade.accounts),
        damaged: cascade.damaged.clone(),
    }
}

fn confusion(classes: usize, answered: &[Answered]) -> Confusion {
    let mut table = Confusion::new(classes);
    answered.iter().for_each(|flow| table.add(flow.truth, flow.label));
    table
}

fn class_reports(labels: &[String], table: &Confusion) -> Vec<ClassReport> {
    let class = |(index, label): (usize, &String)| {
        let figures = table.class(index);
        ClassReport {
            label: label.clone(),
            flows: figures.support,
            precision: figures.precision,
            recall: figures.recall,
            f1: figures.f1,
        }
    };
    labels.iter().enumerate().map(class).collect()
}

/// What is called unknown, where a stage of the bundle has a rule for it.
fn unknown_report(bundle: &Bundle, answered: &[Answered]) -> Option<UnknownReport> {
    bundle.cascade.stages().iter().find(|stage| stage.unknown.is_some())?;
    let share = |holds: &dyn Fn(&Answered) -> bool, of: &dyn Fn(&Answered) -> bool| {
        let all = answered.iter().filter(|flow| of(flow)).count();
        let found = answered.iter().filter(|flow| of(flow) && holds(flow)).count();
        found as f64 / all.max(1) as f64
    };
    let is_unknown = |flow: &Answered| flow.unknown;
    let is_right = |flow: &Answered| flow.label == Some(flow.truth);
    let classes = 0..bundle.cascade.labels().len();
    Some(UnknownReport {
        share: share(&is_unknown, &|_| true),
        accuracy_rest: share(&is_right, &|flow| !flow.unknown),
        accuracy_unknown: share(&is_right, &is_unknown),
        by_class: classes
            .map(|class| share(&is_unknown, &|flow| usize::from(flow.truth) == class))
            .collect(),
    })
}

fn matrix(table: &Confusion) -> Vec<Vec<u64>> {
    let row = |truth| (0..table.classes()).map(|answer| table.count(truth, answer)).collect();
    (0..table.classes()).map(row).collect()
}

fn stage_reports(bundle: &Bundle, cascade: &ReplayTally) -> Vec<StageReport> {
    let all = cascade.answered.len() as f64;
    let decided_by = |stage: usize| cascade.answered.iter().filter(move |flow| flow.stage == stage);
    let report = |(index, plan): (usize, &serveflow_model::bundle::StagePlan)| {
        let mut table = Confusion::new(bundle.cascade.labels().len());
        decided_by(index).for_each(|flow| table.add(flow.truth, flow.label));
        let passed_on = cascade.answered.iter().filter(|flow| flow.stage > index).count();
        StageReport {
            name: plan.name.clone(),
            model: plan.model.kind.clone(),
            packets: plan.packets,
            share: decided_by(index).count() as f64 / all,
            escalated: passed_on as f64 / all,
            accuracy: table.accuracy(),
            macro_f1: table.macro_f1(),
        }
    };
    bundle.plan.stages.iter().enumerate().map(report).collect()
}

fn tier_report(bundle: &Bundle, stage: usize, tally: &ReplayTally) -> TierReport {
    let table = confusion(bundle.cascade.labels().len(), &tally.answered);
    let plan = &bundle.plan.stages[stage];
    let short = tally.answered.iter().filter(|flow| flow.packets < plan.packets).count();
    TierReport {
        name: plan.name.clone(),
        packets: plan.packets,
        accuracy: table.accuracy(),
        macro_f1: table.macro_f1(),
        weighted_f1: table.weighted_f1(),
        short_share: short as f64 / tally.answered.len().max(1) as f64,
        latency_us: latency(&tally.answered),
        share_under_16ms: share_under_mark(&tally.answered),
    }
}

fn latency(answered: &[Answered]) -> LatencyReport {
    let of = |value: fn(&Answered) -> u64| Percentiles::of_ns(answered.iter().map(value).collect());
    LatencyReport {
        collection: of(|flow| flow.collection_ns),
        compute: of(|flow| flow.compute_ns),
        end_to_end: of(Answered::end_to_end_ns),
    }
}

fn share_under_mark(answered: &[Answered]) -> f64 {
    let under = answered.iter().filter(|flow| flow.end_to_end_ns() < MARK_NS).count();
    under as f64 / answered.len().max(1) as f64
}

/// The stage that decided each flow, shuffled over the flows.
fn random(classes: usize, cascade: &ReplayTally, tiers: &[ReplayTally]) -> ReferenceReport {
    let mut stops: Vec<usize> = cascade.answered.iter().map(|flow| flow.stage).collect();
    let shares = shares(&stops, tiers.len());
    let (mut accuracy, mut macro_f1) = (0.0, 0.0);
    for draw in 0..DRAWS {
        let count = stops.len();
        Random::new(&[draw]).choose(&mut stops, count);
        let table = replayed(classes, tiers, &stops);
        accuracy += table.accuracy() / DRAWS as f64;
        macro_f1 += table.macro_f1() / DRAWS as f64;
    }
    ReferenceReport { accuracy, macro_f1, shares }
}

/// Each flow stops at the first stage that is right; one that no stage gets right stays at the
/// first, since escalating it gains nothing.
fn oracle(classes: usize, tiers: &[ReplayTally]) -> ReferenceReport {
    let right = |flow: usize| {
        let is_right =
            |tier: &ReplayTally| tier.answered[flow].label == Some(tier.answered[flow].truth);
        tiers.iter().position(is_right).unwrap_or(0)
    };
    let stops: Vec<usize> = (0..tiers[0].answered.len()).map(right).collect();
    let table = replayed(classes, tiers, &stops);
    ReferenceReport {
        accuracy: table.accuracy(),
        macro_f1: table.macro_f1(),
        shares: shares(&stops, tiers.len()),
    }
}

fn shares(stops: &[usize], stages: usize) -> Vec<f64> {
    let count = |stage| stops.iter().filter(|&&stop| stop == stage).count();
    (0..stages).map(|stage| count(stage) as f64 / stops.len().max(1) as f64).collect()
}

fn replayed(classes: usize, tiers: &[ReplayTally], stops: &[usize]) -> Confusion {
    let mut table = Confusion::new(classes);
    for (flow, &stop) in stops.iter().enumerate() {
        let answered = &tiers[stop].answered[flow];
        table.add(answered.truth, answered.label);
    }
    table
}

/// Flows whose verdict is not what its stage says of them when it stands alone.
fn disagreements(cascade: &ReplayTally, tiers: &[ReplayTally]) -> u64 {
    let differs = |(index, flow): &(usize, &Answered)| {
        let alone = &tiers[flow.stage].answered[*index];
        (alone.flow, alone.first_ns, alone.label) != (flow.flow, flow.first_ns, flow.label)
    };
    cascade.answered.iter().enumerate().filter(differs).count() as u64
}
