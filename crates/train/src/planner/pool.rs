//! The pool: candidate stages, what they answered on the calibration and the test flows, and what
//! they cost. Cascades are composed from it without touching a capture again.

use crate::dataset::DataSummary;
use crate::metrics::Confusion;
use crate::pipeline::{Kind, Tier};
use serde::{Deserialize, Serialize};
use serveflow_core::deferral::FlowFacts;
use serveflow_core::gate::best_class;
use serveflow_core::rows::Scores;
use serveflow_model::bundle::{CostPlan, FlowPlan, ModelPlan, Provenance};
use std::collections::BTreeSet;
use std::fmt;

/// What the file of a pool begins with.
pub const POOL_FORMAT: &str = "serveflow-pool/1";

/// A candidate stage: a kind of model, of a size, on so many packets, after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CandidateSpec {
    /// Kind of model.
    pub kind: Kind,
    /// Rounds or trees that are kept of those trained; none for all.
    pub size: Option<usize>,
    /// Packets that it sees, or [`Tier::WINDOW`].
    pub packets: u16,
    /// Longest wait for them, milliseconds after the flow's first.
    pub wait_ms: u64,
    /// Which of the plan's sets of features, by index.
    pub features: usize,
}

impl CandidateSpec {
    /// The kind and the packets.
    #[must_use]
    pub fn tier(&self) -> Tier {
        Tier { kind: self.kind, packets: self.packets }
    }

    /// A name for outputs: `boosted-20@10~1000ms+flow_stats` where size, wait and encoders are not
    /// the plan's own. `sets` holds the encoders that recipes name by index.
    #[must_use]
    pub fn name(&self, wait_ms: u64, sets: &[Vec<String>]) -> String {
        let mut name = self.kind.name().to_owned();
        let mut add = |part: fmt::Arguments<'_>| fmt::Write::write_fmt(&mut name, part);
        let mut written = Ok(());
        if let Some(size) = self.size {
            written = written.and(add(format_args!("-{size}")));
        }
        written = written.and(add(format_args!("@{}", self.tier().depth())));
        if self.wait_ms != wait_ms {
            written = written.and(add(format_args!("~{}ms", self.wait_ms)));
        }
        if self.features > 0 {
            let set = sets.get(self.features).map(|set| set.join("+")).unwrap_or_default();
            written = written.and(add(format_args!("+{set}")));
        }
        written.expect("a string takes all");
        name
    }
}

/// The answers of one candidate for the flows of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Class probabilities, flow by flow.
    pub scores: Vec<f32>,
    /// What else was known when it was asked.
    pub facts: Vec<Facts>,
    /// The most probable class, by flow.
    #[serde(skip)]
    pub labels: Vec<u16>,
}

/// [`FlowFacts`] as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Facts(pub FlowFacts);

/// Packets, short, protocol, size, payload, flags, backward, elapsed microseconds.
type Stored = (u16, bool, u8, u16, u16, u8, bool, u32);

impl From<Stored> for Facts {
    fn from((packets, short, proto, size, payload, flags, backward, elapsed_us): Stored) -> Self {
        Self(FlowFacts { packets, short, proto, size, payload, flags, backward, elapsed_us })
    }
}

impl From<Facts> for Stored {
    fn from(Facts(f): Facts) -> Self {
        (f.packets, f.short, f.proto, f.size, f.payload, f.flags, f.backward, f.elapsed_us)
    }
}

impl Answers {
    /// The answers in a batch of scores.
    #[must_use]
    pub fn new(scores: &Scores, facts: &[FlowFacts]) -> Self {
        let all = (0..scores.len()).flat_map(|flow| scores.row(flow).iter().copied()).collect();
        let facts = facts.iter().copied().map(Facts).collect();
        Self { scores: all, facts, labels: Vec::new() }.labelled(scores.classes())
    }

    /// Itself, with the labels that its scores say.
    #[must_use]
    pub fn labelled(mut self, classes: usize) -> Self {
        self.labels = self.scores.chunks_exact(classes).map(|row| best_class(row).0).collect();
        self
    }

    /// Adds the answers for further flows.
    pub fn append(&mut self, mut more: Self) {
        self.scores.append(&mut more.scores);
        self.facts.append(&mut more.facts);
        self.labels.append(&mut more.labels);
    }

    /// Scores of a flow.
    #[must_use]
    pub fn row(&self, flow: usize, classes: usize) -> &[f32] {
        &self.scores[flow * classes..(flow + 1) * classes]
    }

    /// Packet time from a flow's first packet until this candidate is asked, nanoseconds.
    #[must_use]
    pub fn collection_ns(&self, flow: usize) -> u64 {
        u64::from(self.facts[flow].0.elapsed_us) * 1_000
    }

    /// How the answers compare with the truth.
    #[must_use]
    pub fn confusion(&self, truth: &[u16], classes: usize) -> Confusion {
        Confusion::of(classes, truth.iter().copied().zip(self.labels.iter().copied()))
    }
}

/// A trained candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it is.
    pub recipe: CandidateSpec,
    /// Its name, unique in the pool.
    pub name: String,
    /// The model file.
    pub file: String,
    /// How a model that was given is written into a plan; none for those that were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<ModelPlan>,
    /// What scoring costs, measured on this machine.
    pub cost: CostPlan,
    /// Nanoseconds of a core that a flow costs which is asked this and nothing else, in the engine,
    /// over what one costs that is asked nothing: recording, features, scoring, gate.
    pub engine_ns: f64,
    /// Median wall time from question to answer in the engine, nanoseconds.
    pub compute_ns: f64,
    /// Wall time of training, nanoseconds; 0 where a larger candidate was cut down.
    pub train_ns: u64,
    /// Its answers on the calibration flows.
    pub val: Answers,
    /// Its answers on the test flows.
    pub test: Answers,
}

impl Candidate {
    /// What scoring a job of so many flows costs, nanoseconds.
    #[must_use]
    pub fn job_ns(&self, flows: f64) -> f64 {
        job_ns(flows, &self.cost)
    }
}

/// Answers that all take as long as the median.
pub(super) fn even() -> Vec<f64> {
    vec![1.0]
}

/// Flows that forests take side by side.
pub(super) const BLOCK: f64 = 64.0;

fn is_cost(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// What a job of so many flows costs: forests take flows by blocks, and a block that is not full
/// costs as much as a full one unless its flows are cheaper one by one.
pub(super) fn job_ns(flows: f64, cost: &CostPlan) -> f64 {
    let blocks = (flows / BLOCK).floor();
    let rest = flows - blocks * BLOCK;
    let block_ns = cost.score_batch_ns * BLOCK;
    blocks * block_ns + (rest * cost.score_single_ns).min(block_ns)
}

/// The flows of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    /// True label, by flow.
    pub truth: Vec<u16>,
    /// Which capture it is from, by flow.
    pub capture: Vec<u32>,
}

/// Two candidates, by index: what a flow has been scored by, and what it may be escalated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CandidatePair {
    /// The earlier one.
    pub fast: usize,
    /// The later one.
    pub slow: usize,
}

/// Candidates with their answers, and all that a plan needs to be written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidatePool {
    /// [`POOL_FORMAT`].
    pub format: String,
    /// What is named, in words.
    pub task: String,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Flow rules.
    pub flows: FlowPlan,
    /// Sets of encoders; the first is the plan's own.
    pub features: Vec<Vec<String>>,
    /// Protocols of `header_bits`.
    pub headers: Vec<String>,
    /// Masked field groups.
    pub masks: Vec<String>,
    /// Longest wait of most candidates, milliseconds.
    pub wait_ms: u64,
    /// Most packets of a window that candidates of [`Tier::WINDOW`] see.
    #[serde(default)]
    pub window_packets: u16,
    /// Packets of a flow on average, in the calibration captures.
    pub packets_per_flow: f64,
    /// Nanoseconds of a core that a flow costs which is asked nothing: its packets read and looked
    /// up.
    pub idle_flow_ns: f64,
    /// How many times as long as the median of a stage alone answers take in a cascade, at equal
    /// steps of their distribution.
    #[serde(default = "even")]
    pub spread: Vec<f64>,
    /// The calibration flows: those of the calibration split, and behind them training flows that
    /// were answered by models which saw nothing of their captures.
    pub val: Flows,
    /// How many of these are of the calibration split.
    pub unseen: usize,
    /// The test flows.
    pub test: Flows,
    /// The candidates, by growing packets.
    pub candidates: Vec<Candidate>,
    /// What the time budget left untrained.
    pub left_out: Vec<String>,
    /// The labelled flows by class and split; none in pools of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSummary>,
    /// Where the models come from.
    pub provenance: Provenance,
}

impl CandidatePool {
    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.labels.len()
    }

    /// Packets that a row of a recipe covers.
    #[must_use]
    pub fn row_packets(&self, recipe: &CandidateSpec) -> u16 {
        Tier::row_packets(recipe.packets, self.window_packets)
    }

    fn check_costs(&self) -> Result<(), String> {
        if !is_cost(self.idle_flow_ns) || !is_cost(self.packets_per_flow - 1.0) {
            return Err(format!(
                "expected a flow to cost some time and to have a packet, found {} ns and {} \
                 packets",
                self.idle_flow_ns, self.packets_per_flow
            ));
        }
        if self.spread.is_empty() || !self.spread.iter().copied().all(is_cost) {
            return Err("spread: expected ratios of 0 or more".to_owned());
        }
        Ok(())
    }

    /// Whether its parts fit together, as what is read from a file need not.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self) -> Result<(), String> {
        let (classes, val, test) = (self.classes(), self.val.truth.len(), self.test.truth.len());
        let known = |truth: &[u16]| truth.iter().all(|&label| usize::from(label) < classes);
        if classes == 0 || self.candidates.is_empty() {
            return Err("expected labels and candidates, found none".to_owned());
        }
        if !known(&self.val.truth) || !known(&self.test.truth) {
            return Err("a flow's label is none of the pool's".to_owned());
        }
        if self.unseen > val || val == 0 {
            return Err(format!(
                "expected a calibration split among {val} flows, found one of {} (unseen)",
                self.unseen
            ));
        }
        for (name, flows) in [("val", &self.val), ("test", &self.test)] {
            let (expected, found) = (flows.truth.len(), flows.capture.len());
            if expected != found {
                return Err(format!("{name}.capture: expected {expected} entries, found {found}"));
            }
        }
        self.check_costs()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = self.candidates.iter().find(|own| !names.insert(&own.name)) {
            return Err(format!("expected each candidate once, found `{}` twice", twice.name));
        }
        for candidate in &self.candidates {
            for (answers, flows) in [(&candidate.val, val), (&candidate.test, test)] {
                if answers.facts.len() != flows || answers.scores.len() != flows * classes {
                    return Err(format!(
                        "candidate `{}`: expected scores for {flows} flows and {classes} labels, \
                         found {} scores and {} facts",
                        candidate.name,
                        answers.scores.len(),
                        answers.facts.len()
                    ));
                }
            }
            let cost = &candidate.cost;
            let costs = [
                candidate.engine_ns,
                candidate.compute_ns,
                cost.score_batch_ns,
                cost.score_single_ns,
            ];
            if !costs.into_iter().all(is_cost) {
                return Err(format!("candidate `{}`: expected costs of 0 or more", candidate.name));
            }
            let is_share = |score: &f32| (0.0..=1.001).contains(score);
            let scores = candidate.val.scores.iter().chain(&candidate.test.scores);
            if let Some(score) = scores.copied().find(|score| !is_share(score)) {
                return Err(format!(
                    "candidate `{}`: expected probabilities, found {score}",
                    candidate.name
                ));
            }
            if candidate.recipe.features >= self.features.len() {
                return Err(format!("candidate `{}`: no such features", candidate.name));
            }
        }
        Ok(())
    }

    /// Fills in what is not stored.
    #[must_use]
    pub fn labelled(mut self) -> Self {
        let classes = self.classes();
        for candidate in &mut self.candidates {
            candidate.val = std::mem::take(&mut candidate.val).labelled(classes);
            candidate.test = std::mem::take(&mut candidate.test).labelled(classes);
        }
        self
    }

    /// Macro-F1 of a candidate alone on the calibration flows.
    #[must_use]
    pub fn val_f1(&self, candidate: usize) -> f64 {
        self.candidates[candidate].val.confusion(&self.val.truth, self.classes()).macro_f1()
    }

    /// The best of those that were trained here, as [`CandidatePool::best`] has it; none if all
    /// were given.
    #[must_use]
    pub fn best_trained(&self) -> Option<usize> {
        let trained = (0..self.candidates.len()).filter(|&c| self.candidates[c].given.is_none());
        trained.reduce(|best, next| self.better(best, next))
    }

    fn better(&self, best: usize, next: usize) -> usize {
        if self.val_f1(next) > self.val_f1(best) + 1e-12 { next } else { best }
    }

    /// The candidate that is best alone on the calibration flows; of equals the one of fewer
    /// packets.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn best(&self) -> usize {
        let all = 0..self.candidates.len();
        all.reduce(|best, next| self.better(best, next)).expect("a pool has candidates")
    }
}
