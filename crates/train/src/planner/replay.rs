//! Replaying a cascade on recorded answers: where each flow stops, and what that comes to.

use super::heads::Learned;
use super::meter::BUSY_FRAMES;
use super::pool::{Answers, Candidate, CandidatePool, job_ns};
use crate::calibrate::Granularity;
use crate::metrics::Confusion;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use std::collections::BTreeMap;

/// The mark that the paper sets.
const MARK_NS: f64 = 16e6;
/// Frames per batch of which latency is told, as `evaluate` takes them.
const CALM_FRAMES: f64 = 64.0;
/// Bytes of a flow that waits, without its packets: its places in the table, the index, both wheels
/// and the waiting room.
const FLOW_BYTES: f64 = 228.0;
/// Bytes of a packet that is kept.
const PACKET_BYTES: f64 = 96.0;
/// Stages of a cascade that can be replayed: a flow's path is a word of bits.
pub const MOST_STAGES: usize = u64::BITS as usize;
/// Multiples of it lie evenly between whole numbers.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// What the paths of a cascade are told apart by, at least: the share of the dearest step.
const LEAST_STEP: f64 = 0.02;

/// What passes flows on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Heads that predict what a later stage is worth.
    Learned,
    /// Uncertainty over a threshold that is the same for all gates and classes; to the next stage.
    Uncertainty(Uncertainty),
    /// Uncertainty over thresholds that are calibrated for each gate of given stages; to the next
    /// stage.
    Thresholds(Uncertainty, Granularity),
}

impl Rule {
    /// The rule as plans spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => serveflow_model::bundle::LEARNED,
            Self::Uncertainty(measure) | Self::Thresholds(measure, _) => measure.name(),
        }
    }
}

/// What heads say, by pair of candidates.
pub type Heads = BTreeMap<(usize, usize), Learned>;

/// Which flows are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The calibration flows.
    Val,
    /// Of these, those of the calibration split alone.
    Split,
    /// The test flows.
    Test,
}

impl Part {
    /// The true labels of its flows.
    #[must_use]
    pub fn truth(self, pool: &CandidatePool) -> &[u16] {
        match self {
            Self::Val => &pool.val.truth,
            Self::Split => &pool.val.truth[..pool.unseen],
            Self::Test => &pool.test.truth,
        }
    }

    /// A candidate's answers, for these flows and perhaps more behind them.
    #[must_use]
    pub fn answers(self, candidate: &Candidate) -> &Answers {
        match self {
            Self::Val | Self::Split => &candidate.val,
            Self::Test => &candidate.test,
        }
    }

    fn worth(self, learned: &Learned) -> &[f32] {
        match self {
            Self::Val | Self::Split => &learned.val,
            Self::Test => &learned.test,
        }
    }
}

/// A cascade: candidates in the order they are asked, a rule, and how dear going on is.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Indices of the candidates.
    pub stages: Vec<usize>,
    /// What passes flows on.
    pub rule: Rule,
    /// Learned: worth of the dearest step, of which each step pays its share. Uncertainty: the
    /// threshold.
    pub price: f64,
    /// The threshold of each gate, where [`Rule::Thresholds`] calibrates them; none otherwise.
    pub thresholds: Vec<Threshold>,
}

impl Chain {
    /// A cascade whose rule has one price for all gates.
    #[must_use]
    pub fn priced(stages: Vec<usize>, rule: Rule, price: f64) -> Self {
        Self { stages, rule, price, thresholds: Vec::new() }
    }

    /// A cascade of one candidate.
    #[must_use]
    pub fn alone(candidate: usize) -> Self {
        Self::priced(vec![candidate], Rule::Learned, 0.0)
    }
}

/// Where each flow stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayPath {
    /// Place in the cascade, by flow.
    pub stop: Vec<u8>,
    /// Stages that scored the flow, a bit each, by flow.
    pub asked: Vec<u64>,
}

impl ReplayPath {
    /// Share of the flows that each of so many stages is asked about.
    #[must_use]
    pub fn reach(&self, stages: usize) -> Vec<f64> {
        let flows = self.asked.len().max(1) as f64;
        let count = |at: usize| self.asked.iter().filter(|&&asked| asked >> at & 1 == 1).count();
        (0..stages).map(|at| count(at) as f64 / flows).collect()
    }
}

/// A pool with the heads of its candidates, and what going on costs.
pub struct Evaluator<'a> {
    /// The candidates.
    pub pool: &'a CandidatePool,
    /// Heads of all pairs that cascades are made of.
    pub heads: &'a Heads,
    /// Cost of stopping at each candidate, in the unit of the objective.
    pub cost: Vec<f64>,
}

impl Evaluator<'_> {
    /// What a head's worth must exceed, by pair of places in a cascade.
    #[must_use]
    pub fn step_price(&self, cascade: &Chain, from: usize, to: usize) -> f32 {
        let cost = |place: usize| self.cost[cascade.stages[place]];
        let last = cascade.stages.len() - 1;
        let dearest = (cost(last) - cost(0)).abs().max(1e-9);
        let share = ((cost(to) - cost(from)) / dearest).max(LEAST_STEP);
        (cascade.price * share) as f32
    }

    /// Takes all flows of a part through a cascade.
    #[must_use]
    pub fn walk(&self, cascade: &Chain, part: Part) -> ReplayPath {
        let flows = part.truth(self.pool).len();
        let mut walk = ReplayPath { stop: vec![0; flows], asked: vec![1; flows] };
        let steps = self.steps(cascade, part);
        for flow in 0..flows {
            let mut at = 0;
            while let Some(next) = steps[at].next(flow) {
                at = next;
                walk.asked[flow] |= 1 << at;
            }
            walk.stop[flow] = at as u8;
        }
        walk
    }

    /// The gate of each place of a cascade.
    fn steps(&self, cascade: &Chain, part: Part) -> Vec<Step<'_>> {
        let last = cascade.stages.len() - 1;
        let step = |at: usize| match cascade.rule {
            _ if at == last => Step::Last,
            Rule::Learned => Step::Learned(
                (at + 1..=last)
                    .map(|to| {
                        let pair = (cascade.stages[at], cascade.stages[to]);
                        (to, part.worth(&self.heads[&pair]), self.step_price(cascade, at, to))
                    })
                    .collect(),
            ),
            Rule::Uncertainty(measure) => {
                let answers = part.answers(&self.pool.candidates[cascade.stages[at]]);
                let classes = self.pool.classes();
                let doubt = |flow| measure.uncertainty(answers.row(flow, classes));
                let flows = answers.labels.len();
                let threshold = cascade.price as f32;
                let is_over = |flow| doubt(flow) > threshold;
                Step::Uncertainty { next: at + 1, is_over: (0..flows).map(is_over).collect() }
            }
            Rule::Thresholds(measure, _) => {
                let answers = part.answers(&self.pool.candidates[cascade.stages[at]]);
                let gate = Gate::Uncertainty { measure, threshold: cascade.thresholds[at].clone() };
                let classes = self.pool.classes();
                let is_over =
                    |flow: usize| !gate.accepts(answers.labels[flow], answers.row(flow, classes));
                let flows = 0..answers.labels.len();
                Step::Uncertainty { next: at + 1, is_over: flows.map(is_over).collect() }
            }
        };
        (0..=last).map(step).collect()
    }

    /// What a walk's answers come to.
    #[must_use]
    pub fn confusion(&self, cascade: &Chain, walk: &ReplayPath, part: Part) -> Confusion {
        let truth = part.truth(self.pool);
        let labels = self.labels(cascade, walk, part);
        Confusion::of(self.pool.classes(), truth.iter().copied().zip(labels))
    }

    /// The label that each flow gets.
    #[must_use]
    pub fn labels(&self, cascade: &Chain, walk: &ReplayPath, part: Part) -> Vec<u16> {
        let answers: Vec<&Answers> =
            cascade.stages.iter().map(|&c| part.answers(&self.pool.candidates[c])).collect();
        walk.stop.iter().enumerate().map(|(f, &at)| answers[usize::from(at)].labels[f]).collect()
    }

    /// End-to-end latency by flow, nanoseconds: packet time until the deciding question, and
    /// compute. The stages of a batch of packets are asked one after the other, so that an answer
    /// waits for those of the stages before it; a flow that waits for packets meets them again with
    /// each batch.
    #[must_use]
    pub fn latencies(&self, cascade: &Chain, walk: &ReplayPath, part: Part) -> Vec<f64> {
        let own: Vec<&Candidate> =
            cascade.stages.iter().map(|&stage| &self.pool.candidates[stage]).collect();
        let reach = walk.reach(own.len());
        let calm = CALM_FRAMES / self.pool.packets_per_flow.max(1.0);
        // What was measured of a stage alone, for as many flows as it is asked about here.
        let work = |at: usize, flows: f64| {
            let scaled = own[at].job_ns(flows) / own[at].job_ns(calm).max(1.0);
            own[at].compute_ns * scaled
        };
        let before = |at: usize| {
            let flows = reach[at] * calm;
            work(at, flows) + self.heads_ns(cascade, at, flows)
        };
        let usual: Vec<f64> = (0..own.len()).map(before).collect();
        // The batch of a flow that stops at a stage asks about it at least.
        let last: Vec<f64> =
            (0..own.len()).map(|at| work(at, (reach[at] * calm).max(1.0))).collect();
        let until = |at: usize| usual[..at].iter().sum::<f64>() + last[at];
        let compute: Vec<f64> = (0..own.len()).map(until).collect();
        let latency = |flow: usize| {
            let asked = own.iter().enumerate().filter(|(at, _)| walk.asked[flow] >> at & 1 == 1);
            let (mut wait, mut before, mut sum) = (0, 0.0, 0.0);
            for (at, candidate) in asked {
                let own_wait = part.answers(candidate).collection_ns(flow);
                if own_wait > wait {
                    before = sum;
                    wait = own_wait;
                }
                sum = before + compute[at];
            }
            // Which flow meets which computing time is chance: all steps of the distribution come
            // in turn.
            let turn = (flow as f64 * GOLDEN).fract() * self.pool.spread.len() as f64;
            wait as f64 + sum * self.pool.spread[turn as usize]
        };
        (0..walk.stop.len()).map(latency).collect()
    }

    /// All figures of a cascade on the flows of a part.
    #[must_use]
    pub fn figures(&self, cascade: &Chain, walk: &ReplayPath, part: Part) -> ReplayFigures {
        let table = self.confusion(cascade, walk, part);
        let mut latencies = self.latencies(cascade, walk, part);
        let flows = latencies.len().max(1) as f64;
        let reach = walk.reach(cascade.stages.len());
        let decided: Vec<f64> = (0..cascade.stages.len())
            .map(|at| {
                walk.stop.iter().filter(|&&stop| usize::from(stop) == at).count() as f64 / flows
            })
            .collect();
        let mean_log = latencies.iter().map(|ns| (ns / 1e3).max(1e-3).ln()).sum::<f64>() / flows;
        let mean_ns = latencies.iter().sum::<f64>() / flows;
        let (stages, heads) = self.work_ns(cascade, &reach);
        let cpu_ns = self.pool.idle_flow_ns + stages.iter().sum::<f64>() + heads;
        let waiting_bytes: f64 =
            (mean_ns / 1e9) * (FLOW_BYTES + self.mean_kept(cascade, walk, part) * PACKET_BYTES);
        ReplayFigures {
            macro_f1: table.macro_f1(),
            accuracy: table.accuracy(),
            weighted_f1: table.weighted_f1(),
            share_under_16ms: latencies.iter().filter(|&&ns| ns < MARK_NS).count() as f64 / flows,
            geometric_us: mean_log.exp(),
            mean_us: mean_ns / 1e3,
            p50_us: quantile(&mut latencies, 0.5) / 1e3,
            p99_us: quantile(&mut latencies, 0.99) / 1e3,
            cpu_ns,
            stage_ns: stages,
            gate_ns: heads,
            flows_per_s: 1e9 / cpu_ns.max(1e-9),
            waiting_bytes,
            reach,
            decided,
        }
    }

    /// Nanoseconds of a core per flow that each stage takes, and all learned gates together, where
    /// each stage is asked about such a share of the flows.
    #[must_use]
    pub fn work_ns(&self, cascade: &Chain, reach: &[f64]) -> (Vec<f64>, f64) {
        let busy = BUSY_FRAMES as f64 / self.pool.packets_per_flow.max(1.0);
        let stage = |(at, reach): (usize, &f64)| {
            let own = &self.pool.candidates[cascade.stages[at]];
            // Small jobs cost more per flow than those that it was measured in.
            let dearer = own.job_ns(reach * busy) - reach * own.job_ns(busy);
            own.engine_ns * reach + dearer.max(0.0) / busy
        };
        let stages: Vec<f64> = reach.iter().enumerate().map(stage).collect();
        let heads = |(at, reach): (usize, &f64)| self.heads_ns(cascade, at, reach * busy) / busy;
        (stages, reach.iter().enumerate().map(heads).fold(0.0, |sum, ns| sum + ns))
    }

    /// Nanoseconds that the heads of a place take for a job of so many flows.
    fn heads_ns(&self, cascade: &Chain, at: usize, flows: f64) -> f64 {
        if cascade.rule != Rule::Learned {
            return 0.0;
        }
        let head =
            |to: usize| job_ns(flows, &self.heads[&(cascade.stages[at], cascade.stages[to])].cost);
        (at + 1..cascade.stages.len()).map(head).sum()
    }

    /// Packets that a flow keeps while it waits, on average: those of the deepest stage asked.
    fn mean_kept(&self, cascade: &Chain, walk: &ReplayPath, part: Part) -> f64 {
        let deepest = |flow: usize| {
            let at = walk.asked[flow].ilog2() as usize;
            part.answers(&self.pool.candidates[cascade.stages[at]]).facts[flow].0.packets
        };
        let sum: f64 = (0..walk.stop.len()).map(|flow| f64::from(deepest(flow))).sum();
        sum / walk.stop.len().max(1) as f64
    }
}

/// How a place passes flows on.
enum Step<'a> {
    Last,
    /// Places, worths by flow, prices.
    Learned(Vec<(usize, &'a [f32], f32)>),
    /// Flows above a threshold go to the next place.
    Uncertainty {
        next: usize,
        is_over: Vec<bool>,
    },
}

impl Step<'_> {
    /// Where a flow goes; none if it stops here.
    fn next(&self, flow: usize) -> Option<usize> {
        match self {
            Self::Last => None,
            Self::Learned(heads) => {
                let mut best = (0.0, None);
                for &(to, worth, price) in heads {
                    let gain = worth[flow] - price;
                    if gain > best.0 {
                        best = (gain, Some(to));
                    }
                }
                best.1
            }
            Self::Uncertainty { next, is_over } => is_over[flow].then_some(*next),
        }
    }
}

/// The value below which a share of the values lie (nearest rank); 0 when there are none.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize - 1;
    *values.select_nth_unstable_by(rank.min(values.len() - 1), f64::total_cmp).1
}

/// What a cascade comes to. Latencies are end to end: packet time until the deciding question, and
/// compute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayFigures {
    /// Macro-F1.
    pub macro_f1: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// F1 weighted by the classes' flows.
    pub weighted_f1: f64,
    /// Share of flows decided within 16 ms.
    pub share_under_16ms: f64,
    /// Geometric mean of the latency, microseconds.
    pub geometric_us: f64,
    /// Mean of the latency, microseconds.
    pub mean_us: f64,
    /// Median of the latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency, microseconds.
    pub p99_us: f64,
    /// Nanoseconds of a core per flow, reading left out.
    pub cpu_ns: f64,
    /// Of these, what each stage takes.
    pub stage_ns: Vec<f64>,
    /// Of these, what learned gates take.
    pub gate_ns: f64,
    /// Flows per second and core.
    pub flows_per_s: f64,
    /// Bytes of waiting flows for each flow per second that comes (Little's law).
    pub waiting_bytes: f64,
    /// Share of the flows that each stage is asked about.
    pub reach: Vec<f64>,
    /// Share of the flows that each stage decides.
    pub decided: Vec<f64>,
}
