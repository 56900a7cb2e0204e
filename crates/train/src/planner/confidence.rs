//! Confidence of verdicts: calibrated where that helps.
//!
//! A stage decides the flows that its gate lets stand, and these are right more often than all that
//! it is asked about. So what its probability is worth is fitted on the calibration flows that it
//! decides, by isotonic regression, and only kept where it makes the calibration error of flows
//! smaller that it was not fitted on: the captures are parted into folds.

use super::heads::folds;
use super::replay::{Chain, Evaluator, Part, ReplayPath};
use crate::reliability::{Isotonic, bins, calibration_error};
use serveflow_core::calibration::Calibration;
use serveflow_core::gate::best_class;

/// Flows that a stage must decide, and those of a step.
const LEAST_FLOWS: usize = 200;
const STEP_FLOWS: usize = 25;
/// What must be left of the error, at most.
const WORTH: f64 = 0.8;

/// The answers that a place of a cascade decides: probability, whether it is right, capture.
struct Decided {
    answers: Vec<(f64, bool)>,
    captures: Vec<u32>,
}

fn decided(
    board: &Evaluator<'_>,
    cascade: &Chain,
    walk: &ReplayPath,
    at: usize,
    part: Part,
) -> Decided {
    let pool = board.pool;
    let own = part.answers(&pool.candidates[cascade.stages[at]]);
    let truth = part.truth(pool);
    let flows = || (0..truth.len()).filter(|&flow| usize::from(walk.stop[flow]) == at);
    let answer = |flow: usize| {
        let (label, probability) = best_class(own.row(flow, pool.classes()));
        (f64::from(probability), label == truth[flow])
    };
    let captures = match part {
        Part::Test => &pool.test.capture,
        Part::Val | Part::Split => &pool.val.capture,
    };
    Decided {
        answers: flows().map(answer).collect(),
        captures: flows().map(|flow| captures[flow]).collect(),
    }
}

fn error(answers: Vec<(f64, bool)>) -> f64 {
    calibration_error(&bins(answers))
}

/// Steps from probability to share of right answers for a place of a cascade, whose calibration
/// flows were walked; none where they do not help.
#[must_use]
pub fn steps(
    board: &Evaluator<'_>,
    cascade: &Chain,
    walk: &ReplayPath,
    at: usize,
) -> Vec<[f64; 2]> {
    let own = decided(board, cascade, walk, at, Part::Val);
    if own.answers.len() < LEAST_FLOWS {
        return Vec::new();
    }
    let of = |flows: &[usize]| flows.iter().map(|&flow| own.answers[flow]).collect::<Vec<_>>();
    let mut told = own.answers.clone();
    for (inside, outside) in folds(&own.captures, 1) {
        let fit = Isotonic::fit_coarse(of(&outside), STEP_FLOWS);
        inside.iter().for_each(|&flow| told[flow].0 = fit.at(told[flow].0));
    }
    if error(told) > WORTH * error(own.answers.clone()) {
        return Vec::new();
    }
    let round = |value: f64| (value * 1e6).round() / 1e6;
    let fit = Isotonic::fit_coarse(own.answers, STEP_FLOWS);
    let mut steps: Vec<[f64; 2]> =
        fit.steps().iter().map(|&(from, share)| [round(from), round(share)]).collect();
    // Steps that rounding made one.
    steps.dedup_by(|next, before| next[0] <= before[0]);
    steps
}

/// Calibration error of the verdicts of a place on the test flows, as they are and as they are
/// told.
#[must_use]
pub fn judged(
    board: &Evaluator<'_>,
    cascade: &Chain,
    walk: &ReplayPath,
    at: usize,
    told: &Calibration,
) -> (f64, f64) {
    let own = decided(board, cascade, walk, at, Part::Test).answers;
    let told = own.iter().map(|&(raw, right)| (f64::from(told.at(raw as f32)), right)).collect();
    (error(own), error(told))
}
