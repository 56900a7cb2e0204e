//! Reports for tests: a full one with an awkward label, and the least there can be.

use serveflow_train::dataset::{ClassCount, DataSummary, SplitCount};
use serveflow_train::planner::guarantee::Granted;
use serveflow_train::planner::limits::{ConstraintStatus, Constraints, Limit, Objective};
use serveflow_train::planner::replay::ReplayFigures;
use serveflow_train::planner::report::{
    Check, Choice, ClassLine, FrontPoint, LatencyCurve, PlanReport, SCHEMA, Single,
    StageReliability,
};
use serveflow_train::planner::rules::{RuleCurve, RuleReport};
use serveflow_train::planner::search::SearchOutcome;
use serveflow_train::reliability::Reliability;
use serveflow_train::risk_control::{Guarantee, Loss};

/// A label that breaks a page which does not escape it.
pub(crate) const AWKWARD: &str = "<b>&\"";

fn figures(macro_f1: f64, p50_us: f64, stages: usize) -> ReplayFigures {
    ReplayFigures {
        macro_f1,
        accuracy: 0.9,
        weighted_f1: 0.89,
        share_under_16ms: 0.7157,
        geometric_us: p50_us * 2.0,
        mean_us: p50_us * 10.0,
        p50_us,
        p99_us: p50_us * 100.0,
        cpu_ns: 1955.0,
        stage_ns: vec![131.0; stages],
        gate_ns: 514.0,
        flows_per_s: 511_455.0,
        waiting_bytes: 229.0,
        reach: vec![1.0; stages],
        decided: vec![1.0 / stages as f64; stages],
    }
}

fn choice(stages: &[&str], macro_f1: f64, p50_us: f64) -> Choice {
    let own = figures(macro_f1, p50_us, stages.len());
    let standing = ConstraintStatus { limit: Limit::Loss, wanted: 0.005, found: 0.0002, met: true };
    Choice {
        stages: stages.iter().map(|&stage| stage.to_owned()).collect(),
        rule: "learned".to_owned(),
        price: 0.0344,
        thresholds: Vec::new(),
        val: own.clone(),
        split: own.clone(),
        test: own,
        standings: vec![standing],
    }
}

fn single(name: &str, packets: u16, macro_f1: f64) -> Single {
    Single {
        name: name.to_owned(),
        kind: "decision tree".to_owned(),
        packets,
        wait_ms: 10_000,
        val: figures(macro_f1, 1e3 * f64::from(packets), 1),
        test: figures(macro_f1, 1e3 * f64::from(packets), 1),
        compute_us: 12.5,
        score_ns: (131.0, 250.0),
        train_s: 1.5,
        on_front: true,
    }
}

/// No rules, no runner-up, one stage, nothing measured.
pub(crate) fn least() -> PlanReport {
    let alone = choice(&["tree@1"], 0.5, 16.0);
    PlanReport {
        schema: SCHEMA.to_owned(),
        task: String::new(),
        written_by: "serveflow 0.1.0".to_owned(),
        bundle: String::new(),
        labels_sha256: String::new(),
        seed: 1,
        flows: [].into(),
        data: None,
        warnings: Vec::new(),
        cross_fit_flows: 0,
        objective: Objective::Latency,
        limits: Constraints::default(),
        escalate: None,
        singles: Vec::new(),
        left_out: Vec::new(),
        front: Vec::new(),
        searched: (0, 0),
        verdict: SearchOutcome::Met,
        chosen: Choice { standings: Vec::new(), ..alone.clone() },
        runner_up: None,
        reasons: Vec::new(),
        best_single: alone,
        rules: Vec::new(),
        classes: Vec::new(),
        confusion: Vec::new(),
        latency: Vec::new(),
        guarantee: None,
        reliability: Vec::new(),
        unknown: None,
        audit: None,
        checks: Vec::new(),
    }
}

fn guarantee() -> Granted {
    Granted {
        guarantee: Guarantee { loss: Loss::MacroF1, tolerated: 0.01, confidence: 0.9 },
        slow: "boosted@10".to_owned(),
        flows: 1305,
        granted: true,
        price: 0.1,
        measured: 0.0012,
        smallest: 0.0093,
        assumptions: format!("flows are alike {AWKWARD}"),
    }
}

fn reliability() -> StageReliability {
    let reliability =
        Reliability { flows: 1041, ece_raw: 0.0417, temperature: 1.31, ..Reliability::default() };
    let stage = "tree@1".to_owned();
    StageReliability { stage, reliability, calibrated: true, verdicts_ece: (0.04, 0.01) }
}

/// One class is whole, one was never trained, one is of one capture.
fn data() -> DataSummary {
    let count = |flows, captures| SplitCount { flows, captures };
    let class = |label: &str, train| ClassCount {
        label: label.to_owned(),
        train,
        val: count(20, 2),
        test: count(10, 1),
    };
    let classes =
        vec![class(AWKWARD, count(1000, 7)), class("dns", count(0, 0)), class("ssh", count(40, 1))];
    DataSummary { classes, unlabelled: 12, train_captures: 8, cross_fit: 3 }
}

/// Everything there can be.
pub(crate) fn full() -> PlanReport {
    let class = |label: &str, flows| ClassLine {
        label: label.to_owned(),
        flows,
        precision: 0.9123,
        recall: 0.8234,
        f1: 0.8656,
        single_f1: 0.8701,
    };
    let curve = |rule: &str, gap_closed| RuleCurve {
        rule: rule.to_owned(),
        macro_f1: (0..=50).map(|at| 0.7 + 0.004 * f64::from(at)).collect(),
        accuracy: vec![0.9; 51],
        gap_closed,
        share_needed: Some(0.34),
    };
    let rules = RuleReport {
        fast: "tree@1".to_owned(),
        slow: "boosted@10".to_owned(),
        flows: 1041,
        fast_f1: 0.7,
        slow_f1: 0.9,
        tolerated: 0.005,
        curves: vec![curve("learned", 0.637), curve("random", 0.0), curve("oracle", 1.0)],
    };
    let stages = ["tree@1", "boosted@10"];
    let data = data();
    PlanReport {
        task: format!("protocols {AWKWARD}"),
        labels_sha256: "e706db47".to_owned(),
        flows: [("test".to_owned(), 1041)].into(),
        data: Some(data.clone()),
        warnings: data.warnings(),
        cross_fit_flows: 3160,
        singles: vec![single("tree@1", 1, 0.7), single("boosted@10", 10, 0.8824)],
        left_out: vec!["forest@20".to_owned()],
        front: vec![FrontPoint {
            stages: stages.map(str::to_owned).into(),
            macro_f1: 0.79,
            geometric_us: 1007.0,
            cpu_ns: 2051.0,
        }],
        searched: (98, 4193),
        chosen: choice(&stages, 0.8808, 16.1),
        runner_up: Some(choice(&["tree@2", "boosted@10"], 0.88, 20.0)),
        reasons: vec!["It is the fastest.".to_owned()],
        best_single: choice(&["boosted@10"], 0.8824, 161_000.0),
        rules: vec![rules.clone(), rules],
        classes: vec![class(AWKWARD, 1000), class("dns", 41)],
        confusion: vec![vec![990, 10], vec![0, 41]],
        latency: vec![LatencyCurve { name: "cascade".to_owned(), us: vec![10.0, 16.0, 1e7] }],
        guarantee: Some(guarantee()),
        reliability: vec![reliability()],
        checks: vec![
            Check::points("macro-F1", 0.8808, 0.8801, 0.002),
            Check::ratio("flows/s per core", "flows/s", 511_455.0, 300_000.0, 0.1),
        ],
        ..least()
    }
}
