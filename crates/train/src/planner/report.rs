//! The report of a plan: what was tried, what was chosen and why, and what it came to.

use super::confidence;
use super::guarantee::Granted;
use super::limits::{ConstraintStatus, Constraints, Objective};
use super::pool::{CandidatePair, CandidatePool};
use super::replay::{Chain, Evaluator, Part, ReplayFigures, ReplayPath, quantile};
use super::rules::{RuleReport, compare_rules};
use super::search::{self, OperatingPoint, SearchOutcome};
use super::writer::{PlanRequest, WrittenPlan, told_pairs};
use crate::audit::AuditReport;
use crate::dataset::{DataSummary, TrainingWarning, TrainingWarningKind};
use crate::open_set::OpenSetReport;
use crate::reliability::Reliability;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::Threshold;
use std::collections::BTreeMap;

/// What the report's `schema` says.
pub const SCHEMA: &str = "serveflow-plan-report/1";
/// A loss of macro-F1 that is worth a warning, though a limit tolerates it.
const LOOSE_LOSS: f64 = 0.02;
/// Points of a latency curve.
const CURVE: usize = 120;

/// Everything that is told of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// What is named, in words.
    pub task: String,
    /// Program and version.
    pub written_by: String,
    /// Hash of the bundle; empty until it is written.
    pub bundle: String,
    /// Hash of the label table.
    pub labels_sha256: String,
    /// Seed of all random choices.
    pub seed: u64,
    /// Labelled flows by split.
    pub flows: BTreeMap<String, u64>,
    /// Labelled flows and captures by class and split; none in reports of older pools.
    #[serde(default)]
    pub data: Option<DataSummary>,
    /// What the data and the limits cannot support.
    #[serde(default)]
    pub warnings: Vec<TrainingWarning>,
    /// Training flows that were answered by models which saw nothing of their captures.
    pub cross_fit_flows: u64,
    /// What was made small, and what had to be kept.
    pub objective: Objective,
    /// The limits.
    pub limits: Constraints,
    /// Share of the flows that should reach the last stage, if that was asked for.
    pub escalate: Option<f64>,
    /// Every candidate alone.
    pub singles: Vec<Single>,
    /// What the time budget left untrained.
    pub left_out: Vec<String>,
    /// The best operating points by latency, on the calibration flows.
    pub front: Vec<FrontPoint>,
    /// Cascades and operating points that were looked at.
    pub searched: (usize, usize),
    /// Whether the limits are kept.
    pub verdict: SearchOutcome,
    /// The chosen cascade.
    pub chosen: Choice,
    /// The best one of other stages.
    pub runner_up: Option<Choice>,
    /// Why the one and not the other, in words.
    pub reasons: Vec<String>,
    /// The best single candidate, as a cascade of one.
    pub best_single: Choice,
    /// How escalation rules compare, by pair of candidates, on the test flows.
    pub rules: Vec<RuleReport>,
    /// Per class, on the test flows.
    pub classes: Vec<ClassLine>,
    /// `confusion[truth][answer]` on the test flows.
    pub confusion: Vec<Vec<u64>>,
    /// Latency on the test flows: points of the distribution.
    pub latency: Vec<LatencyCurve>,
    /// What became of the guarantee that was asked for.
    pub guarantee: Option<Granted>,
    /// How far the probabilities of the chosen stages can be believed, on the test flows.
    pub reliability: Vec<StageReliability>,
    /// Flows of no class that was learned; none where no rule was asked for.
    #[serde(default)]
    pub unknown: Option<OpenSetReport>,
    /// The audit: validity checks; none where it was not asked for.
    pub audit: Option<AuditReport>,
    /// Predicted beside measured; empty until the plan was run.
    pub checks: Vec<Check>,
}

/// How far the probabilities of a stage can be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReliability {
    /// The stage.
    pub stage: String,
    /// Fitted on the calibration split, judged on the test flows.
    pub reliability: Reliability,
    /// Whether the plan tells calibrated confidence for this stage.
    #[serde(default)]
    pub calibrated: bool,
    /// Calibration error of the verdicts that the stage decides among the test flows: by its
    /// probability, and as the plan tells it.
    #[serde(default)]
    pub verdicts_ece: (f64, f64),
}

/// A candidate alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Single {
    /// Its name.
    pub name: String,
    /// Kind of model.
    pub kind: String,
    /// Packets that it sees.
    pub packets: u16,
    /// Longest wait for them, milliseconds.
    pub wait_ms: u64,
    /// On the calibration flows.
    pub val: ReplayFigures,
    /// On the test flows.
    pub test: ReplayFigures,
    /// Median wall time from question to answer, microseconds.
    pub compute_us: f64,
    /// Nanoseconds to score a flow in a batch of 64, and alone.
    pub score_ns: (f64, f64),
    /// Seconds of training.
    pub train_s: f64,
    /// Whether cascades were composed of it.
    pub on_front: bool,
}

/// An operating point of the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Its stages.
    pub stages: Vec<String>,
    /// Macro-F1 on the calibration flows.
    pub macro_f1: f64,
    /// Geometric mean of latency, microseconds.
    pub geometric_us: f64,
    /// Nanoseconds of a core per flow.
    pub cpu_ns: f64,
}

/// A cascade and its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Its stages.
    pub stages: Vec<String>,
    /// What passes flows on.
    pub rule: String,
    /// At which price.
    pub price: f64,
    /// The thresholds of each gate, where these were calibrated: one, or one for each class.
    #[serde(default)]
    pub thresholds: Vec<Vec<f32>>,
    /// On all calibration flows.
    pub val: ReplayFigures,
    /// On those of the calibration split alone.
    pub split: ReplayFigures,
    /// On the test flows.
    pub test: ReplayFigures,
    /// How the limits stand on the calibration flows.
    pub standings: Vec<ConstraintStatus>,
}

/// A class on the test flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassLine {
    /// Its label.
    pub label: String,
    /// Flows of it.
    pub flows: u64,
    /// Precision of the cascade.
    pub precision: f64,
    /// Recall of the cascade.
    pub recall: f64,
    /// F1 of the cascade.
    pub f1: f64,
    /// F1 of the best single candidate.
    pub single_f1: f64,
}

/// How latency is distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyCurve {
    /// Of what.
    pub name: String,
    /// Microseconds below which equal steps of the share of flows lie, from 0 to 1.
    pub us: Vec<f64>,
}

/// A figure as the planner predicts it and as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What, in words.
    pub what: String,
    /// Unit of both.
    pub unit: String,
    /// What the planner says.
    pub predicted: f64,
    /// What was measured.
    pub measured: f64,
    /// By how much they may differ: a difference for macro-F1, a share of the measured else.
    pub tolerance: f64,
    /// Whether they do not differ by more.
    pub holds: bool,
}

impl Check {
    /// A check of a share like macro-F1, by difference.
    #[must_use]
    pub fn points(what: &str, predicted: f64, measured: f64, tolerance: f64) -> Self {
        let holds = (predicted - measured).abs() <= tolerance;
        let (what, unit) = (what.to_owned(), String::new());
        Self { what, unit, predicted, measured, tolerance, holds }
    }

    /// A check of a quantity, by ratio.
    #[must_use]
    pub fn ratio(what: &str, unit: &str, predicted: f64, measured: f64, tolerance: f64) -> Self {
        let holds = (predicted - measured).abs() <= tolerance * measured.abs().max(1e-12);
        let (what, unit) = (what.to_owned(), unit.to_owned());
        Self { what, unit, predicted, measured, tolerance, holds }
    }
}

/// Tells of a plan.
#[must_use]
pub fn report(pool: &CandidatePool, request: &PlanRequest, planned: &WrittenPlan) -> PlanReport {
    let board = Evaluator { pool, heads: &planned.heads, cost: planned.cost.clone() };
    let teller = Teller { pool, board: &board, request, planned };
    let chosen = teller.choice(&planned.found.chosen);
    let runner_up = planned.found.runner_up.as_ref().map(|point| teller.choice(point));
    let best = pool.best();
    let best_single = teller.choice(&teller.single_point(best));
    let reasons = teller.reasons(&chosen, runner_up.as_ref(), &best_single);
    let (classes, confusion) = teller.classes(best);
    PlanReport {
        schema: SCHEMA.to_owned(),
        task: pool.task.clone(),
        written_by: pool.provenance.written_by.clone(),
        bundle: String::new(),
        labels_sha256: pool.provenance.labels_sha256.clone(),
        seed: pool.provenance.seed,
        flows: pool.provenance.flows.clone(),
        data: pool.data.clone(),
        warnings: teller.warnings(&chosen, &best_single),
        cross_fit_flows: (pool.val.truth.len() - pool.unseen) as u64,
        objective: request.wish.objective,
        limits: request.wish.limits,
        escalate: request.wish.escalate,
        singles: teller.singles(),
        left_out: pool.left_out.clone(),
        front: planned.found.front.iter().map(|point| teller.front_point(point)).collect(),
        searched: (planned.found.cascades, planned.found.points),
        verdict: planned.found.verdict.clone(),
        rules: teller.rules(best),
        latency: teller.latency(best),
        guarantee: planned.granted.clone(),
        reliability: teller.reliability(),
        unknown: None,
        audit: None,
        chosen,
        runner_up,
        reasons,
        best_single,
        classes,
        confusion,
        checks: Vec::new(),
    }
}

struct Teller<'a> {
    pool: &'a CandidatePool,
    board: &'a Evaluator<'a>,
    request: &'a PlanRequest,
    planned: &'a WrittenPlan,
}

impl Teller<'_> {
    fn names(&self, cascade: &Chain) -> Vec<String> {
        let name = |&stage: &usize| self.pool.candidates[stage].name.clone();
        cascade.stages.iter().map(name).collect()
    }

    fn figures(&self, cascade: &Chain, part: Part) -> ReplayFigures {
        self.board.figures(cascade, &self.board.walk(cascade, part), part)
    }

    /// A candidate as a cascade of one.
    fn single_point(&self, candidate: usize) -> OperatingPoint {
        let cascade = Chain::alone(candidate);
        let figures = self.figures(&cascade, Part::Val);
        OperatingPoint { cascade, figures, standings: Vec::new() }
    }

    fn choice(&self, point: &OperatingPoint) -> Choice {
        Choice {
            stages: self.names(&point.cascade),
            rule: point.cascade.rule.name().to_owned(),
            price: point.cascade.price,
            thresholds: point.cascade.thresholds.iter().map(numbers).collect(),
            val: point.figures.clone(),
            split: self.figures(&point.cascade, Part::Split),
            test: self.figures(&point.cascade, Part::Test),
            standings: point.standings.clone(),
        }
    }

    fn front_point(&self, point: &OperatingPoint) -> FrontPoint {
        FrontPoint {
            stages: self.names(&point.cascade),
            macro_f1: point.figures.macro_f1,
            geometric_us: point.figures.geometric_us,
            cpu_ns: point.figures.cpu_ns,
        }
    }

    fn singles(&self) -> Vec<Single> {
        let front = search::front(self.pool);
        let single = |(index, own): (usize, &super::pool::Candidate)| Single {
            name: own.name.clone(),
            kind: own.recipe.kind.words().to_owned(),
            packets: self.pool.row_packets(&own.recipe),
            wait_ms: own.recipe.wait_ms,
            val: self.figures(&Chain::alone(index), Part::Val),
            test: self.figures(&Chain::alone(index), Part::Test),
            compute_us: own.compute_ns / 1e3,
            score_ns: (own.cost.score_batch_ns, own.cost.score_single_ns),
            train_s: own.train_ns as f64 / 1e9,
            on_front: front.contains(&index),
        };
        self.pool.candidates.iter().enumerate().map(single).collect()
    }

    /// Rules from the chosen cascade's first stage, the best on one packet and the best of each
    /// other depth, to the best alone.
    fn rules(&self, best: usize) -> Vec<RuleReport> {
        let first = self.planned.found.chosen.cascade.stages[0];
        let mut fast: Vec<usize> =
            told_pairs(self.pool).into_iter().map(|pair| pair.fast).collect();
        if !fast.contains(&first) && first != best {
            fast.push(first);
        }
        let pairs = fast.into_iter().filter_map(|fast| {
            let learned = self.planned.heads.get(&(fast, best))?;
            let tolerated = self.request.wish.limits.max_loss;
            Some(compare_rules(self.pool, CandidatePair { fast, slow: best }, learned, tolerated))
        });
        pairs.collect()
    }

    fn classes(&self, best: usize) -> (Vec<ClassLine>, Vec<Vec<u64>>) {
        let chosen = &self.planned.found.chosen.cascade;
        let walk: ReplayPath = self.board.walk(chosen, Part::Test);
        let table = self.board.confusion(chosen, &walk, Part::Test);
        let truth = &self.pool.test.truth;
        let single = self.pool.candidates[best].test.confusion(truth, self.pool.classes());
        let line = |(class, label): (usize, &String)| {
            let figures = table.class(class);
            ClassLine {
                label: label.clone(),
                flows: figures.support,
                precision: figures.precision,
                recall: figures.recall,
                f1: figures.f1,
                single_f1: single.class(class).f1,
            }
        };
        let lines = self.pool.labels.iter().enumerate().map(line).collect();
        let classes = 0..self.pool.classes();
        let row = |truth| classes.clone().map(|answer| table.count(truth, answer)).collect();
        (lines, classes.clone().map(row).collect())
    }

    fn reliability(&self) -> Vec<StageReliability> {
        let (pool, classes) = (self.pool, self.pool.classes());
        let chosen = &self.planned.found.chosen.cascade;
        let walk = self.board.walk(chosen, Part::Test);
        let stage = |(at, &stage): (usize, &usize)| {
            let own = &pool.candidates[stage];
            let fit = (&own.val.scores[..pool.unseen * classes], Part::Split.truth(pool));
            let judge = (&own.test.scores[..], Part::Test.truth(pool));
            let reliability = Reliability::judge(fit, judge, classes);
            let written = &self.planned.plan.stages[at];
            let told = written.calibration().expect("the planner writes what rises");
            StageReliability {
                stage: own.name.clone(),
                reliability,
                calibrated: !written.confidence.is_empty(),
                verdicts_ece: confidence::judged(self.board, chosen, &walk, at, &told),
            }
        };
        chosen.stages.iter().enumerate().map(stage).collect()
    }

    fn latency(&self, best: usize) -> Vec<LatencyCurve> {
        let curve = |name: &str, cascade: &Chain| {
            let walk = self.board.walk(cascade, Part::Test);
            let mut all = self.board.latencies(cascade, &walk, Part::Test);
            let share = |step: usize| step as f64 / CURVE as f64;
            let us = (0..=CURVE).map(|step| quantile(&mut all, share(step)) / 1e3).collect();
            LatencyCurve { name: name.to_owned(), us }
        };
        let best_name = format!("{} alone", self.pool.candidates[best].name);
        vec![
            curve("cascade", &self.planned.found.chosen.cascade),
            curve(&best_name, &Chain::alone(best)),
        ]
    }

    /// What the data cannot support, and a limit that allows nearly all.
    fn warnings(&self, chosen: &Choice, best: &Choice) -> Vec<TrainingWarning> {
        let mut warnings = self.pool.data.as_ref().map(DataSummary::warnings).unwrap_or_default();
        let (wish, loss) = (&self.request.wish, best.val.macro_f1 - chosen.val.macro_f1);
        if wish.escalate.is_none() && wish.stages.is_none() && loss > LOOSE_LOSS {
            warnings.push(TrainingWarning {
                kind: TrainingWarningKind::LooseLimit,
                sentence: format!(
                    "--max-loss {} tolerates a macro-F1 of {:.4} on the calibration flows, \
                     {loss:.4} below {} alone, and the plan {} takes it. Lower --max-loss to keep \
                     more.",
                    wish.limits.max_loss,
                    chosen.val.macro_f1,
                    best.stages.join(", "),
                    chosen.stages.join(" > ")
                ),
            });
        }
        warnings
    }

    fn reasons(&self, chosen: &Choice, runner_up: Option<&Choice>, best: &Choice) -> Vec<String> {
        let (mut reasons, limits) = (Vec::new(), &self.request.wish.limits);
        match (&self.planned.found.verdict, self.request.wish.escalate) {
            (_, Some(share)) => reasons.push(format!(
                "A share of {share} of the flows was requested at the last stage; {:.3} of the \
                 calibration flows reach it.",
                chosen.val.reach.last().copied().unwrap_or_default()
            )),
            (SearchOutcome::Met, None) if !chosen.thresholds.is_empty() => reasons.push(format!(
                "The stages were given, and the thresholds of each gate were searched on resamples \
                 of the calibration flows: macro-F1 {:.4} on these flows, where {} below the last \
                 stage alone is tolerated.",
                chosen.val.macro_f1, limits.max_loss
            )),
            (verdict @ (SearchOutcome::Met | SearchOutcome::Barely), None) => reasons.push(format!(
                "Of the {} operating points of {} cascades it {} that keeps every limit: macro-F1 \
                 {:.4} on the calibration flows, against {:.4} of the best single model ({}), \
                 where a loss of {} is tolerated{}.",
                self.planned.found.points,
                self.planned.found.cascades,
                match verdict {
                    SearchOutcome::Met => format!(
                        "has the least {}, or nearly so with a stage less,",
                        self.request.wish.objective.name()
                    ),
                    _ => "is the most certain one".to_owned(),
                },
                chosen.val.macro_f1,
                best.val.macro_f1,
                best.stages.join(", "),
                limits.max_loss,
                match verdict {
                    SearchOutcome::Met => "; so it is on most resamples of their captures too",
                    _ => "; but on too few resamples of their captures, so it may be luck",
                },
            )),
            (SearchOutcome::NotMet { binding }, None) => {
                reasons.push(not_met(binding));
                let broken = chosen.standings.iter().filter(|standing| !standing.met);
                reasons.extend(broken.map(|s| {
                    format!("{}: {:.4} is required, it has {:.4}.", s.limit, s.wanted, s.found)
                }));
            }
        }
        reasons.extend(self.planned.granted.as_ref().map(guaranteed));
        if self.request.guarantee.is_some() && self.planned.granted.is_none() {
            reasons.push(format!(
                "The plan is {} alone: it loses nothing against itself, and there is nothing to \
                 guarantee.",
                chosen.stages.join(", ")
            ));
        }
        if let Some(other) = runner_up {
            reasons.push(format!(
                "The best cascade of other stages is {}: geometric mean of latency {:.1} us \
                 against {:.1}, {:.0} ns of a core a flow against {:.0}, macro-F1 {:.4} against \
                 {:.4}.",
                other.stages.join(" > "),
                other.val.geometric_us,
                chosen.val.geometric_us,
                other.val.cpu_ns,
                chosen.val.cpu_ns,
                other.val.macro_f1,
                chosen.val.macro_f1,
            ));
        }
        reasons
    }
}

/// What became of a guarantee, in words.
fn guaranteed(granted: &Granted) -> String {
    let Granted { guarantee, flows, measured, smallest, slow, .. } = granted;
    let what = super::guarantee::name(guarantee.loss).replace('_', "-");
    if granted.granted {
        return format!(
            "Guaranteed: {what} at most {} below {slow} alone, at confidence {}. Tested on {flows} \
             flows that nothing was fitted on, where the loss is {measured:.4}. It may escalate \
             more flows than the constraints alone need.",
            guarantee.tolerated, guarantee.confidence
        );
    }
    format!(
        "Not guaranteed: {what} at most {} below {slow} alone, at confidence {}, is not possible \
         with {flows} flows of the calibration split, so all flows go to {slow}. The least that \
         they support is {smallest:.4}.",
        guarantee.tolerated, guarantee.confidence
    )
}

fn numbers(threshold: &Threshold) -> Vec<f32> {
    match threshold {
        Threshold::Universal(threshold) => vec![*threshold],
        Threshold::PerClass(all) => all.clone(),
    }
}

fn not_met(binding: &[super::limits::Limit]) -> String {
    let named: Vec<String> = binding.iter().map(ToString::to_string).collect();
    match &named[..] {
        [] => {
            "No cascade keeps all limits, and to give up any one of them would not be enough; the \
               one taken comes closest."
                .to_owned()
        }
        [one] => format!("No cascade keeps all limits. The one that binds: {one}."),
        all => format!(
            "No cascade keeps all limits. Without any one of these, one would: {}.",
            all.join("; ")
        ),
    }
}
