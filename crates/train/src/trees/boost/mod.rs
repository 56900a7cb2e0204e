//! Gradient-boosted trees: softmax, leaf-wise growth, on quantised gradients.
//!
//! What is computed follows LightGBM's `multiclass` objective, so that results compare: raw scores
//! start at the log of each class's share; a round grows one tree per class on the gradients
//! `p - y` and the hessians `K / (K - 1) * p * (1 - p)`; a tree splits the leaf that gains most
//! until it has `max_leaves`; a leaf answers `-G / (H + l2)` times the learning rate.
//!
//! How is different. A tree's gradients and hessians are rounded to a few bits, up or down at
//! random so that sums stay right on average, and kept as bit planes ([`quantise`]). The sums of
//! every plane of the matrix over a node's rows are then counts of common bits ([`histogram`]), and
//! only the smaller child of a split is counted ([`grow`]). The values of the leaves come from the
//! gradients as they were before rounding. The trees of a round do not depend on each other, so
//! threads share out the classes.

mod gains;
mod grow;
mod histogram;
mod loss;
mod params;
mod plane_tree;
mod quantise;
mod watch;

pub use params::BoostParams;

use super::{Progress, TrainError, TrainSet};
use crate::random::{self, Random};
use grow::Grower;
use loss::log_sums;
use plane_tree::PlaneTree;
use serveflow_model::forest::{Forest, ForestKind, Tree};
use std::sync::Mutex;
use std::thread::Builder;
use watch::Watch;

/// What boosting gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Boosted {
    /// The model.
    pub forest: Forest,
    /// Rounds that it holds.
    pub rounds: usize,
    /// Mean validation log-loss after each round that was tried; empty without a validation set.
    pub validation_losses: Vec<f64>,
}

/// Trains gradient-boosted trees and reports after every round.
///
/// A class without rows, or with all rows, gets no trees but an extreme base score. Training ends
/// early when no class finds a split, or by `patience` on the validation set.
///
/// # Errors
/// When a parameter is out of range, or the validation set does not fit the training set.
pub fn train_boosted(
    set: &TrainSet,
    validation: Option<&TrainSet>,
    params: &BoostParams,
    progress: &mut dyn FnMut(Progress),
) -> Result<Boosted, TrainError> {
    params.check()?;
    if validation
        .is_some_and(|v| v.classes() != set.classes() || v.matrix().tests() != set.matrix().tests())
    {
        return Err(TrainError::Validation);
    }
    let base = base_scores(set);
    let mut run = Run::new(set, params, &base);
    let mut watch = validation.map(|set| Watch::new(set, &base));
    let mut trees: Vec<PlaneTree> = Vec::new();
    for round in 0..params.rounds {
        let grown = run.round(round);
        if grown.iter().all(|tree| tree.nodes.is_empty()) {
            break;
        }
        let loss = watch.as_mut().map(|watch| watch.add(&grown));
        trees.extend(grown);
        progress(Progress { done: round + 1, total: params.rounds, validation_loss: loss });
        if let (Some(watch), Some(patience)) = (&watch, params.patience)
            && round + 1 >= watch.best + patience
        {
            break;
        }
    }
    if let (Some(watch), Some(_)) = (&watch, params.patience) {
        trees.truncate(watch.best * set.classes());
    }
    let rounds = trees.len() / set.classes();
    let trees: Vec<Tree> = trees.iter().map(|tree| tree.bind(set.matrix().tests())).collect();
    let kind = ForestKind::softmax(base);
    let forest = Forest::new(set.matrix().shape(), set.classes(), kind, trees);
    let forest = forest.expect("grown trees keep what a forest guarantees");
    Ok(Boosted { forest, rounds, validation_losses: watch.map_or(Vec::new(), |w| w.losses) })
}

/// The smallest share that a class counts as having.
const LEAST_SHARE: f64 = 1e-15;

fn shares(set: &TrainSet) -> Vec<f64> {
    let weights = set.class_weights();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

fn base_scores(set: &TrainSet) -> Vec<f32> {
    shares(set).iter().map(|share| share.max(LEAST_SHARE).ln() as f32).collect()
}

/// Training as it stands: the raw score of every row and class, and a grower for each thread.
struct Run<'a> {
    set: &'a TrainSet,
    params: &'a BoostParams,
    /// Classes that have something to learn.
    learns: Vec<bool>,
    /// Class after class.
    scores: Vec<f64>,
    growers: Vec<Grower<'a>>,
}

impl<'a> Run<'a> {
    fn new(set: &'a TrainSet, params: &'a BoostParams, base: &[f32]) -> Self {
        let inside = |share: f64| share > LEAST_SHARE && share < 1.0 - LEAST_SHARE;
        let threads = params.threads.min(set.classes());
        Self {
            set,
            params,
            learns: shares(set).into_iter().map(inside).collect(),
            scores: start(base, set.matrix().rows()),
            growers: (0..threads).map(|_| Grower::new(set, params)).collect(),
        }
    }

    /// Grows a tree for each class and adds them to the scores.
    fn round(&mut self, round: usize) -> Vec<PlaneTree> {
        let rows = self.set.matrix().rows();
        let log_sums = log_sums(&self.scores, rows);
        let seed = Random::new(&[self.params.seed, round as u64]).next();
        let bag = self.bag(seed);
        let grown = Mutex::new(vec![PlaneTree::constant(); self.set.classes()]);
        let jobs =
            self.scores.chunks_mut(rows).enumerate().filter(|(class, _)| self.learns[*class]);
        let jobs = Mutex::new(jobs);
        let work = |grower: &mut Grower<'_>| {
            loop {
                let job = jobs.lock().expect("no thread panics").next();
                let Some((class, scores)) = job else { break };
                let seed = Random::new(&[seed, class as u64]).next();
                let tree = grower.grow(class, scores, &log_sums, bag.as_deref(), seed);
                grown.lock().expect("no thread panics")[class] = tree;
            }
        };
        std::thread::scope(|scope| {
            let (first, others) = self.growers.split_at_mut(1);
            // Where the system gives no thread, the others do its share.
            for grower in others {
                if Builder::new().spawn_scoped(scope, || work(grower)).is_err() {
                    break;
                }
            }
            first.iter_mut().for_each(work);
        });
        grown.into_inner().expect("no thread panics")
    }

    /// Which rows this round sees; none for all. At least one is seen.
    fn bag(&self, seed: u64) -> Option<Vec<bool>> {
        let rows = self.set.matrix().rows();
        (self.params.row_fraction < 1.0).then(|| {
            let count = (rows as f64 * self.params.row_fraction).ceil() as usize;
            let mut order: Vec<u32> = (0..rows as u32).collect();
            Random::new(&[seed, u64::MAX]).choose(&mut order, count);
            let mut bag = vec![false; rows];
            order[..count].iter().for_each(|row| bag[*row as usize] = true);
            bag
        })
    }
}

/// The base scores for every row, class after class.
fn start(base: &[f32], rows: usize) -> Vec<f64> {
    base.iter().flat_map(|b| std::iter::repeat_n(f64::from(*b), rows)).collect()
}

/// Which planes a tree may ask: those of a draw of columns.
fn draw_columns(set: &TrainSet, fraction: f64, seed: u64) -> Vec<bool> {
    let sources = set.matrix().sources();
    let count = ((sources.len() as f64 * fraction).round() as usize).max(1);
    let mut order: Vec<usize> = (0..sources.len()).collect();
    Random::new(&[random::mix(seed)]).choose(&mut order, count);
    let mut drawn = vec![false; set.matrix().width() * 64];
    for source in order.into_iter().take(count) {
        drawn[sources[source].clone()].fill(true);
    }
    drawn
}
