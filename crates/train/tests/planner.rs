//! The planner: what it predicts is what the engine does, and what it guarantees to look at it
//! looks at.
#![allow(clippy::unwrap_used)]

mod common;

use common::{quick_plan, scratch, small_book};
use serveflow_core::engine::EngineConfig;
use serveflow_core::gate::{Gate, Uncertainty};
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{LEARNED, LanePlan, write};
use serveflow_train::calibrate::{Granularity, StageAnswers, Target, calibrate};
use serveflow_train::dataset::TrainingWarningKind;
use serveflow_train::evaluate::evaluate;
use serveflow_train::pipeline::{Kind, PipelineError, TrainPlan};
use serveflow_train::planner::candidates::{Built, ModelCache, NoCache, PoolPlan, build, grid};
use serveflow_train::planner::limits::{Constraints, Limit, Objective};
use serveflow_train::planner::meter::MeterLoad;
use serveflow_train::planner::pool::CandidatePool;
use serveflow_train::planner::replay::{Chain, Evaluator, Part, Rule};
use serveflow_train::planner::report::{PlanReport, report};
use serveflow_train::planner::search::{PlanGoal, SearchOutcome, front, prices};
use serveflow_train::planner::writer::{PlanRequest, WrittenPlan, plan};
use serveflow_train::recalibrate::{Wanted, calibration_flows, recalibrate};
use serveflow_train::risk_control::{Guarantee, Loss};
use std::collections::{BTreeMap, BTreeSet};

fn pool_of(book: &LabelBook, params: &TrainPlan, shelf: &mut dyn ModelCache) -> Built {
    cross_fitted(book, params, shelf, 3)
}

fn cross_fitted(
    book: &LabelBook,
    params: &TrainPlan,
    shelf: &mut dyn ModelCache,
    cross_fit: usize,
) -> Built {
    let recipes = grid(&[Kind::Tree, Kind::Boosted], &[2], &[1, 3, 5], &[params.wait_ms], 1);
    let features = vec![params.features.clone()];
    // The clock below stands still, so that runs end by their flows.
    let load = MeterLoad { flows: 300, ..MeterLoad::default() };
    let wanted = PoolPlan {
        recipes,
        features,
        cross_fit,
        budget_ns: None,
        all_wanted: false,
        load,
        given: Vec::new(),
    };
    build(book, params, &wanted, shelf, || 0, &mut |_| ()).unwrap()
}

fn wish(rule: Rule) -> PlanGoal {
    let (objective, limits) = (Objective::Latency, Constraints::default());
    PlanGoal { objective, limits, rule, stages: None, escalate: None, ends_in_best: false }
}

fn planned(
    built: &Built,
    wish: PlanGoal,
    guarantee: Option<Guarantee>,
) -> (PlanRequest, WrittenPlan) {
    let request = PlanRequest { wish, guarantee, lanes: LanePlan::default(), seed: 1, threads: 2 };
    let planned = plan(&built.pool, &built.models, &request, || 0).unwrap();
    (request, planned)
}

/// Indices of candidates by name.
fn named(pool: &CandidatePool, names: &[&str]) -> Vec<usize> {
    names.iter().map(|n| pool.candidates.iter().position(|c| c.name == *n).unwrap()).collect()
}

#[test]
fn the_engine_does_what_the_planner_says() {
    let book = small_book("planner-engine");
    let params = quick_plan(&["tree@1"]);
    let built = pool_of(&book, &params, &mut NoCache);
    let stages = named(&built.pool, &["tree@1", "boosted@3", "boosted@5"]);
    let rules = [
        Rule::Learned,
        Rule::Uncertainty(Uncertainty::Margin),
        Rule::Thresholds(Uncertainty::Entropy, Granularity::Universal),
        Rule::Thresholds(Uncertainty::LeastConfidence, Granularity::PerClass),
    ];
    for (index, rule) in rules.into_iter().enumerate() {
        for share in [0.1, 0.4] {
            let wish =
                PlanGoal { stages: Some(stages.clone()), escalate: Some(share), ..wish(rule) };
            let (request, found) = planned(&built, wish, None);
            let told = report(&built.pool, &request, &found);
            let dir = scratch(&format!("planner-engine-{index}-{share}"));
            let bundle = write(&dir, &found.plan, found.models).unwrap();
            // On its own split a learned gate is told by heads that did not see the flow, and
            // served by one that did.
            let mut splits = vec![(Split::Test, &told.chosen.test)];
            splits.extend((rule != Rule::Learned).then_some((Split::Val, &told.chosen.split)));
            for (split, own) in splits {
                let limits = EngineConfig { flows: params.flows, ..EngineConfig::default() };
                let ran = evaluate(&bundle, &book, split, limits, &mut || 0, &mut |_, _| ());
                let ran = ran.unwrap().report;
                assert!((own.macro_f1 - ran.macro_f1).abs() < 1e-12, "{rule:?} {split:?}");
                assert!((own.accuracy - ran.accuracy).abs() < 1e-12);
                for (share, stage) in own.decided.iter().zip(&ran.stages) {
                    assert!((share - stage.share).abs() < 1e-12, "{rule:?} {}", stage.name);
                }
                // Without a clock there is no compute, and the wait is told to the microsecond.
                let end = &ran.latency_us.end_to_end;
                assert!((own.p50_us - end.p50).abs() < 1.5 && (own.p99_us - end.p99).abs() < 1.5);
            }
        }
    }
}

#[test]
fn degradation_comes_to_what_the_plan_says_step_by_step() {
    let book = small_book("planner-degradation");
    let params = quick_plan(&["tree@1"]);
    let built = pool_of(&book, &params, &mut NoCache);
    let stages = named(&built.pool, &["tree@1", "boosted@3", "boosted@5"]);
    let wish = PlanGoal {
        stages: Some(stages),
        escalate: Some(0.4),
        ..wish(Rule::Uncertainty(Uncertainty::Margin))
    };
    let (_, found) = planned(&built, wish, None);
    let board = Evaluator { pool: &built.pool, heads: &found.heads, cost: found.cost.clone() };
    let chosen = &found.found.chosen.cascade;
    let escalated: Vec<f64> =
        found.plan.degradation.iter().map(|degradation| degradation.escalated).collect();
    assert!(escalated.len() >= 2 && escalated.is_sorted_by(|a, b| a > b), "{escalated:?}");
    assert_eq!(escalated.last(), Some(&0.0), "at the last step no flow goes on");
    let served =
        write(&scratch("planner-degradation-served"), &found.plan, found.models.clone()).unwrap();
    for (step, degradation) in found.plan.degradation.iter().enumerate() {
        let cascade = Chain { price: f64::from(degradation.gates[0][0]), ..chosen.clone() };
        let told = board.figures(&cascade, &board.walk(&cascade, Part::Val), Part::Val);
        assert_eq!(
            (degradation.macro_f1, degradation.accuracy),
            (told.macro_f1, told.accuracy),
            "{step}"
        );
        let mut plan = found.plan.clone();
        for (stage, gate) in plan.stages.iter_mut().zip(&degradation.gates) {
            stage.gate.as_mut().unwrap().threshold = Some(gate[0]);
        }
        let dir = scratch(&format!("planner-degradation-{step}"));
        let bundle = write(&dir, &plan, found.models.clone()).unwrap();
        let limits = EngineConfig { flows: params.flows, ..EngineConfig::default() };
        let ran = evaluate(&bundle, &book, Split::Test, limits, &mut || 0, &mut |_, _| ());
        let (ran, told) = (ran.unwrap().report, board.walk(&cascade, Part::Test));
        let told = board.figures(&cascade, &told, Part::Test);
        assert!((told.macro_f1 - ran.macro_f1).abs() < 1e-12, "step {step}");
        assert!((told.decided[0] - ran.stages[0].share).abs() < 1e-12, "step {step}");
        // The bundle that is served has these gates as its step of degradation.
        let gates = [
            served.cascade.stages()[0].gate_at(step as u8 + 1),
            bundle.cascade.stages()[0].gate_at(0),
        ];
        let [
            Gate::Uncertainty { threshold: as_step, .. },
            Gate::Uncertainty { threshold: as_gate, .. },
        ] = gates
        else {
            panic!("gates of doubt")
        };
        assert_eq!(as_step, as_gate);
    }
}

#[test]
fn prices_lead_from_the_last_stage_to_the_first() {
    let book = small_book("planner-prices");
    let built = pool_of(&book, &quick_plan(&["tree@1"]), &mut NoCache);
    let (_, found) = planned(&built, wish(Rule::Learned), None);
    let board = Evaluator { pool: &built.pool, heads: &found.heads, cost: found.cost };
    let stages = found.found.chosen.cascade.stages;
    let last = (stages.len() - 1) as u8;
    let all = prices(Rule::Learned);
    let walk = |price| {
        let cascade = Chain::priced(stages.clone(), Rule::Learned, price);
        board.walk(&cascade, Part::Val)
    };
    assert!(all.is_sorted());
    assert!(walk(all[0]).stop.iter().all(|&stop| stop == last));
    assert!(walk(all[all.len() - 1]).stop.iter().all(|&stop| stop == 0));
}

#[test]
fn nothing_on_the_front_is_beaten_and_the_best_is_on_it() {
    let book = small_book("planner-front");
    let pool = pool_of(&book, &quick_plan(&["tree@1"]), &mut NoCache).pool;
    let front = front(&pool);
    assert!(front.iter().any(|&own| pool.val_f1(own) == pool.val_f1(pool.best())));
    let captures: BTreeSet<u32> = pool.val.capture.iter().copied().collect();
    assert!(captures.len() > 1 && pool.unseen < pool.val.truth.len());
    assert_eq!(pool.check(), Ok(()));
}

#[test]
fn limits_that_cannot_be_kept_are_named() {
    let book = small_book("planner-limits");
    let built = pool_of(&book, &quick_plan(&["tree@1"]), &mut NoCache);
    let limits = Constraints { flows_per_s: Some(1e30), ..Constraints::default() };
    let (request, found) = planned(&built, PlanGoal { limits, ..wish(Rule::Learned) }, None);
    assert_eq!(found.found.verdict, SearchOutcome::NotMet { binding: vec![Limit::Rate] });
    let told: PlanReport = report(&built.pool, &request, &found);
    assert!(told.reasons[0].contains("flows per second"), "{:?}", told.reasons);
    let limits = Constraints { max_loss: 1.0, ..Constraints::default() };
    let (_, found) = planned(&built, PlanGoal { limits, ..wish(Rule::Learned) }, None);
    assert_eq!(found.found.verdict, SearchOutcome::Met);
    assert_eq!(found.found.chosen.figures.reach.last(), Some(&1.0), "all may be lost: one stage");
}

#[test]
fn a_limit_that_allows_nearly_all_is_a_warning() {
    let book = small_book("planner-loose");
    let built = pool_of(&book, &quick_plan(&["tree@1"]), &mut NoCache);
    for max_loss in [0.0, 0.005, 0.1, 1.0] {
        let limits = Constraints { max_loss, ..Constraints::default() };
        let wish = PlanGoal { limits, ..wish(Rule::Learned) };
        let (request, found) = planned(&built, wish, None);
        let told = report(&built.pool, &request, &found);
        let is_warned =
            told.warnings.iter().any(|warning| warning.kind == TrainingWarningKind::LooseLimit);
        let loss = told.best_single.val.macro_f1 - told.chosen.val.macro_f1;
        assert_eq!(is_warned, loss > 0.02, "{max_loss}: {loss}");
        assert!(!is_warned || max_loss > 0.02, "{max_loss}: {loss}");
        assert_eq!(told.data.unwrap().classes.len(), book.labels.len());
    }
}

#[test]
fn a_time_budget_leaves_out_what_is_searched_and_never_what_is_asked_for() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NOW: AtomicU64 = AtomicU64::new(0);
    let book = small_book("planner-budget");
    let params = quick_plan(&["tree@1"]);
    let recipes = grid(&[Kind::Tree], &[], &[1, 2, 3, 5], &[params.wait_ms], 1);
    for all_wanted in [false, true] {
        let wanted = PoolPlan {
            recipes: recipes.clone(),
            features: vec![params.features.clone()],
            cross_fit: 0,
            budget_ns: Some(0),
            all_wanted,
            load: MeterLoad { flows: 300, ..MeterLoad::default() },
            given: Vec::new(),
        };
        let wall = || NOW.fetch_add(1, Ordering::Relaxed);
        let built = build(&book, &params, &wanted, &mut NoCache, wall, &mut |_| ()).unwrap();
        let found = (built.pool.candidates.len(), built.pool.left_out.len());
        assert_eq!(found, if all_wanted { (4, 0) } else { (2, 2) });
    }
}

#[test]
fn a_promise_is_in_the_plan_only_if_it_is_granted() {
    let book = small_book("planner-guarantee");
    let mut params = quick_plan(&["tree@1"]);
    params.params.boost.patience = None;
    let built = pool_of(&book, &params, &mut NoCache);
    let guarantee = |tolerated| Guarantee { loss: Loss::Accuracy, tolerated, confidence: 0.9 };
    let wish = PlanGoal { ends_in_best: true, ..wish(Rule::Learned) };
    let (_, found) = planned(&built, wish.clone(), Some(guarantee(0.2)));
    let granted = found.granted.unwrap();
    assert!(granted.granted && granted.measured <= 0.2 && granted.smallest <= 0.2);
    let told = found.plan.guarantee.unwrap();
    assert_eq!((told.tolerated, told.flows), (0.2, built.pool.unseen as u64));
    assert!(found.plan.stages[..found.plan.stages.len() - 1].iter().all(|stage| {
        stage.gate.as_ref().is_some_and(|gate| gate.rule == LEARNED && !gate.heads.is_empty())
    }));
    let (_, found) = planned(&built, wish, Some(guarantee(0.0)));
    assert!(!found.granted.unwrap().granted && found.plan.guarantee.is_none());
}

#[test]
fn a_promise_of_several_stages_needs_cross_fitted_flows() {
    let book = small_book("planner-blind");
    let mut params = quick_plan(&["tree@1"]);
    params.params.boost.patience = None;
    // More parts than there are captures, and none.
    for parts in [100_000, 0] {
        let built = cross_fitted(&book, &params, &mut NoCache, parts);
        assert_eq!(built.pool.unseen, built.pool.val.truth.len());
        let guarantee = Some(Guarantee { loss: Loss::Accuracy, tolerated: 0.2, confidence: 0.9 });
        let captures = built.pool.data.as_ref().unwrap().train_captures;
        for rule in [Rule::Learned, Rule::Uncertainty(Uncertainty::Margin)] {
            for names in [&["tree@1", "boosted@3"][..], &["tree@1", "tree@3", "boosted@5"]] {
                let stages = Some(named(&built.pool, names));
                let wish = PlanGoal { stages, ..wish(rule) };
                let lanes = LanePlan::default();
                let request = PlanRequest { wish, guarantee, lanes, seed: 1, threads: 2 };
                let refused = plan(&built.pool, &built.models, &request, || 0).unwrap_err();
                let (words, refused) = (["--guarantee", "--cross-fit of 2"], refused.to_string());
                assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
                let found = format!("found {captures} captures for --cross-fit {parts}");
                assert!(refused.ends_with(&found), "{refused}");
            }
            // One stage alone loses nothing, whatever was cross-fitted.
            let stages = Some(named(&built.pool, &["boosted@5"]));
            let (_, found) = planned(&built, PlanGoal { stages, ..wish(rule) }, guarantee);
            assert!(found.granted.is_none() && found.plan.guarantee.is_none());
        }
    }
}

#[test]
fn what_is_on_the_shelf_is_not_trained_again() {
    struct Kept(BTreeMap<String, Vec<u8>>, usize);
    impl ModelCache for Kept {
        fn get(&mut self, key: &str) -> Option<Vec<u8>> {
            self.0.get(key).cloned()
        }
        fn put(&mut self, key: &str, model: &[u8]) {
            self.1 += 1;
            self.0.insert(key.to_owned(), model.to_vec());
        }
    }
    let book = small_book("planner-shelf");
    let mut params = quick_plan(&["tree@1"]);
    let mut shelf = Kept(BTreeMap::new(), 0);
    let first = pool_of(&book, &params, &mut shelf);
    // Two kinds at three depths, each of all training flows and of three parts of them.
    assert_eq!(shelf.1, 2 * 3 * 4);
    let again = pool_of(&book, &params, &mut shelf);
    assert_eq!((shelf.1, &again.models), (24, &first.models));
    params.params.boost.rounds += 1;
    pool_of(&book, &params, &mut shelf);
    assert!(shelf.1 > 24, "other parameters are other models");
}

#[test]
fn thresholds_of_the_planner_are_those_of_the_calibration() {
    let book = small_book("planner-thresholds");
    let built = cross_fitted(&book, &quick_plan(&[]), &mut NoCache, 0);
    let pool = &built.pool;
    let stages = named(pool, &["tree@1", "boosted@1", "boosted@5"]);
    for measure in Uncertainty::ALL {
        let answers = |&stage: &usize| {
            let own = &pool.candidates[stage];
            let uncertainty = |row: &[f32]| measure.uncertainty(row);
            StageAnswers {
                packets: own.recipe.packets,
                labels: own.val.labels.clone(),
                uncertainty: own.val.scores.chunks(pool.classes()).map(uncertainty).collect(),
            }
        };
        let answers: Vec<StageAnswers> = stages.iter().map(answers).collect();
        for granularity in [Granularity::Universal, Granularity::PerClass] {
            for escalate in [None, Some(0.3)] {
                let rule = Rule::Thresholds(measure, granularity);
                let goal = PlanGoal { stages: Some(stages.clone()), escalate, ..wish(rule) };
                let target = escalate.map_or(Target::MaxLoss(0.005), Target::Escalate);
                let (classes, truth) = (pool.classes(), &pool.val.truth);
                let expected = calibrate(&answers, truth, classes, target, granularity);
                let (request, found) = planned(&built, goal, None);
                assert_eq!(found.found.chosen.cascade.thresholds, expected.thresholds);
                let told = report(pool, &request, &found);
                assert!((told.chosen.val.macro_f1 - expected.cascade_macro_f1).abs() < 1e-12);
                assert_eq!(told.chosen.thresholds.len(), 2);
                let written = found.plan.stages.iter().filter_map(|stage| stage.gate.as_ref());
                let escalated = written.filter_map(|gate| gate.calibration.as_ref());
                for (own, share) in escalated.zip(&expected.escalated) {
                    assert!((own.escalated - share).abs() < 1e-12, "{own:?} {share}");
                    assert_eq!(own.target, target.words());
                }
                assert!(found.plan.degradation.is_empty());
            }
        }
    }
    // Stages that are searched have no such thresholds.
    let rule = Rule::Thresholds(Uncertainty::Margin, Granularity::PerClass);
    let (wish, lanes) = (wish(rule), LanePlan::default());
    let request = PlanRequest { wish, guarantee: None, lanes, seed: 1, threads: 1 };
    let refused = plan(pool, &built.models, &request, || 0).unwrap_err();
    assert!(matches!(refused, PipelineError::NoStages), "{refused}");
}

#[test]
fn a_bundle_with_degradation_levels_is_calibrated_again() {
    let book = small_book("planner-recalibrated");
    let built = pool_of(&book, &quick_plan(&[]), &mut NoCache);
    let stages = Some(named(&built.pool, &["tree@1", "boosted@5"]));
    let goal = PlanGoal {
        stages,
        escalate: Some(0.4),
        ..wish(Rule::Uncertainty(Uncertainty::LeastConfidence))
    };
    let (_, mut found) = planned(&built, goal, None);
    assert!(!found.plan.degradation.is_empty());
    // A stage more, as `bundle add` puts it in: the levels have numbers for one gate.
    let mut third = found.plan.stages[1].clone();
    third.name = "third".to_owned();
    found.plan.stages[1].gate = found.plan.stages[0].gate.clone();
    found.plan.stages.push(third);
    let mut trial = found.plan.clone();
    trial.degradation.clear();
    let bundle = write(&scratch("planner-trial"), &trial, found.models.clone()).unwrap();
    let flows = calibration_flows(&book, &bundle, None).unwrap();
    for granularity in [Granularity::Universal, Granularity::PerClass] {
        let (target, measure) = (Target::MaxLoss(0.01), Uncertainty::Margin);
        let wanted = Wanted { target, measure, granularity };
        let calibrated = recalibrate(&flows, &bundle, wanted, &mut || 0).unwrap();
        let mut plan = found.plan.clone();
        calibrated.write(&mut plan, wanted, &LanePlan::default(), &|_| true);
        assert!(plan.degradation.is_empty(), "levels loosen the gates they were planned with");
        let dir = scratch("planner-recalibrated-bundle");
        let again = write(&dir, &plan, found.models.clone()).unwrap();
        assert_eq!(again.cascade.stages().len(), 3);
    }
}

#[test]
fn a_cascade_has_as_many_stages_as_it_is_given() {
    let book = small_book("planner-many");
    let built = cross_fitted(&book, &quick_plan(&[]), &mut NoCache, 0);
    let pool = &built.pool;
    let stages: Vec<usize> = (0..pool.candidates.len()).collect();
    let count = stages.len();
    assert!(count > 8, "{count}");
    for rule in [
        Rule::Uncertainty(Uncertainty::Margin),
        Rule::Thresholds(Uncertainty::Margin, Granularity::Universal),
    ] {
        let goal = PlanGoal { stages: Some(stages.clone()), escalate: Some(1.0), ..wish(rule) };
        let (request, found) = planned(&built, goal, None);
        let told = report(pool, &request, &found);
        assert_eq!(told.chosen.val.reach, vec![1.0; count], "{rule:?}");
        let bundle = write(&scratch("planner-many-bundle"), &found.plan, found.models).unwrap();
        assert_eq!(bundle.cascade.stages().len(), count);
    }
}
