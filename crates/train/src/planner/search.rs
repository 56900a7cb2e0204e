//! The search: cascades of the candidates on the front, each at many prices, replayed on the
//! calibration flows.
//!
//! Each cascade is one family of operating points: the price runs from "ask the last stage of all"
//! to "never go on". A point counts if it keeps every limit; of those that do, the one with the
//! smallest objective is taken. A few hundred flows per class leave room for luck, and the best of
//! thousands of points is a lucky one: so the loss of macro-F1 must also keep its limit in most
//! bootstrap resamples of the captures that the calibration flows are from.

use super::limits::{ConstraintStatus, Constraints, Limit, Objective};
use super::pool::{Candidate, CandidatePool};
use super::replay::{Chain, Evaluator, Part, ReplayFigures, ReplayPath, Rule};
use crate::calibrate::{Granularity, StageAnswers, Target, calibrate};
use crate::metrics::Confusion;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use serveflow_core::gate::Uncertainty;
use std::collections::BTreeMap;

/// Candidates that cascades are composed of, at most.
const MOST_CANDIDATES: usize = 12;
/// Of these, such as answer on the first packet, at most.
const MOST_FIRST: usize = 3;
/// Stages of a cascade, at most.
const MOST_STAGES: usize = 4;
/// Resamples that the loss is judged on, and how many of them must keep it.
const RESAMPLES: u64 = 40;
const MUST_KEEP: usize = 32;
/// How near to a wanted share a point is as good as at it, before its price is refined.
const NEAR: f64 = 0.02;
/// Halvings of a price range towards a wanted share.
const REFINEMENTS: usize = 24;
/// By which share the objective may be worse where that saves a stage.
const SIMPLER: f64 = 0.03;
/// Points that are judged on resamples, the best first.
const MOST_JUDGED: usize = 600;

/// What to search for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanGoal {
    /// What is made small.
    pub objective: Objective,
    /// What must be kept.
    pub limits: Constraints,
    /// What passes flows on.
    pub rule: Rule,
    /// The cascade, if it is given; else it is searched.
    pub stages: Option<Vec<usize>>,
    /// Share of the flows that must reach the last stage, in place of all else.
    pub escalate: Option<f64>,
    /// Whether a cascade must end in the best single candidate, against which something is
    /// guaranteed.
    pub ends_in_best: bool,
}

impl Default for PlanGoal {
    /// The least latency within the usual limits, by learned gates, of stages that are searched.
    fn default() -> Self {
        Self {
            objective: Objective::Latency,
            limits: Constraints::default(),
            rule: Rule::Learned,
            stages: None,
            escalate: None,
            ends_in_best: false,
        }
    }
}

impl PlanGoal {
    /// What thresholds are calibrated for.
    #[must_use]
    pub fn target(&self) -> Target {
        self.escalate.map_or(Target::MaxLoss(self.limits.max_loss), Target::Escalate)
    }
}

/// An operating point and what it comes to on the calibration flows.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatingPoint {
    /// The cascade at its price.
    pub cascade: Chain,
    /// Its figures.
    pub figures: ReplayFigures,
    /// How the limits stand.
    pub standings: Vec<ConstraintStatus>,
}

impl OperatingPoint {
    fn is_met(&self) -> bool {
        self.standings.iter().all(|standing| standing.met)
    }
}

/// Why a point was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum SearchOutcome {
    /// All limits are kept, in most resamples of captures too.
    Met,
    /// All limits are kept on the calibration flows, but in too few resamples: it may be luck.
    Barely,
    /// No point keeps all limits. Without these, some would; the one taken comes closest.
    NotMet {
        /// Limits of which each alone stands in the way; empty when it takes several.
        binding: Vec<Limit>,
    },
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The point that is taken.
    pub chosen: OperatingPoint,
    /// The best point of another list of stages.
    pub runner_up: Option<OperatingPoint>,
    /// Whether the limits are kept.
    pub verdict: SearchOutcome,
    /// Cascades that were looked at.
    pub cascades: usize,
    /// Points that were looked at.
    pub points: usize,
    /// The best points for growing macro-F1, for a picture: cascades and single candidates.
    pub front: Vec<OperatingPoint>,
}

/// Prices of a rule, from "go on always" to "go on never".
#[must_use]
pub fn prices(rule: Rule) -> Vec<f64> {
    match rule {
        Rule::Learned => {
            let below = [-100.0, -1.0, -0.5, -0.25, -0.12, -0.06, -0.03, -0.015];
            let above = (0..36).map(|step| 0.004 * 1.18_f64.powi(step));
            below.into_iter().chain([0.0]).chain(above).chain([3.0]).collect()
        }
        Rule::Uncertainty(_) => {
            let steps = (0..=44).map(|step| 1.0 - 0.79_f64.powi(step));
            let mut all: Vec<f64> = [-1.0].into_iter().chain(steps).chain([1.0]).collect();
            all.dedup();
            all
        }
        // Its thresholds are one point.
        Rule::Thresholds(..) => vec![0.0],
    }
}

/// Searches for the best point.
///
/// # Panics
/// When there is no candidate, or thresholds are to be calibrated of stages that are not given.
#[must_use]
pub fn search(board: &Evaluator<'_>, wish: &PlanGoal) -> Found {
    if let Rule::Thresholds(measure, granularity) = wish.rule {
        return calibrated(board, wish, measure, granularity);
    }
    let pool = board.pool;
    let best = pool.best();
    let best_table = pool.candidates[best].val.confusion(&pool.val.truth, pool.classes());
    let lists = match &wish.stages {
        Some(stages) => vec![stages.clone()],
        None => {
            let mut lists = compose(pool, &front(pool));
            lists.retain(|list| !wish.ends_in_best || list.last() == Some(&best));
            lists
        }
    };
    let mut points = Vec::new();
    for stages in &lists {
        let prices = if stages.len() == 1 { vec![0.0] } else { prices(wish.rule) };
        for price in prices {
            let cascade = Chain::priced(stages.clone(), wish.rule, price);
            let walk = board.walk(&cascade, Part::Val);
            let figures = board.figures(&cascade, &walk, Part::Val);
            let table = board.confusion(&cascade, &walk, Part::Val);
            let standings = wish.limits.standings(&figures, &table, &best_table);
            points.push(OperatingPoint { cascade, figures, standings });
        }
    }
    let value = |point: &OperatingPoint| wish.objective.value(&point.figures);
    points.sort_by(|a, b| {
        value(a)
            .partial_cmp(&value(b))
            .expect("figures are numbers")
            .then_with(|| a.cascade.stages.len().cmp(&b.cascade.stages.len()))
    });
    let judge = ResampleCheck::new(board, best, wish.limits.max_loss);
    let (chosen, verdict) = match wish.escalate {
        Some(share) => (nearest(&points, share), SearchOutcome::Met),
        None => choose(&points, &judge, &value),
    };
    let other = |point: &&OperatingPoint| {
        point.cascade.stages != points[chosen].cascade.stages && point.is_met()
    };
    let (chosen, runner_up) = match wish.escalate {
        // No limit is stated beside a share.
        Some(share) => {
            let nearest = refined(board, wish, &best_table, &points[chosen], share);
            (OperatingPoint { standings: Vec::new(), ..nearest }, None)
        }
        None => {
            let mut others = points.iter().filter(other).take(MOST_JUDGED);
            (points[chosen].clone(), others.find(|point| judge.keeps(point)).cloned())
        }
    };
    let front = curve(&points);
    Found { chosen, runner_up, verdict, cascades: lists.len(), points: points.len(), front }
}

/// The one point of stages whose thresholds are calibrated for each gate.
fn calibrated(
    board: &Evaluator<'_>,
    wish: &PlanGoal,
    measure: Uncertainty,
    granularity: Granularity,
) -> Found {
    let (pool, classes) = (board.pool, board.pool.classes());
    let stages = wish.stages.clone().expect("thresholds are calibrated of given stages");
    let stage = |&candidate: &usize| {
        let Candidate { recipe, val, .. } = &pool.candidates[candidate];
        let uncertainty = |flow| measure.uncertainty(val.row(flow, classes));
        StageAnswers {
            packets: pool.row_packets(recipe),
            labels: val.labels.clone(),
            uncertainty: (0..val.labels.len()).map(uncertainty).collect(),
        }
    };
    let answers: Vec<StageAnswers> = stages.iter().map(stage).collect();
    let truth = &pool.val.truth;
    let thresholds = calibrate(&answers, truth, classes, wish.target(), granularity).thresholds;
    let last = pool.candidates[stages[stages.len() - 1]].val.confusion(truth, classes);
    let point = |cascade: Chain| {
        let walk = board.walk(&cascade, Part::Val);
        let figures = board.figures(&cascade, &walk, Part::Val);
        let table = board.confusion(&cascade, &walk, Part::Val);
        let standings = match wish.escalate {
            // No limit is stated beside a share.
            Some(_) => Vec::new(),
            // What may be lost is lost against the last stage.
            None => wish.limits.standings(&figures, &table, &last),
        };
        OperatingPoint { cascade, figures, standings }
    };
    let chosen = point(Chain { stages, rule: wish.rule, price: 0.0, thresholds });
    let broken = chosen.standings.iter().filter(|standing| !standing.met);
    let binding: Vec<Limit> = broken.map(|standing| standing.limit).collect();
    let verdict = match binding.is_empty() {
        true => SearchOutcome::Met,
        false => SearchOutcome::NotMet { binding },
    };
    let alone = (0..pool.candidates.len()).map(|candidate| point(Chain::alone(candidate)));
    let points: Vec<OperatingPoint> = alone.chain([chosen.clone()]).collect();
    let front = curve(&points);
    Found { chosen, runner_up: None, verdict, cascades: 1, points: 1, front }
}

/// The first point that keeps its limits in most resamples too, or one of fewer stages that is
/// nearly as good; else the one that comes closest.
fn choose(
    points: &[OperatingPoint],
    judge: &ResampleCheck<'_>,
    value: &dyn Fn(&OperatingPoint) -> (f64, f64),
) -> (usize, SearchOutcome) {
    let met = || (0..points.len()).filter(|&at| points[at].is_met()).take(MOST_JUDGED);
    if let Some(found) = met().find(|&at| judge.keeps(&points[at])) {
        let most = value(&points[found]).0 * (1.0 + SIMPLER);
        let stages = |at: &usize| points[*at].cascade.stages.len();
        let near = met().filter(|&at| at > found && value(&points[at]).0 <= most);
        let simpler = near.filter(|at| stages(at) < stages(&found) && judge.keeps(&points[*at]));
        return (simpler.min_by_key(stages).unwrap_or(found), SearchOutcome::Met);
    }
    // Kept, but by luck: the one that is kept most often.
    let kept = |at: &usize| judge.kept(&points[*at]);
    if let Some(found) = met().min_by_key(|at| std::cmp::Reverse(kept(at))) {
        return (found, SearchOutcome::Barely);
    }
    let mut alone: BTreeMap<Limit, usize> = BTreeMap::new();
    for point in points {
        let broken: Vec<Limit> =
            point.standings.iter().filter(|s| !s.met).map(|s| s.limit).collect();
        if let [only] = broken[..] {
            *alone.entry(only).or_default() += 1;
        }
    }
    let excess = |at: &usize| -> f64 {
        let over = |s: &ConstraintStatus| {
            if s.met { 0.0 } else { (s.found - s.wanted).abs() / s.wanted.abs().max(1e-3) }
        };
        points[*at].standings.iter().map(over).sum()
    };
    let closest = (0..points.len()).min_by(|a, b| excess(a).total_cmp(&excess(b)));
    let closest = closest.expect("there is a candidate");
    (closest, SearchOutcome::NotMet { binding: alone.into_keys().collect() })
}

/// Of the points whose last stage is asked by nearly that share of the flows the one of the highest
/// macro-F1. A model alone passes nothing on, and counts only where there is nothing else.
fn nearest(points: &[OperatingPoint], share: f64) -> usize {
    let far = |at: &usize| (points[*at].figures.reach.last().unwrap_or(&0.0) - share).abs();
    let is_cascade = |at: &usize| points[*at].cascade.stages.len() > 1;
    let all = || 0..points.len();
    let cascades: Vec<usize> = all().filter(is_cascade).collect();
    let cascades = if cascades.is_empty() { all().collect() } else { cascades };
    let least = cascades.iter().map(far).fold(f64::INFINITY, f64::min);
    let near = cascades.into_iter().filter(|at| far(at) <= least.max(NEAR));
    let f1 = |at: usize| points[at].figures.macro_f1;
    near.max_by(|&a, &b| f1(a).total_cmp(&f1(b))).expect("there is a candidate")
}

/// Brings the share of flows that reach the last stage as near to the wanted one as its price can.
fn refined(
    board: &Evaluator<'_>,
    wish: &PlanGoal,
    best: &Confusion,
    point: &OperatingPoint,
    share: f64,
) -> OperatingPoint {
    let at = |price: f64| {
        let cascade = Chain { price, ..point.cascade.clone() };
        let walk = board.walk(&cascade, Part::Val);
        let figures = board.figures(&cascade, &walk, Part::Val);
        let table = board.confusion(&cascade, &walk, Part::Val);
        let standings = wish.limits.standings(&figures, &table, best);
        OperatingPoint { cascade, figures, standings }
    };
    let far = |point: &OperatingPoint| (point.figures.reach.last().unwrap_or(&0.0) - share).abs();
    let prices = prices(wish.rule);
    let near = prices.partition_point(|&price| price < point.cascade.price);
    let (mut low, mut high) =
        (prices[near.saturating_sub(1)], prices[(near + 1).min(prices.len() - 1)]);
    let mut nearest = point.clone();
    for _ in 0..REFINEMENTS {
        let middle = at(f64::midpoint(low, high));
        // The dearer going on is, the fewer flows reach the last stage.
        if middle.figures.reach.last().unwrap_or(&0.0) > &share {
            low = middle.cascade.price;
        } else {
            high = middle.cascade.price;
        }
        if far(&middle) < far(&nearest) {
            nearest = middle;
        }
    }
    nearest
}

/// Judges a loss of macro-F1 on bootstrap resamples of the captures that the calibration flows are
/// from.
struct ResampleCheck<'a> {
    board: &'a Evaluator<'a>,
    best: usize,
    max_loss: f64,
    draws: Vec<Vec<u32>>,
    /// The flows of the calibration split.
    split: Vec<u32>,
}

impl<'a> ResampleCheck<'a> {
    fn new(board: &'a Evaluator<'a>, best: usize, max_loss: f64) -> Self {
        let mut captures: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (flow, &capture) in board.pool.val.capture.iter().enumerate() {
            captures.entry(capture).or_default().push(flow as u32);
        }
        let captures: Vec<Vec<u32>> = captures.into_values().collect();
        let draw = |resample| {
            let mut random = Random::new(&[resample, 11]);
            let drawn = (0..captures.len()).map(|_| random.below(captures.len()));
            drawn.flat_map(|capture| captures[capture].iter().copied()).collect()
        };
        let split = (0..board.pool.unseen as u32).collect();
        Self { board, best, max_loss, draws: (0..RESAMPLES).map(draw).collect(), split }
    }

    fn keeps(&self, point: &OperatingPoint) -> bool {
        self.kept(point) >= MUST_KEEP
    }

    /// Resamples that keep the limit; none if the calibration split does not.
    fn kept(&self, point: &OperatingPoint) -> usize {
        let walk: ReplayPath = self.board.walk(&point.cascade, Part::Val);
        let labels = self.board.labels(&point.cascade, &walk, Part::Val);
        let pool = self.board.pool;
        let best = &pool.candidates[self.best].val.labels;
        let f1 = |draw: &[u32], labels: &[u16]| {
            let pairs =
                draw.iter().map(|&flow| (pool.val.truth[flow as usize], labels[flow as usize]));
            Confusion::of(pool.classes(), pairs).macro_f1()
        };
        let loss = |draw: &&Vec<u32>| f1(draw, best) - f1(draw, &labels);
        // The calibration split is what is most like what is to come: it must keep the limit by
        // itself.
        if loss(&&self.split) > self.max_loss {
            return 0;
        }
        self.draws.iter().filter(|draw| loss(draw) <= self.max_loss).count()
    }
}

/// The candidates that none beats in macro-F1 and latency, or in macro-F1 and time of a core.
#[must_use]
pub fn front(pool: &CandidatePool) -> Vec<usize> {
    let figures: Vec<(f64, f64, f64)> =
        (0..pool.candidates.len()).map(|c| alone(pool, c)).collect();
    let beaten = |own: usize| {
        let (f1, latency, cpu) = figures[own];
        let by = |other: usize, cost: fn(&(f64, f64, f64)) -> f64, own_cost: f64| {
            let (other_f1, other_cost) = (figures[other].0, cost(&figures[other]));
            let no_worse = other_f1 >= f1 && other_cost <= own_cost;
            no_worse && (other_f1 > f1 || other_cost < own_cost || other < own)
        };
        let all = || (0..figures.len()).filter(move |&other| other != own);
        all().any(|other| by(other, |f| f.1, latency)) && all().any(|other| by(other, |f| f.2, cpu))
    };
    let mut kept: Vec<usize> = (0..figures.len()).filter(|&own| !beaten(own)).collect();
    // What answers on the first packet is where a cascade begins; of the rest, the highest
    // macro-F1.
    let is_first = |candidate: &usize| pool.candidates[*candidate].recipe.packets == 1;
    let by_f1 = |kept: &mut Vec<usize>, most: usize| {
        kept.sort_by(|&a, &b| figures[b].0.total_cmp(&figures[a].0));
        kept.truncate(most);
    };
    let (mut first, mut rest): (Vec<usize>, Vec<usize>) = kept.drain(..).partition(is_first);
    by_f1(&mut first, MOST_FIRST);
    by_f1(&mut rest, MOST_CANDIDATES - first.len());
    kept.extend(first.into_iter().chain(rest));
    kept.sort_unstable();
    kept
}

/// Macro-F1, geometric latency in microseconds, nanoseconds of a core.
#[must_use]
pub fn alone(pool: &CandidatePool, candidate: usize) -> (f64, f64, f64) {
    let own = &pool.candidates[candidate];
    let flows = pool.val.truth.len().max(1) as f64;
    let log = |flow| ((own.val.collection_ns(flow) as f64 + own.compute_ns) / 1e3).max(1e-3).ln();
    let mean = (0..pool.val.truth.len()).map(log).sum::<f64>() / flows;
    (pool.val_f1(candidate), mean.exp(), pool.idle_flow_ns + own.engine_ns)
}

/// All cascades of up to four of these candidates whose packets and waits do not shrink.
fn compose(pool: &CandidatePool, candidates: &[usize]) -> Vec<Vec<usize>> {
    let follows = |before: usize, next: usize| {
        let key = |c: usize| (pool.candidates[c].recipe.packets, pool.candidates[c].recipe.wait_ms);
        let ((packets, wait), (more, longer)) = (key(before), key(next));
        // A stage on the first packet waits for nothing, whatever it is named with.
        more >= packets && (longer >= wait || packets == 1)
    };
    let mut lists: Vec<Vec<usize>> = candidates.iter().map(|&c| vec![c]).collect();
    let mut grown = lists.clone();
    for _ in 1..MOST_STAGES {
        let mut longer = Vec::new();
        for list in &grown {
            let last = list[list.len() - 1];
            let next = candidates.iter().filter(|&&c| c != last && !list.contains(&c));
            longer.extend(next.filter(|&&c| follows(last, c) && dearer(pool, last, c)).map(|&c| {
                let mut list = list.clone();
                list.push(c);
                list
            }));
        }
        lists.extend(longer.iter().cloned());
        grown = longer;
    }
    lists
}

/// On the same packets, a later stage should be the better and the dearer one.
fn dearer(pool: &CandidatePool, before: usize, next: usize) -> bool {
    let own = |c: usize| &pool.candidates[c];
    let same = own(before).recipe.packets == own(next).recipe.packets
        && own(before).recipe.wait_ms == own(next).recipe.wait_ms;
    !same || own(next).engine_ns >= own(before).engine_ns
}

/// The points that none beats in macro-F1 and geometric latency, by growing latency.
fn curve(points: &[OperatingPoint]) -> Vec<OperatingPoint> {
    let mut order: Vec<&OperatingPoint> = points.iter().collect();
    order.sort_by(|a, b| a.figures.geometric_us.total_cmp(&b.figures.geometric_us));
    let mut best = f64::NEG_INFINITY;
    let better = |point: &&OperatingPoint| {
        let is = point.figures.macro_f1 > best + 1e-4;
        best = best.max(point.figures.macro_f1);
        is
    };
    order.into_iter().filter(better).cloned().collect()
}
