//! Laws of calibration, on answers drawn at random.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serveflow_core::gate::Threshold;
use serveflow_train::calibrate::{Calibrated, Granularity, StageAnswers, Target, calibrate};
use serveflow_train::metrics::Confusion;

const GRANULARITIES: [Granularity; 2] = [Granularity::Universal, Granularity::PerClass];

/// Answers of some stages on some flows, and the truth.
#[derive(Clone, Debug)]
struct Case {
    stages: Vec<StageAnswers>,
    truth: Vec<u16>,
    classes: usize,
}

/// Stages that are the better the later they are, and surer where they are right.
fn case() -> impl Strategy<Value = Case> {
    (1usize..5, 2usize..6, 20usize..150).prop_flat_map(|(stages, classes, flows)| {
        let label = 0..classes as u16;
        let answer = (label.clone(), 0.0f32..1.0, 0u8..10);
        let stage = prop::collection::vec(answer, flows);
        let stages = prop::collection::vec(stage, stages);
        (prop::collection::vec(label, flows), stages).prop_map(move |(truth, drawn)| {
            let stage = |(index, drawn): (usize, &Vec<(u16, f32, u8)>)| {
                let skill = 5 + index as u8;
                let pairs = drawn.iter().zip(&truth).map(|(&(guess, doubt, luck), &truth)| {
                    if luck < skill { (truth, doubt * 0.5) } else { (guess, doubt) }
                });
                let (labels, uncertainty) = pairs.unzip();
                StageAnswers { packets: 1 + 2 * index as u16, labels, uncertainty }
            };
            let stages = drawn.iter().enumerate().map(stage).collect();
            Case { stages, truth, classes }
        })
    })
}

fn threshold(calibrated: &Calibrated, gate: usize, label: u16) -> f32 {
    match &calibrated.thresholds[gate] {
        Threshold::Universal(threshold) => *threshold,
        Threshold::PerClass(all) => all[usize::from(label)],
    }
}

/// The stage that each flow stops at, the obvious way.
fn stops(case: &Case, calibrated: &Calibrated) -> Vec<usize> {
    let last = case.stages.len() - 1;
    let accepts = |gate: usize, flow: usize| {
        let stage = &case.stages[gate];
        stage.uncertainty[flow] <= threshold(calibrated, gate, stage.labels[flow])
    };
    let stop = |flow| (0..last).find(|&gate| accepts(gate, flow)).unwrap_or(last);
    (0..case.truth.len()).map(stop).collect()
}

fn macro_f1(case: &Case, stops: &[usize]) -> f64 {
    let pairs = case.truth.iter().zip(stops).enumerate();
    let pairs = pairs.map(|(flow, (&truth, &stop))| (truth, case.stages[stop].labels[flow]));
    Confusion::of(case.classes, pairs).macro_f1()
}

fn calibrated(case: &Case, target: Target, granularity: Granularity) -> Calibrated {
    calibrate(&case.stages, &case.truth, case.classes, target, granularity)
}

fn packets(case: &Case, stops: &[usize]) -> usize {
    stops.iter().map(|&stop| usize::from(case.stages[stop].packets)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_told_is_what_the_thresholds_give(
        case in case(),
        loss in 0.0f64..0.2,
        share in 0.0f64..1.0,
    ) {
        for target in [Target::MaxLoss(loss), Target::Escalate(share)] {
            for granularity in GRANULARITIES {
                let found = calibrated(&case, target, granularity);
                let stops = stops(&case, &found);
                let last = case.stages.len() - 1;
                prop_assert_eq!((found.thresholds.len(), found.escalated.len()), (last, last));
                prop_assert!((found.cascade_macro_f1 - macro_f1(&case, &stops)).abs() < 1e-12);
                let slow = vec![last; stops.len()];
                prop_assert!((found.slow_macro_f1 - macro_f1(&case, &slow)).abs() < 1e-12);
                for (gate, told) in found.escalated.iter().enumerate() {
                    let passed = stops.iter().filter(|&&stop| stop > gate).count();
                    prop_assert!((told - passed as f64 / stops.len() as f64).abs() < 1e-12);
                }
                let grows = found.escalated.windows(2).all(|pair| pair[1] <= pair[0]);
                prop_assert!(grows, "no gate passes on more than reach it");
            }
        }
    }

    #[test]
    fn a_share_of_none_and_of_all_are_kept(case in case()) {
        for granularity in GRANULARITIES {
            let none = calibrated(&case, Target::Escalate(0.0), granularity);
            prop_assert!(none.escalated.iter().all(|&share| share == 0.0));
            let all = calibrated(&case, Target::Escalate(1.0), granularity);
            prop_assert!(all.escalated.iter().all(|&share| share == 1.0));
            prop_assert_eq!(all.cascade_macro_f1, all.slow_macro_f1);
        }
    }

    #[test]
    fn a_loss_of_everything_waits_for_no_packet(case in case()) {
        // Thresholds are taken low of those found on resamples, so a few flows may pass on.
        for granularity in GRANULARITIES {
            let found = calibrated(&case, Target::MaxLoss(1.0), granularity);
            let fast = found.escalated.first().copied().unwrap_or(0.0);
            let most = 0.2 + 3.0 * case.classes as f64 / case.truth.len() as f64;
            prop_assert!(fast <= most, "{fast}");
        }
    }

    #[test]
    fn more_loss_waits_for_fewer_packets_by_and_large(case in case()) {
        let waits = |loss: f64| {
            let found = calibrated(&case, Target::MaxLoss(loss), Granularity::Universal);
            packets(&case, &stops(&case, &found)) as f64 / case.truth.len() as f64
        };
        prop_assert!(waits(1.0) <= waits(0.0) + 1.5);
    }

    #[test]
    fn the_same_answers_give_the_same_gates(case in case(), loss in 0.0f64..0.2) {
        for granularity in GRANULARITIES {
            let target = Target::MaxLoss(loss);
            let again = calibrated(&case, target, granularity);
            prop_assert_eq!(calibrated(&case, target, granularity), again);
        }
    }
}

/// A fast stage that is right when it is sure, and a slow one that is always right.
fn honest(flows: usize) -> Case {
    let flow = |n: usize| (n * 7919 % flows) as f32 / flows as f32;
    let truth: Vec<u16> = (0..flows).map(|n| (n % 3) as u16).collect();
    let guess = |n: usize| if flow(n) < 0.7 { truth[n] } else { (truth[n] + 1) % 3 };
    let fast = StageAnswers {
        packets: 1,
        labels: (0..flows).map(guess).collect(),
        uncertainty: (0..flows).map(flow).collect(),
    };
    let slow = StageAnswers { packets: 9, labels: truth.clone(), uncertainty: vec![0.0; flows] };
    Case { stages: vec![fast, slow], truth, classes: 3 }
}

#[test]
fn an_honest_fast_stage_decides_what_it_knows() {
    let case = honest(999);
    for granularity in GRANULARITIES {
        let found = calibrated(&case, Target::MaxLoss(0.0), granularity);
        assert!(found.cascade_macro_f1 > 0.99, "{found:?}");
        assert!((0.29..0.36).contains(&found.escalated[0]), "{found:?}");
    }
}

#[test]
fn a_fast_stage_that_knows_nothing_decides_nothing() {
    let mut case = honest(600);
    case.stages[0].labels = case.truth.iter().map(|label| (label + 1) % 3).collect();
    for granularity in GRANULARITIES {
        let found = calibrated(&case, Target::MaxLoss(0.0), granularity);
        assert_eq!((found.escalated[0], found.cascade_macro_f1), (1.0, 1.0), "{found:?}");
    }
}

#[test]
fn doubt_that_is_no_number_is_never_accepted() {
    let mut case = honest(300);
    case.stages[0].uncertainty.fill(f32::NAN);
    for target in [Target::MaxLoss(1.0), Target::Escalate(0.3)] {
        for granularity in GRANULARITIES {
            let found = calibrated(&case, target, granularity);
            assert_eq!(found.escalated, [1.0], "{target:?}");
        }
    }
}
