//! Promises of a plan: which price the calibration split grants.
//!
//! The heads and the cascade are found on training flows that blind models answered; the
//! calibration split has no part in it. On the split each price of the cascade is then tested, from
//! "ask the last stage of all" towards the price that was found, until the first that cannot be
//! granted (fixed sequence testing, Angelopoulos et al., "Learn then Test", 2021).

use super::heads::{Learned, fact_rows, worths};
use super::pool::{Answers, CandidatePool, Flows};
use super::replay::{Chain, Evaluator, Heads, Part};
use super::search::prices;
use crate::risk_control::{Guarantee, Loss, PairedPredictions, fixed_sequence, smallest_tolerated};
use serde::{Deserialize, Serialize};
use serveflow_model::bundle::GuaranteePlan;

/// What became of a guarantee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    /// What was asked for.
    pub guarantee: Guarantee,
    /// The slow stage that losses are against.
    pub slow: String,
    /// Flows of the calibration split.
    pub flows: u64,
    /// Whether the plan keeps it.
    pub granted: bool,
    /// The price that is granted.
    pub price: f64,
    /// Loss on these flows at that price.
    pub measured: f64,
    /// The smallest loss that these flows could support at that price.
    pub smallest: f64,
    /// What has to be so for the guarantee to hold, in words.
    pub assumptions: String,
}

impl Granted {
    /// As plans have it; none where nothing is guaranteed.
    #[must_use]
    pub fn plan(&self) -> Option<GuaranteePlan> {
        self.granted.then(|| GuaranteePlan {
            loss: name(self.guarantee.loss).to_owned(),
            tolerated: self.guarantee.tolerated,
            confidence: self.guarantee.confidence,
            slow: self.slow.clone(),
            flows: self.flows,
            measured: self.measured,
            assumptions: self.assumptions.clone(),
        })
    }
}

/// A loss as plans spell it.
#[must_use]
pub fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::Accuracy => "accuracy",
        Loss::MacroF1 => "macro_f1",
    }
}

/// What guarantees rest on.
const ASSUMPTIONS: &str = "the flows to come are exchangeable with those of the calibration split: \
    drawn alike and independently; flows of one capture resemble each other, and other networks or \
    times may differ, for which nothing is guaranteed; the models and heads did not see the split";

/// The pool with its training flows for calibration and its calibration split for test.
pub(super) fn without_split(pool: &CandidatePool) -> CandidatePool {
    let classes = pool.classes();
    let (split, rest) = (0..pool.unseen, pool.unseen..pool.val.truth.len());
    let mut parted = pool.clone();
    let flows = |range: std::ops::Range<usize>| Flows {
        truth: pool.val.truth[range.clone()].to_vec(),
        capture: pool.val.capture[range].to_vec(),
    };
    (parted.test, parted.val, parted.unseen) = (flows(split.clone()), flows(rest.clone()), 0);
    for (own, whole) in parted.candidates.iter_mut().zip(&pool.candidates) {
        let answers = |range: std::ops::Range<usize>| Answers {
            scores: whole.val.scores[range.start * classes..range.end * classes].to_vec(),
            facts: whole.val.facts[range.clone()].to_vec(),
            labels: whole.val.labels[range].to_vec(),
        };
        (own.test, own.val) = (answers(split.clone()), answers(rest.clone()));
    }
    parted
}

/// Heads of the parted pool, as the whole one has them.
pub(super) fn rejoined(heads: Heads, pool: &CandidatePool) -> Heads {
    let whole = |((fast, slow), own): ((usize, usize), Learned)| {
        let val = own.test.iter().chain(&own.val).copied().collect();
        let rows = fact_rows(&pool.candidates[fast].test, pool.classes());
        let test = worths(&own.forest, &rows);
        ((fast, slow), Learned { val, test, ..own })
    };
    heads.into_iter().map(whole).collect()
}

/// The dearest price up to the cascade's own that the split grants.
pub(super) fn grant(board: &Evaluator<'_>, cascade: &Chain, guarantee: Guarantee) -> Granted {
    let pool = board.pool;
    let last = cascade.stages[cascade.stages.len() - 1];
    let slow = &pool.candidates[last].val.labels[..pool.unseen];
    let truth = Part::Split.truth(pool);
    let mut path: Vec<f64> = prices(cascade.rule);
    path.retain(|&price| price < cascade.price);
    path.push(cascade.price);
    let answers: Vec<Vec<u16>> = path
        .iter()
        .map(|&price| {
            let cascade = Chain { price, ..cascade.clone() };
            board.labels(&cascade, &board.walk(&cascade, Part::Split), Part::Split)
        })
        .collect();
    let classes = pool.classes();
    let outcome = |at: usize| PairedPredictions { truth, slow, cascade: &answers[at], classes };
    let granted = fixed_sequence(&guarantee, (0..path.len()).map(outcome));
    let at = granted.unwrap_or(0);
    Granted {
        guarantee,
        slow: pool.candidates[last].name.clone(),
        flows: truth.len() as u64,
        granted: granted.is_some(),
        price: path[at],
        measured: outcome(at).loss(guarantee.loss),
        smallest: smallest_tolerated(guarantee.loss, guarantee.confidence, &outcome(at)),
        assumptions: ASSUMPTIONS.to_owned(),
    }
}
