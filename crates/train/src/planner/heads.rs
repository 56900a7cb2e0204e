//! Heads: how worth is learned.
//!
//! For a stage and a later one, each calibration flow says whether the later stage hurts (the first
//! one is right and the later one wrong), changes nothing, or helps. A few shallow boosted trees
//! learn this from the facts. Flows weigh by their class, between all the same and each class the
//! same in sum, for macro-F1 is what is to be kept.
//!
//! A head that is asked about the flows it learned from is too sure. So worth on the calibration
//! flows is always told by heads that did not see them, nor any flow of the same capture: the
//! captures are parted into folds, and each fold is judged by heads of the others. What is served
//! is trained on all.

use super::pool::{Answers, Candidate, CandidatePair, CandidatePool};
use crate::random::Random;
use crate::trees::{BitMatrix, BoostParams, TrainError, TrainSet, train_boosted};
use serveflow_core::deferral::{OUTCOMES, facts_columns, facts_shape, push_facts, worth};
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::CostPlan;
use serveflow_model::forest::{BoundForest, Forest};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, ScopedJoinHandle};

/// Folds of the calibration flows.
const FOLDS: usize = 5;
/// Flows per batch that a head's cost is measured with, flows in all, and rounds.
const COST_BATCH: usize = 64;
const COST_FLOWS: usize = 1024;
const COST_ROUNDS: usize = 3;
/// Cuts of a fact, at most.
const CUTS: usize = 31;

/// The worth of going on from one candidate to another.
#[derive(Clone, Debug)]
pub struct Learned {
    /// By calibration flow, told by a head that did not see the flow.
    pub val: Vec<f32>,
    /// By test flow.
    pub test: Vec<f32>,
    /// The head of all calibration flows.
    pub forest: Forest,
    /// What scoring a flow with it costs.
    pub cost: CostPlan,
}

/// How heads are trained: small, slow, and hard to fool.
#[must_use]
pub fn head_params(seed: u64) -> BoostParams {
    BoostParams {
        rounds: 40,
        learning_rate: 0.08,
        max_leaves: 6,
        min_leaf: 15,
        l2: 5.0,
        column_fraction: 0.5,
        seed,
        ..BoostParams::default()
    }
}

/// The rows that heads see of a candidate's answers.
#[must_use]
pub fn fact_rows(answers: &Answers, classes: usize) -> Rows {
    let mut rows = Rows::with_capacity(facts_shape(classes), answers.facts.len());
    for (flow, facts) in answers.facts.iter().enumerate() {
        push_facts(&mut rows, answers.row(flow, classes), &facts.0);
    }
    rows
}

/// What the later stage does for each flow: hurts, changes nothing, helps.
fn outcomes(fast: &Answers, slow: &Answers, truth: &[u16]) -> Vec<u16> {
    let right = |answers: &Answers, flow: usize| i32::from(answers.labels[flow] == truth[flow]);
    (0..truth.len()).map(|flow| (1 + right(slow, flow) - right(fast, flow)) as u16).collect()
}

/// Weights by class: the square root of what would make all classes weigh the same.
fn weights(truth: &[u16], classes: usize) -> Vec<f32> {
    let mut counts = vec![0_usize; classes];
    truth.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let mean = truth.len() as f64 / counts.iter().filter(|&&count| count > 0).count().max(1) as f64;
    truth.iter().map(|&label| (mean / counts[usize::from(label)] as f64).sqrt() as f32).collect()
}

/// Learns what going on from candidate `fast` to candidate `slow` is worth.
///
/// # Errors
/// When there are no calibration flows.
pub fn learn(
    pool: &CandidatePool,
    pair: CandidatePair,
    seed: u64,
    wall: &dyn Fn() -> u64,
) -> Result<Learned, TrainError> {
    let classes = pool.classes();
    let (fast, slow) = (&pool.candidates[pair.fast], &pool.candidates[pair.slow]);
    let rows = fact_rows(&fast.val, classes);
    let outcomes = outcomes(&fast.val, &slow.val, &pool.val.truth);
    let weights = weights(&pool.val.truth, classes);
    let columns = facts_columns(&pool.labels);
    let fit = |flows: &[usize]| -> Result<Forest, TrainError> {
        let mut own = Rows::with_capacity(rows.shape(), flows.len());
        flows.iter().for_each(|&flow| own.push_copy(&rows, flow));
        let labels = flows.iter().map(|&flow| outcomes[flow]).collect();
        let weights = flows.iter().map(|&flow| weights[flow]).collect();
        let matrix = BitMatrix::new(&own, &columns, CUTS)?;
        let set = TrainSet::new(matrix, labels, weights, OUTCOMES)?;
        Ok(train_boosted(&set, None, &head_params(seed), &mut |_| {})?.forest)
    };
    let mut val = vec![0.0; outcomes.len()];
    for (inside, outside) in folds(&pool.val.capture, seed) {
        let head = fit(&outside)?;
        let mut own = Rows::with_capacity(rows.shape(), inside.len());
        inside.iter().for_each(|&flow| own.push_copy(&rows, flow));
        for (&flow, worth) in inside.iter().zip(worths(&head, &own)) {
            val[flow] = worth;
        }
    }
    let all: Vec<usize> = (0..outcomes.len()).collect();
    let forest = fit(&all)?;
    let head_ns = |batch| head_ns(&forest, fast, classes, batch, wall);
    let (score_single_ns, score_batch_ns) = (head_ns(1), head_ns(COST_BATCH));
    let cost = CostPlan { score_batch_ns, score_single_ns };
    let test = worths(&forest, &fact_rows(&fast.test, classes));
    Ok(Learned { val, test, forest, cost })
}

/// What a head costs in batches of so many flows, facts put together included, nanoseconds per
/// flow: the fastest of a few rounds.
fn head_ns(
    head: &Forest,
    fast: &Candidate,
    classes: usize,
    batch: usize,
    wall: &dyn Fn() -> u64,
) -> f64 {
    let (bound, mut scores) = (BoundForest::new(head), Scores::default());
    let flows = fast.val.facts.len().min(COST_FLOWS);
    let mut rows = Rows::with_capacity(facts_shape(classes), batch);
    let mut round = || {
        let started = wall();
        for flow in 0..flows {
            push_facts(&mut rows, fast.val.row(flow, classes), &fast.val.facts[flow].0);
            if rows.len() == batch || flow + 1 == flows {
                bound.score(&rows, &mut scores);
                rows.clear();
            }
        }
        wall().saturating_sub(started)
    };
    let fastest = (0..COST_ROUNDS).map(|_| round()).min().unwrap_or(0);
    fastest as f64 / flows.max(1) as f64
}

/// Each fold, and the flows outside of it, by the capture of each flow: the largest capture goes to
/// the smallest fold, then the next one. Where there are few captures, flows are parted without
/// them.
pub(super) fn folds(captures: &[u32], seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    captures.iter().for_each(|&capture| *sizes.entry(capture).or_default() += 1);
    let count = FOLDS.min(captures.len());
    let mut fold_of = vec![0; captures.len()];
    if sizes.len() < 2 * FOLDS {
        let mut order: Vec<usize> = (0..captures.len()).collect();
        Random::new(&[seed, 77]).choose(&mut order, captures.len());
        order.iter().enumerate().for_each(|(place, &flow)| fold_of[flow] = place % FOLDS);
    } else {
        let mut by_size: Vec<(u32, usize)> = sizes.into_iter().collect();
        by_size.sort_by_key(|&(capture, size)| (std::cmp::Reverse(size), capture));
        let (mut filled, mut own) = ([0; FOLDS], BTreeMap::new());
        for (capture, size) in by_size {
            let smallest = (0..FOLDS).min_by_key(|&fold| filled[fold]).unwrap_or(0);
            filled[smallest] += size;
            own.insert(capture, smallest);
        }
        captures.iter().enumerate().for_each(|(flow, capture)| fold_of[flow] = own[capture]);
    }
    let part = |fold: usize, inside: bool| {
        (0..captures.len()).filter(|&flow| (fold_of[flow] == fold) == inside).collect()
    };
    (0..count).map(|fold| (part(fold, true), part(fold, false))).collect()
}

/// Learns the heads of some pairs, on several threads; the heads do not depend on how many.
///
/// # Errors
/// When there are no calibration flows.
///
/// # Panics
/// When a thread does.
pub fn learn_all(
    pool: &CandidatePool,
    pairs: &[CandidatePair],
    seed: u64,
    threads: usize,
    wall: &(dyn Fn() -> u64 + Sync),
) -> Result<BTreeMap<(usize, usize), Learned>, TrainError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut own = Vec::new();
        while let Some(&pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.push((pair, learn(pool, pair, seed, wall)));
        }
        own
    };
    let all = std::thread::scope(|scope| {
        // Where the system gives no thread, the others do its share.
        let start = |_| Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads).map_while(start).collect();
        let mut all = work();
        let join = |thread: ScopedJoinHandle<'_, Vec<_>>| thread.join().expect("no head panics");
        all.extend(others.into_iter().flat_map(join));
        all
    });
    all.into_iter().map(|(pair, learned)| Ok(((pair.fast, pair.slow), learned?))).collect()
}

/// What a head says of some rows of facts.
#[must_use]
pub fn worths(head: &Forest, rows: &Rows) -> Vec<f32> {
    let mut scores = Scores::default();
    BoundForest::new(head).score(rows, &mut scores);
    (0..scores.len()).map(|row| worth(scores.row(row))).collect()
}
