//! Laws of the evaluation: what the ends of the scale must give, and what bounds what.
#![allow(clippy::unwrap_used)]

mod common;

use common::{book_of, bundle, bundle_for, quick_plan, small_book};
use serveflow_core::engine::EngineConfig;
use serveflow_core::gate::Uncertainty;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{Bundle, GatePlan, Plan};
use serveflow_train::calibrate::Granularity;
use serveflow_train::evaluate::{EvaluateError, Report, evaluate};
use serveflow_train::planner::replay::Rule;
use serveflow_train::planner::search::PlanGoal;

fn report(bundle: &Bundle, book: &LabelBook, split: Split) -> Report {
    let limits = EngineConfig { flows: bundle.flow_config(), ..EngineConfig::default() };
    let mut steps = Vec::new();
    let mut progress = |done, all| steps.push((done, all));
    let found = evaluate(bundle, book, split, limits, &mut || 0, &mut progress).unwrap();
    let passes = bundle.cascade.stages().len() + 1;
    assert_eq!(steps, (1..=passes).map(|done| (done, passes)).collect::<Vec<_>>());
    assert_eq!(found.answered.len() as u64, found.report.flows);
    found.report
}

/// Sets all gates to one threshold.
fn gates(threshold: f32) -> impl Fn(&mut Plan) {
    move |plan: &mut Plan| {
        for stage in &mut plan.stages {
            if let Some(gate) = &mut stage.gate {
                let rule = gate.rule.clone();
                let threshold = Some(threshold);
                *gate = GatePlan {
                    rule,
                    threshold,
                    thresholds: None,
                    calibration: None,
                    heads: Vec::new(),
                };
            }
        }
    }
}

const STAGES: [&str; 3] = ["tree@1", "boosted@2", "boosted@10"];

/// Laws that hold for any bundle.
fn hold(report: &Report) {
    assert_eq!(report.disagreements, 0);
    assert!(report.accounts.balanced && report.damaged.is_empty());
    let accuracies: Vec<f64> = report.tiers.iter().map(|tier| tier.accuracy).collect();
    let (least, most) = (
        accuracies.iter().copied().fold(1.0, f64::min),
        accuracies.iter().copied().fold(0.0, f64::max),
    );
    assert!(report.oracle.accuracy >= most - 1e-12, "the oracle knows what each tier knows");
    assert!(report.oracle.accuracy >= report.accuracy - 1e-12);
    assert!((least - 0.02..=most + 0.02).contains(&report.random.accuracy), "{accuracies:?}");
    let sum = |shares: &[f64]| (shares.iter().sum::<f64>() - 1.0).abs();
    assert!(sum(&report.random.shares) < 1e-9 && sum(&report.oracle.shares) < 1e-9);
    let shares: Vec<f64> = report.stages.iter().map(|stage| stage.share).collect();
    assert_eq!(shares, report.random.shares, "random escalation escalates as much");
    let mut left = 1.0;
    for stage in &report.stages {
        left -= stage.share;
        assert!((stage.escalated - left).abs() < 1e-9, "what is not decided goes on");
    }
    let total: u64 = report.confusion.iter().flatten().sum();
    let right: u64 = (0..report.confusion.len()).map(|class| report.confusion[class][class]).sum();
    assert_eq!(total, report.flows, "each flow was answered");
    assert!((report.accuracy - right as f64 / total as f64).abs() < 1e-12);
    for (class, row) in report.classes.iter().zip(&report.confusion) {
        assert_eq!(class.flows, row.iter().sum::<u64>(), "{}", class.label);
    }
    assert_eq!(report.fast_only.accuracy, report.tiers[0].accuracy);
    assert_eq!(report.slow_only.accuracy, report.tiers[report.tiers.len() - 1].accuracy);
    let verdicts: u64 = report.reasons.values().sum();
    assert_eq!(verdicts, report.flows + report.other_flows);
}

#[test]
fn gates_that_never_accept_are_the_slow_stage_alone() {
    let book = small_book("never");
    let bundle = bundle("never-bundle", &book, &quick_plan(&STAGES), gates(-1.0));
    for split in Split::ALL {
        let report = report(&bundle, &book, split);
        hold(&report);
        let slow = &report.slow_only;
        assert_eq!((report.accuracy, report.macro_f1), (slow.accuracy, slow.macro_f1));
        assert_eq!(report.weighted_f1, slow.weighted_f1);
        assert_eq!(report.latency_us.collection, slow.latency_us.collection);
        assert_eq!(report.stages[2].share, 1.0);
        let shuffled = (report.random.accuracy - slow.accuracy).abs();
        assert!(shuffled < 1e-12, "there is nothing to shuffle");
    }
}

#[test]
fn gates_that_always_accept_are_the_fast_stage_alone() {
    let book = small_book("always");
    let bundle = bundle("always-bundle", &book, &quick_plan(&STAGES), gates(1.0));
    let report = report(&bundle, &book, Split::Test);
    hold(&report);
    let fast = &report.fast_only;
    assert_eq!((report.accuracy, report.macro_f1), (fast.accuracy, fast.macro_f1));
    assert_eq!(report.stages[0].share, 1.0);
    assert_eq!(report.latency_us.end_to_end.p99, 0.0, "a first packet is not waited for");
    assert_eq!(report.share_under_16ms, 1.0);
    assert_eq!(report.reasons["accepted"], report.flows + report.other_flows);
}

#[test]
fn any_gates_between_keep_the_laws() {
    let book = small_book("between");
    for (name, share) in [("a", 0.1), ("b", 0.5), ("c", 0.9)] {
        for granularity in [Granularity::Universal, Granularity::PerClass] {
            let rule = Rule::Thresholds(Uncertainty::LeastConfidence, granularity);
            let goal = PlanGoal { rule, escalate: Some(share), ..PlanGoal::default() };
            let (plan, name) = (quick_plan(&STAGES), format!("between-{name}"));
            let bundle = bundle_for(&goal, &name, &book, &plan, |_| ());
            hold(&report(&bundle, &book, Split::Test));
        }
    }
}

#[test]
fn one_stage_is_fast_and_slow() {
    let book = small_book("one");
    let bundle = bundle("one-bundle", &book, &quick_plan(&["boosted@3"]), |_| ());
    let report = report(&bundle, &book, Split::Test);
    hold(&report);
    for macro_f1 in [report.slow_only.macro_f1, report.fast_only.macro_f1, report.random.macro_f1] {
        assert!((macro_f1 - report.macro_f1).abs() < 1e-12);
    }
    assert_eq!(
        (report.oracle.accuracy, report.median_speedup.is_finite()),
        (report.accuracy, true)
    );
}

#[test]
fn a_wait_of_nothing_asks_at_once() {
    let book = small_book("wait");
    let plan = serveflow_train::pipeline::TrainPlan { wait_ms: 0, ..quick_plan(&STAGES) };
    let bundle = bundle("wait-bundle", &book, &plan, gates(-1.0));
    let report = report(&bundle, &book, Split::Test);
    hold(&report);
    assert_eq!(report.slow_only.latency_us.collection.p99, 0.0);
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let book = small_book("refused");
    let bundle = bundle("refused-bundle", &book, &quick_plan(&["tree@1"]), |_| ());
    let limits = EngineConfig::default();
    let other = book_of("refused-other", "app_protocol", &["http", "dns"]);
    let error = evaluate(&bundle, &other, Split::Test, limits, &mut || 0, &mut |_, _| ());
    let known = ["http", "mdns", "smb", "tls"].map(str::to_owned).to_vec();
    let expected = EvaluateError::UnknownLabel { label: "dns".to_owned(), known };
    assert_eq!(error.unwrap_err(), expected);
    let mut none = book.clone();
    none.files.retain(|path, _| !path.to_string_lossy().contains("/test/"));
    let error = evaluate(&bundle, &none, Split::Test, limits, &mut || 0, &mut |_, _| ());
    assert_eq!(error.unwrap_err(), EvaluateError::NoFlows { split: Split::Test });
}

#[test]
fn a_part_of_the_labels_is_measured_like_the_whole() {
    let book = small_book("part");
    let bundle = bundle("part-bundle", &book, &quick_plan(&STAGES), |_| ());
    let part = book_of("part-tls", "app_protocol", &["tls"]);
    let (whole, part) = (report(&bundle, &book, Split::Test), report(&bundle, &part, Split::Test));
    let tls = |report: &Report| report.confusion[3].clone();
    assert_eq!(tls(&part), tls(&whole));
    assert_eq!(part.flows, whole.classes[3].flows);
    assert_eq!(part.classes[0].flows, 0);
}
