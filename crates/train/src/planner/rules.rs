//! Escalation rules side by side: macro-F1 against the share of flows that a rule passes on.
//!
//! Two candidates, a fast and a slow one. A rule orders the flows, and the first of them go to the
//! slow one. Random order and an oracle that sees the truth are the yardsticks: a rule is worth the
//! share of the gap between the two that it closes.

use super::heads::Learned;
use super::pool::{Answers, Candidate, CandidatePair, CandidatePool, Flows};
use crate::metrics::Confusion;
use crate::random::Random;
use crate::reliability::Isotonic;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::Uncertainty;

/// Points of a curve: shares from 0 to 1.
const POINTS: usize = 100;
/// Draws of random escalation.
const DRAWS: u64 = 10;

/// How one rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleCurve {
    /// Name of the rule.
    pub rule: String,
    /// Macro-F1 at equal steps of the escalated share, from 0 to 1.
    pub macro_f1: Vec<f64>,
    /// Accuracy at the same steps.
    pub accuracy: Vec<f64>,
    /// Share of the area between random and oracle that the rule closes, in macro-F1.
    pub gap_closed: f64,
    /// Least share at which macro-F1 is no lower than the slow model's less the stated loss; none
    /// when no share is enough.
    pub share_needed: Option<f64>,
}

/// A pair of candidates, and how each rule does on its test flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The fast candidate.
    pub fast: String,
    /// The slow one.
    pub slow: String,
    /// Flows that were judged.
    pub flows: usize,
    /// Macro-F1 of the two alone.
    pub fast_f1: f64,
    /// Macro-F1 of the slow one alone.
    pub slow_f1: f64,
    /// The loss for `share_needed`.
    pub tolerated: f64,
    /// The rules; random and oracle among them.
    pub curves: Vec<RuleCurve>,
}

/// Two candidates' answers on some flows, as rules see them.
struct Pair<'a> {
    truth: &'a [u16],
    fast: &'a [u16],
    slow: &'a [u16],
    classes: usize,
}

impl Pair<'_> {
    /// The curve of an order: the flows that come first are passed on first.
    fn curve(&self, order: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let mut table =
            Confusion::of(self.classes, self.truth.iter().copied().zip(self.fast.iter().copied()));
        let mut passed = 0;
        let mut curve = (Vec::new(), Vec::new());
        for point in 0..=POINTS {
            let until = order.len() * point / POINTS;
            for &flow in &order[passed..until] {
                table.change(self.truth[flow], self.fast[flow], self.slow[flow]);
            }
            passed = until;
            curve.0.push(table.macro_f1());
            curve.1.push(table.accuracy());
        }
        curve
    }

    /// Flows that the slow one mends first, those it breaks last.
    fn oracle(&self) -> Vec<usize> {
        let right = |labels: &[u16], flow: usize| i32::from(labels[flow] == self.truth[flow]);
        let mut order: Vec<usize> = (0..self.truth.len()).collect();
        order.sort_by_key(|&flow| right(self.fast, flow) - right(self.slow, flow));
        order
    }
}

/// Flows by falling value; equal ones in their own order.
#[must_use]
pub fn by_falling(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

fn area(curve: &[f64]) -> f64 {
    curve.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>() / POINTS as f64
}

/// Compares the rules for two candidates on the test flows. `tolerated` is the loss of macro-F1
/// against the slow one that `share_needed` is told for.
#[must_use]
pub fn compare_rules(
    pool: &CandidatePool,
    pair: CandidatePair,
    learned: &Learned,
    tolerated: f64,
) -> RuleReport {
    let classes = pool.classes();
    let Flows { truth, .. } = &pool.test;
    let (fast, slow) = (&pool.candidates[pair.fast], &pool.candidates[pair.slow]);
    let pair = Pair { truth, fast: &fast.test.labels, slow: &slow.test.labels, classes };
    let by_measure = |measure: Uncertainty| {
        let doubt = |flow| measure.uncertainty(fast.test.row(flow, classes));
        let values: Vec<f32> = (0..truth.len()).map(doubt).collect();
        (measure.name().to_owned(), by_falling(&values))
    };
    let mut orders: Vec<(String, Vec<usize>)> =
        Uncertainty::ALL.into_iter().map(by_measure).collect();
    orders.push(("per_class".to_owned(), per_class(pool, fast, slow)));
    orders.extend(committee(pool, fast).map(|order| ("committee".to_owned(), order)));
    orders.push(("learned".to_owned(), by_falling(&learned.test)));
    let random = random_curve(&pair);
    let oracle = pair.curve(&pair.oracle());
    let (fast_f1, slow_f1) = (random.0[0], random.0[POINTS]);
    let gap = area(&oracle.0) - area(&random.0);
    let report = |rule: String, (macro_f1, accuracy): (Vec<f64>, Vec<f64>)| {
        let enough = |f1: &f64| *f1 >= slow_f1 - tolerated;
        let needed = macro_f1.iter().position(enough).map(|at| at as f64 / POINTS as f64);
        let closed = area(&macro_f1) - area(&random.0);
        RuleCurve {
            rule,
            gap_closed: if gap > 0.0 { closed / gap } else { 0.0 },
            share_needed: needed,
            macro_f1,
            accuracy,
        }
    };
    let mut curves: Vec<RuleCurve> =
        orders.into_iter().map(|(rule, order)| report(rule, pair.curve(&order))).collect();
    curves.push(report("random".to_owned(), random.clone()));
    curves.push(report("oracle".to_owned(), oracle));
    RuleReport {
        fast: fast.name.clone(),
        slow: slow.name.clone(),
        flows: truth.len(),
        fast_f1,
        slow_f1,
        tolerated,
        curves,
    }
}

/// Thresholds by predicted class: the price is one for all, and what a doubt is worth is fitted for
/// each class on the calibration flows, by isotonic regression of whether the slow one mends the
/// answer. Equal ones by doubt.
fn per_class(pool: &CandidatePool, fast: &Candidate, slow: &Candidate) -> Vec<usize> {
    let classes = pool.classes();
    let doubt = |answers: &Answers, flow: usize| {
        Uncertainty::LeastConfidence.uncertainty(answers.row(flow, classes))
    };
    let mut seen: Vec<Vec<(f64, bool)>> = vec![Vec::new(); classes];
    for (flow, &truth) in pool.val.truth.iter().enumerate() {
        let (own, other) = (fast.val.labels[flow], slow.val.labels[flow]);
        let mends = own != truth && other == truth;
        seen[usize::from(own)].push((f64::from(doubt(&fast.val, flow)), mends));
    }
    let fits: Vec<Isotonic> = seen.into_iter().map(Isotonic::fit).collect();
    let value = |flow: usize| {
        let doubt = f64::from(doubt(&fast.test, flow));
        (fits[usize::from(fast.test.labels[flow])].at(doubt), doubt)
    };
    let values: Vec<(f64, f64)> = (0..fast.test.labels.len()).map(value).collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| {
        let (own, other) = (values[b], values[a]);
        own.0.total_cmp(&other.0).then(own.1.total_cmp(&other.1))
    });
    order
}

fn random_curve(pair: &Pair<'_>) -> (Vec<f64>, Vec<f64>) {
    let mut mean = (vec![0.0; POINTS + 1], vec![0.0; POINTS + 1]);
    for draw in 0..DRAWS {
        let mut order: Vec<usize> = (0..pair.truth.len()).collect();
        let count = order.len();
        Random::new(&[draw, 5]).choose(&mut order, count);
        let curve = pair.curve(&order);
        let add = |mean: &mut [f64], own: &[f64]| {
            mean.iter_mut().zip(own).for_each(|(sum, value)| *sum += value / DRAWS as f64);
        };
        add(&mut mean.0, &curve.0);
        add(&mut mean.1, &curve.1);
    }
    mean
}

/// Disagreement of the candidates that see what the fast one sees: flows by the share that say
/// something else, then by the fast one's doubt. None where it is alone.
fn committee(pool: &CandidatePool, fast: &Candidate) -> Option<Vec<usize>> {
    let same = |other: &&Candidate| {
        other.recipe.packets == fast.recipe.packets
            && other.recipe.wait_ms == fast.recipe.wait_ms
            && other.name != fast.name
    };
    let members: Vec<_> = pool.candidates.iter().filter(same).collect();
    if members.is_empty() {
        return None;
    }
    let classes = pool.classes();
    let value = |flow: usize| {
        let other = |member: &&&Candidate| member.test.labels[flow] != fast.test.labels[flow];
        let against = members.iter().filter(other).count() as f32;
        against + Uncertainty::LeastConfidence.uncertainty(fast.test.row(flow, classes))
    };
    let values: Vec<f32> = (0..fast.test.labels.len()).map(value).collect();
    Some(by_falling(&values))
}
