//! A training as a session: what it writes, what it is planned anew from, and what it refuses.
#![allow(clippy::unwrap_used)]

mod common;

use common::{quick_plan, scratch, small_book};
use serveflow_core::gate::Uncertainty;
use serveflow_model::bundle::Bundle;
use serveflow_train::calibrate::Granularity;
use serveflow_train::dataset::Dataset;
use serveflow_train::pipeline::Step;
use serveflow_train::planner::limits::Objective;
use serveflow_train::planner::replay::Rule;
use serveflow_train::planner::search::PlanGoal;
use serveflow_train::risk_control::{Guarantee, Loss};
use serveflow_train::session::{
    KeptPool, NoObserver, Observer, Page, Session, SessionError, SessionOptions, UnknownOptions,
    publish,
};
use std::path::Path;

/// A clock that stands still: what is measured is nothing, and runs end by their flows.
fn still() -> u64 {
    0
}

/// Options whose training takes moments.
fn quick(out: &Path, stages: &[&str]) -> SessionOptions {
    let change = |own: &mut serveflow_train::session::CandidateOptions| {
        (own.sizes, own.depths) = (Vec::new(), vec![1, 3]);
        own.load.flows = 50;
    };
    SessionOptions::new(out).train(quick_plan(stages)).candidates(change).audit(false)
}

fn rules() -> [Rule; 3] {
    [
        Rule::Learned,
        Rule::Uncertainty(Uncertainty::Margin),
        Rule::Thresholds(Uncertainty::LeastConfidence, Granularity::PerClass),
    ]
}

/// What an observer is called with.
#[derive(Default)]
struct Log {
    recorded: usize,
    phases: usize,
    trained: Vec<String>,
}

impl Observer for Log {
    fn step(&mut self, step: Step) {
        if let Step::Training(tier, _) = step {
            self.trained.push(tier.to_string());
        }
    }

    fn phase_ended(&mut self) {
        self.phases += 1;
    }

    fn recorded(&mut self, dataset: &Dataset) {
        assert_eq!(self.phases, 1, "after the candidates are trained");
        self.recorded += dataset.flows.len();
    }
}

#[test]
fn every_rule_leaves_a_report_a_pool_and_a_drift_reference() {
    let book = small_book("session-rules");
    for (at, rule) in rules().into_iter().enumerate() {
        let out = scratch(&format!("session-rule-{at}"));
        let goal = PlanGoal { rule, ..PlanGoal::default() };
        let options = quick(&out, &["tree@1", "boosted@3"]).goal(goal).audit(true);
        let mut log = Log::default();
        let made = Session::new(options, still).run(&book, &mut log).unwrap();
        assert!(log.recorded > 100 && log.trained.contains(&"boosted@3".to_owned()));
        assert_eq!(made.report.bundle, made.bundle.id);
        assert_eq!(made.report.chosen.stages, ["tree@1", "boosted@3"]);
        assert_eq!(made.report.chosen.rule, rule.name());
        assert!(made.report.audit.is_some() && made.report.checks.len() == 5);
        let checks = made.report.checks.iter().take(2);
        assert!(checks.clone().all(|check| check.holds), "{checks:?}");
        assert!(made.bundle.drift.is_some() && made.damaged.is_empty());
        publish(&out, &made.report, &[Page { name: "report.txt", text: "words" }]).unwrap();
        for file in ["report.json", "report.txt", "drift.json", "plan.toml", "pool/pool.json"] {
            assert!(out.join(file).is_file(), "{rule:?}: {file}");
        }
        // Whatever rule it was trained for, each other one is planned from its candidates.
        let kept = KeptPool::read(&out).unwrap();
        for other in rules() {
            let again = scratch(&format!("session-rule-{at}-again"));
            let names = Some(vec!["tree@1".to_owned(), "boosted@3".to_owned()]);
            let goal = PlanGoal { rule: other, ..PlanGoal::default() };
            let options = quick(&again, &[]).goal(goal).stage_names(names);
            let planned = Session::new(options, still).replan(&kept).unwrap();
            assert_eq!(planned.report.chosen.rule, other.name(), "{rule:?} {other:?}");
            assert_eq!(Bundle::load(&again).unwrap().id, planned.bundle.id);
            if other == rule {
                let id = &made.bundle.id;
                assert_eq!(&planned.bundle.id, id, "the same plan of the same candidates");
            }
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused_before_anything_is_trained() {
    let book = small_book("session-refused");
    let out = scratch("session-refused").join("bundle");
    let guarantee = Guarantee { loss: Loss::Accuracy, tolerated: 0.1, confidence: 0.9 };
    let by_gate = PlanGoal { rule: rules()[2], ..PlanGoal::default() };
    let share = PlanGoal { escalate: Some(0.2), ..PlanGoal::default() };
    let features = quick_plan(&[]).features;
    let many: Vec<String> = (1..=65).map(|packets| format!("tree@{packets}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases = [
        (quick(&out, &many), "--stages: expected at most 64, found 65"),
        (quick(&out, &["tree@1", "tree@1"]), "--stages: expected tree@1 once"),
        (quick(&out, &["tree@3", "boosted@1"]), "--stages: boosted@1 uses fewer packets"),
        (quick(&out, &[]).goal(by_gate), "--uncertainty: expected a list of --stages"),
        (quick(&out, &["tree@1"]).goal(share), "--escalate: expected at least two --stages"),
        (quick(&out, &["tree@1"]).guarantee(Some(guarantee)), "--guarantee: expected at least two"),
        (
            quick(&out, &[]).guarantee(Some(guarantee)).candidates(|own| own.cross_fit = 1),
            "--guarantee: expected --cross-fit of 2",
        ),
        (
            quick(&out, &[]).candidates(|own| own.extra_features = vec![features]),
            "--extra-features: expected each set of encoders once",
        ),
    ];
    for (options, words) in cases {
        let refused = Session::new(options, still).run(&book, &mut NoObserver).unwrap_err();
        assert!(matches!(refused, SessionError::Option { .. }), "{refused}");
        assert!(refused.to_string().starts_with(words), "{refused}, expected {words}");
        assert!(!out.exists(), "{words}");
    }
}

#[test]
fn candidates_are_held_to_what_is_planned_of_them() {
    let book = small_book("session-kept");
    let out = scratch("session-kept-bundle");
    let unknown = Some(UnknownOptions { rate: 0.1, most_classes: 2 });
    let options = quick(&out, &["tree@1", "boosted@3"]).unknown(unknown);
    let made = Session::new(options, still).run(&book, &mut NoObserver).unwrap();
    let held = made.report.unknown.unwrap().held_out.unwrap();
    assert_eq!((held.classes.len(), held.stage.as_str()), (2, "boosted@3"));
    let kept = KeptPool::read(&out).unwrap();
    let again = scratch("session-kept-again");
    let replan = |options: SessionOptions| Session::new(options, still).replan(&kept);
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    let plain = || quick(&again, &[]);
    let guarantee = Guarantee { loss: Loss::Accuracy, tolerated: 0.1, confidence: 0.9 };
    let cases = [
        (plain().stage_names(names(&["bush@1"])), "--stages: expected some of tree@1, boosted@3"),
        (plain().stage_names(names(&["boosted@3", "tree@1"])), "--stages: `tree@1` cannot follow"),
        (plain().guarantee(Some(guarantee)), "--guarantee: the candidates of"),
    ];
    for (options, words) in cases {
        let refused = replan(options).unwrap_err().to_string();
        assert!(refused.starts_with(words), "{refused}");
    }
    let goal = PlanGoal { objective: Objective::Cpu, ..PlanGoal::default() };
    let planned = replan(plain().goal(goal).unknown(unknown)).unwrap();
    assert!(planned.report.unknown.unwrap().held_out.is_none(), "there are no captures");
    // A bundle without candidates, and a file that holds none.
    let bare = scratch("session-kept-bare");
    assert!(matches!(KeptPool::read(&bare).unwrap_err(), SessionError::Read { .. }));
    std::fs::create_dir(bare.join("pool")).unwrap();
    std::fs::write(bare.join("pool/pool.json"), "{}").unwrap();
    assert!(matches!(KeptPool::read(&bare).unwrap_err(), SessionError::Pool { .. }));
    // Another training's candidates are not planned over.
    let refused = kept.check_out(&bare).unwrap_err().to_string();
    assert!(refused.contains("candidates of another training"), "{refused}");
}
