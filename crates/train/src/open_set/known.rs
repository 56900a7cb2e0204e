//! The rule of each stage of a plan, and what it does to flows of known classes.

use super::{HeldOut, share, threshold};
use crate::planner::pool::CandidatePool;
use crate::planner::replay::{Evaluator, Part, ReplayPath};
use crate::planner::writer::WrittenPlan;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::Uncertainty;
use serveflow_core::open_set::OpenSet;
use serveflow_model::bundle::UnknownPlan;

/// What is told of a plan's open-set rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSetReport {
    /// Share of the known flows of a stage that may be called unknown.
    pub rate: f64,
    /// How odd scores are: the chosen score.
    pub score: String,
    /// The rule of each stage.
    pub stages: Vec<StageUnknown>,
    /// Share of the test flows that are called unknown, all of which are of known classes.
    pub test: f64,
    /// Accuracy among the others.
    pub accuracy_rest: f64,
    /// Share of right labels among those called unknown: what is lost.
    pub accuracy_unknown: f64,
    /// Test flows called unknown, by class.
    pub classes: Vec<ClassUnknown>,
    /// How well classes are told that were held out; none where that was not tried.
    pub held_out: Option<HeldOut>,
}

/// The rule of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageUnknown {
    /// The stage.
    pub stage: String,
    /// Its threshold; none where it decides too few calibration flows for the rate.
    pub threshold: Option<f32>,
    /// Flows of the calibration split that it decides, and the share that is called unknown.
    pub val: (u64, f64),
    /// The same of the test flows.
    pub test: (u64, f64),
}

/// A class on the test flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassUnknown {
    /// Its label.
    pub label: String,
    /// Flows of it.
    pub flows: u64,
    /// Share of these that are called unknown.
    pub unknown: f64,
}

/// Flows of a part as the plan decides them.
struct Decided<'a> {
    board: &'a Evaluator<'a>,
    planned: &'a WrittenPlan,
    part: Part,
    walk: ReplayPath,
}

impl<'a> Decided<'a> {
    fn new(board: &'a Evaluator<'a>, planned: &'a WrittenPlan, part: Part) -> Self {
        Self { board, planned, part, walk: board.walk(&planned.found.chosen.cascade, part) }
    }

    fn of_stage(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let stop = &self.walk.stop;
        (0..stop.len()).filter(move |&flow| usize::from(stop[flow]) == at)
    }

    fn scores(&self, flow: usize) -> &[f32] {
        let pool = self.board.pool;
        let stage = self.planned.found.chosen.cascade.stages[usize::from(self.walk.stop[flow])];
        self.part.answers(&pool.candidates[stage]).row(flow, pool.classes())
    }

    fn is_unknown(&self, rules: &[Option<OpenSet>], flow: usize) -> bool {
        let rule = rules[usize::from(self.walk.stop[flow])];
        rule.is_some_and(|rule| rule.is_unknown(self.scores(flow)))
    }
}

/// Gives each stage of a plan its rule, and tells what that does. Where classes were held out,
/// their best score counts; least confidence otherwise.
#[must_use]
pub fn install(
    pool: &CandidatePool,
    planned: &mut WrittenPlan,
    rate: f64,
    held_out: Option<HeldOut>,
) -> OpenSetReport {
    let score = held_out.as_ref().map_or(Uncertainty::LeastConfidence, HeldOut::score);
    let board = Evaluator { pool, heads: &planned.heads, cost: planned.cost.clone() };
    let val = Decided::new(&board, planned, Part::Split);
    let test = Decided::new(&board, planned, Part::Test);
    let stages = planned.found.chosen.cascade.stages.len();
    let rule = |at: usize| {
        let odd = val.of_stage(at).map(|flow| score.uncertainty(val.scores(flow)));
        threshold(odd.collect(), rate).map(|threshold| OpenSet { score, threshold })
    };
    let rules: Vec<Option<OpenSet>> = (0..stages).map(rule).collect();
    let of_stage = |own: &Decided<'_>, at: usize| {
        let unknown = share(own.of_stage(at), |flow| own.is_unknown(&rules, flow));
        (own.of_stage(at).count() as u64, unknown)
    };
    let told = |at: usize| StageUnknown {
        stage: planned.plan.stages[at].name.clone(),
        threshold: rules[at].map(|rule| rule.threshold),
        val: of_stage(&val, at),
        test: of_stage(&test, at),
    };
    let stages: Vec<StageUnknown> = (0..stages).map(told).collect();
    let report = judged(
        &test,
        &rules,
        OpenSetReport {
            rate,
            score: score.name().to_owned(),
            stages,
            test: 0.0,
            accuracy_rest: 0.0,
            accuracy_unknown: 0.0,
            classes: Vec::new(),
            held_out,
        },
    );
    for (stage, own) in planned.plan.stages.iter_mut().zip(&report.stages) {
        stage.unknown = own.threshold.map(|threshold| UnknownPlan {
            score: report.score.clone(),
            threshold,
            rate,
            flows: own.val.0,
            measured: own.val.1,
        });
    }
    report
}

/// The same with what the test flows say.
fn judged(test: &Decided<'_>, rules: &[Option<OpenSet>], report: OpenSetReport) -> OpenSetReport {
    let pool = test.board.pool;
    let cascade = &test.planned.found.chosen.cascade;
    let labels = test.board.labels(cascade, &test.walk, test.part);
    let truth = test.part.truth(pool);
    let unknown: Vec<bool> = (0..truth.len()).map(|flow| test.is_unknown(rules, flow)).collect();
    let right = |called: bool| {
        let own = (0..truth.len()).filter(|&flow| unknown[flow] == called);
        share(own, |flow| labels[flow] == truth[flow])
    };
    let class = |(class, label): (usize, &String)| {
        let own = || (0..truth.len()).filter(|&flow| usize::from(truth[flow]) == class);
        ClassUnknown {
            label: label.clone(),
            flows: own().count() as u64,
            unknown: share(own(), |flow| unknown[flow]),
        }
    };
    OpenSetReport {
        test: share(&unknown, |&unknown| unknown),
        accuracy_rest: right(false),
        accuracy_unknown: right(true),
        classes: pool.labels.iter().enumerate().map(class).collect(),
        ..report
    }
}
