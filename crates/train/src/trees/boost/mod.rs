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

mod grow;
mod histogram;
mod loss;
mod quantise;

use super::error::require;
use super::{Progress, TrainError, TrainSet};
use crate::random::{self, Random};
use grow::{Grower, PlaneTree};
use loss::{log_loss, log_sums};
use serveflow_model::forest::{Forest, Kind, Tree};
use std::sync::Mutex;

/// How boosted trees grow. Names in brackets are LightGBM's.
#[derive(Clone, Debug, PartialEq)]
pub struct BoostParams {
    /// Rounds, each a tree per class (`num_iterations`).
    pub rounds: usize,
    /// Factor to the values of the leaves (`learning_rate`).
    pub learning_rate: f64,
    /// Leaves of a tree, at most (`num_leaves`).
    pub max_leaves: usize,
    /// Tests from the root to a leaf, at most (`max_depth`); none for any number.
    pub max_depth: Option<usize>,
    /// Rows in a leaf, at least, whatever they weigh (`min_data_in_leaf`).
    pub min_leaf: usize,
    /// Sum of hessians in a leaf, at least (`min_sum_hessian_in_leaf`).
    pub min_hessian: f64,
    /// Added to the sum of hessians of a leaf (`lambda_l2`).
    pub l2: f64,
    /// What a split has to gain (`min_gain_to_split`).
    pub min_gain: f64,
    /// Share of the columns that each tree sees (`feature_fraction`).
    pub column_fraction: f64,
    /// Share of the rows that each round sees (`bagging_fraction`, with a `bagging_freq` of 1).
    pub row_fraction: f64,
    /// Stop after so many rounds without a better validation loss, and keep the best round
    /// (`early_stopping_round`); none to keep all rounds.
    pub patience: Option<usize>,
    /// Bits of a quantised gradient, its sign among them.
    pub gradient_bits: u32,
    /// Bits of a quantised hessian.
    pub hessian_bits: u32,
    /// Decides rounding and all draws.
    pub seed: u64,
    /// Threads to use, at most one for each class. The forest does not depend on it.
    pub threads: usize,
}

impl Default for BoostParams {
    fn default() -> Self {
        Self {
            rounds: 100,
            learning_rate: 0.1,
            max_leaves: 31,
            max_depth: None,
            min_leaf: 20,
            min_hessian: 1e-3,
            l2: 0.0,
            min_gain: 0.0,
            column_fraction: 1.0,
            row_fraction: 1.0,
            patience: None,
            gradient_bits: 8,
            hessian_bits: 6,
            seed: 0,
            threads: 1,
        }
    }
}

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

impl BoostParams {
    fn check(&self) -> Result<(), TrainError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let share = |x: f64| x > 0.0 && x <= 1.0;
        require(positive(self.learning_rate), "learning_rate", "finite and positive")?;
        require(self.max_leaves > 0 && self.max_leaves < 1 << 24, "max_leaves", "1 to 2^24 - 1")?;
        require(self.min_leaf > 0, "min_leaf", "at least 1")?;
        require(not_negative(self.min_hessian), "min_hessian", "finite and not negative")?;
        require(not_negative(self.l2), "l2", "finite and not negative")?;
        require(not_negative(self.min_gain), "min_gain", "finite and not negative")?;
        require(share(self.column_fraction), "column_fraction", "above 0, at most 1")?;
        require(share(self.row_fraction), "row_fraction", "above 0, at most 1")?;
        require(self.patience != Some(0), "patience", "at least 1, or none")?;
        require((2..=16).contains(&self.gradient_bits), "gradient_bits", "2 to 16")?;
        require((1..=15).contains(&self.hessian_bits), "hessian_bits", "1 to 15")?;
        require(self.threads > 0, "threads", "at least 1")
    }
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
    let kind = Kind::Boosted { base };
    let forest = Forest::new(set.matrix().shape(), set.classes(), kind, trees);
    let forest = forest.expect("grown trees keep what a forest promises");
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
            for grower in others {
                scope.spawn(|| work(grower));
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

/// The validation set as it is scored so far.
struct Watch<'a> {
    set: &'a TrainSet,
    scores: Vec<f64>,
    losses: Vec<f64>,
    /// Rounds up to and with the best one.
    best: usize,
    least: f64,
}

impl<'a> Watch<'a> {
    fn new(set: &'a TrainSet, base: &[f32]) -> Self {
        let scores = start(base, set.matrix().rows());
        let least = log_loss(set, &scores);
        Self { set, scores, losses: Vec::new(), best: 0, least }
    }

    /// Adds a round and returns the loss after it.
    fn add(&mut self, trees: &[PlaneTree]) -> f64 {
        let rows = self.set.matrix().rows();
        for (tree, scores) in trees.iter().zip(self.scores.chunks_mut(rows)) {
            for (row, score) in scores.iter_mut().enumerate() {
                *score += tree.value(self.set.matrix(), row);
            }
        }
        let loss = log_loss(self.set, &self.scores);
        self.losses.push(loss);
        if loss < self.least {
            (self.least, self.best) = (loss, self.losses.len());
        }
        loss
    }
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
