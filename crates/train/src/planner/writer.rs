//! From a pool and a wish to a bundle's plan.

use super::confidence;
use super::guarantee::{Granted, grant, rejoined, without_split};
use super::heads::learn_all;
use super::limits::Objective;
use super::pool::{Candidate, CandidatePair, CandidatePool, CandidateSpec};
use super::replay::{Chain, Evaluator, Heads, Part, ReplayFigures, ReplayPath, Rule};
use super::search::{Found, OperatingPoint, PlanGoal, front, prices, search};
use crate::calibrate::gate_plan;
use crate::pipeline::{PipelineError, Tier};
use crate::risk_control::Guarantee;
use serveflow_model::bundle::{
    CalibrationPlan, DegradationPlan, GatePlan, HeadPlan, LEARNED, LanePlan, ModelPlan,
    PLAN_FORMAT, Plan, StagePlan,
};
use std::collections::{BTreeMap, BTreeSet};

/// What to plan, beside the wish.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest {
    /// What is wanted of the cascade.
    pub wish: PlanGoal,
    /// What the plan must guarantee, if anything.
    pub guarantee: Option<Guarantee>,
    /// How lanes are chosen from costs.
    pub lanes: LanePlan,
    /// Seed of the heads.
    pub seed: u64,
    /// Threads to learn heads with.
    pub threads: usize,
}

/// A plan with its models, and how it was found.
#[derive(Debug)]
pub struct WrittenPlan {
    /// The plan.
    pub plan: Plan,
    /// Model files by name.
    pub models: BTreeMap<String, Vec<u8>>,
    /// How it was found.
    pub found: Found,
    /// Heads of the candidates that were composed.
    pub heads: Heads,
    /// Cost of each candidate in the unit of the objective.
    pub cost: Vec<f64>,
    /// Figures of the chosen cascade on the test flows.
    pub test: ReplayFigures,
    /// What became of the guarantee that was asked for.
    pub granted: Option<Granted>,
}

/// Searches the pool and writes the plan of what was found. `files` holds the models of the pool.
///
/// # Errors
/// When there are no calibration flows, or a guarantee is wanted of several stages and the pool has
/// no flows that were cross-fitted.
///
/// # Panics
/// When `files` lacks a model of the pool.
pub fn plan(
    pool: &CandidatePool,
    files: &BTreeMap<String, Vec<u8>>,
    request: &PlanRequest,
    wall: fn() -> u64,
) -> Result<WrittenPlan, PipelineError> {
    if matches!(request.wish.rule, Rule::Thresholds(..)) && request.wish.stages.is_none() {
        return Err(PipelineError::NoStages);
    }
    let wanted = |pool: &CandidatePool| match &request.wish.stages {
        Some(stages) => stages.clone(),
        None => front(pool),
    };
    let cost = costs(pool, request.wish.objective);
    let (heads, mut found, board);
    let mut granted = None;
    if let Some(guarantee) = request.guarantee {
        let parted = without_split(pool);
        // Heads are learned from cross-fitted flows, and cascades are chosen by them.
        let blind = |stages: usize| match parted.val.truth.is_empty() && stages > 1 {
            true => Err(not_cross_fitted(pool)),
            false => Ok(()),
        };
        blind(request.wish.stages.as_ref().map_or(0, Vec::len))?;
        let own = learn_heads(&parted, &wanted(&parted), request, wall)?;
        found =
            search(&Evaluator { pool: &parted, heads: &own, cost: cost.clone() }, &request.wish);
        blind(found.chosen.cascade.stages.len())?;
        heads = rejoined(own, pool);
        board = Evaluator { pool, heads: &heads, cost };
        // A plan that is the slow model alone loses nothing against it: there is nothing to
        // guarantee.
        if found.chosen.cascade.stages.len() > 1 {
            let grant = grant(&board, &found.chosen.cascade, guarantee);
            let stages = &mut found.chosen.cascade.stages;
            match grant.granted {
                true => found.chosen.cascade.price = grant.price,
                false => stages.drain(..stages.len() - 1).for_each(drop),
            }
            granted = Some(grant);
        }
        // They were searched without the calibration split, and are told with it.
        let chosen = &found.chosen.cascade.stages;
        found.runner_up = found.runner_up.filter(|other| other.cascade.stages != *chosen);
        let told = [&mut found.chosen].into_iter().chain(&mut found.runner_up);
        told.chain(&mut found.front).for_each(|point| again(&board, point, &request.wish));
    } else {
        heads = learn_heads(pool, &wanted(pool), request, wall)?;
        board = Evaluator { pool, heads: &heads, cost };
        found = search(&board, &request.wish);
    }
    let chosen = &found.chosen.cascade;
    let walk = board.walk(chosen, Part::Test);
    let test = board.figures(chosen, &walk, Part::Test);
    let walk = board.walk(chosen, Part::Val);
    let (mut plan, models) = Writer { board: &board, request, found: &found, files, walk }.write();
    plan.guarantee = granted.as_ref().and_then(Granted::plan);
    let cost = board.cost;
    Ok(WrittenPlan { plan, models, found, heads, cost, test, granted })
}

/// Why a pool can guarantee nothing of several stages.
fn not_cross_fitted(pool: &CandidatePool) -> PipelineError {
    let found = pool.data.as_ref().map(|data| (data.train_captures, data.cross_fit));
    PipelineError::NotCrossFitted { found }
}

/// Tells a point's figures anew, since its price or its flows are others.
fn again(board: &Evaluator<'_>, point: &mut OperatingPoint, wish: &PlanGoal) {
    let pool = board.pool;
    let walk = board.walk(&point.cascade, Part::Val);
    let best = pool.candidates[pool.best()].val.confusion(&pool.val.truth, pool.classes());
    point.figures = board.figures(&point.cascade, &walk, Part::Val);
    let table = board.confusion(&point.cascade, &walk, Part::Val);
    point.standings = wish.limits.standings(&point.figures, &table, &best);
}

/// Pairs that rules are compared on, though no cascade may go through them: the best two that
/// answer on one packet, and the best one of each other depth, with the best of all.
pub(super) fn told_pairs(pool: &CandidatePool) -> Vec<CandidatePair> {
    let best = pool.best();
    let on_one = |c: &usize| pool.candidates[*c].recipe.packets == 1 && *c != best;
    let mut fast: Vec<usize> = (0..pool.candidates.len()).filter(on_one).collect();
    fast.sort_by(|&a, &b| pool.val_f1(b).total_cmp(&pool.val_f1(a)));
    fast.truncate(2);
    let depths: BTreeSet<u16> = pool.candidates.iter().map(|c| c.recipe.packets).collect();
    let most = pool.candidates[best].recipe.packets;
    for depth in depths.into_iter().filter(|&depth| depth > 1 && depth < most) {
        let own =
            (0..pool.candidates.len()).filter(|&c| pool.candidates[c].recipe.packets == depth);
        fast.extend(own.max_by(|&a, &b| pool.val_f1(a).total_cmp(&pool.val_f1(b))));
    }
    fast.into_iter().map(|fast| CandidatePair { fast, slow: best }).collect()
}

/// The heads of all pairs that a cascade of these candidates may go through.
fn learn_heads(
    pool: &CandidatePool,
    wanted: &[usize],
    request: &PlanRequest,
    wall: fn() -> u64,
) -> Result<Heads, PipelineError> {
    if request.wish.rule != Rule::Learned || pool.val.truth.is_empty() {
        return Ok(Heads::new());
    }
    let mut pairs = Vec::new();
    for (at, &fast) in wanted.iter().enumerate() {
        for (behind, &slow) in wanted.iter().enumerate() {
            let is_given = request.wish.stages.is_some();
            if fast != slow && (behind > at || !is_given) {
                pairs.push(CandidatePair { fast, slow });
            }
        }
    }
    pairs.extend(told_pairs(pool));
    pairs.sort_unstable();
    pairs.dedup();
    let tier = |pair: &CandidatePair| pool.candidates[pair.fast].recipe.tier();
    let learned = learn_all(pool, &pairs, request.seed, request.threads, &wall);
    learned.map_err(|source| {
        let tier = tier(pairs.first().expect("a head was learned"));
        PipelineError::Train { tier, source }
    })
}

/// What stopping at each candidate costs, in the unit of the objective.
#[must_use]
pub fn costs(pool: &CandidatePool, objective: Objective) -> Vec<f64> {
    let cost = |candidate: usize| {
        let (_, geometric_us, cpu_ns) = super::search::alone(pool, candidate);
        match objective {
            Objective::Latency => geometric_us.max(1e-3).ln(),
            Objective::Cpu => cpu_ns,
            Objective::Escalation => {
                f64::from(pool.row_packets(&pool.candidates[candidate].recipe))
            }
        }
    };
    (0..pool.candidates.len()).map(cost).collect()
}

/// The lane of a candidate: forests by what they cost, and where a batch of others is too long for
/// the packet path, in the lane that gathers it.
fn lane(candidate: &Candidate, rule: &LanePlan) -> &'static str {
    match rule.lane(&candidate.cost) {
        "thread" if candidate.given.is_some() => "batch",
        lane => lane,
    }
}

/// Share of the flows that went on, by which each level of degradation lets fewer go on.
const RELIEF_STEP: f64 = 0.2;

/// Writes the plan of a cascade.
struct Writer<'a> {
    board: &'a Evaluator<'a>,
    request: &'a PlanRequest,
    found: &'a Found,
    files: &'a BTreeMap<String, Vec<u8>>,
    /// Where the calibration flows stop.
    walk: ReplayPath,
}

impl Writer<'_> {
    fn write(&self) -> (Plan, BTreeMap<String, Vec<u8>>) {
        let pool = self.board.pool;
        let mut models = BTreeMap::new();
        let stages = (0..self.cascade().stages.len()).map(|at| self.stage(at, &mut models));
        let plan = Plan {
            format: PLAN_FORMAT.to_owned(),
            task: pool.task.clone(),
            labels: pool.labels.clone(),
            flows: pool.flows,
            lane_rule: Some(self.request.lanes),
            stages: stages.collect(),
            guarantee: None,
            degradation: self.degradation(),
            drift: None,
            provenance: pool.provenance.clone(),
        };
        (plan, models)
    }

    /// The dearer prices of the cascade at which fewer flows go on, a fifth of them at a time.
    /// Thresholds that were calibrated for each gate have no such levels.
    fn degradation(&self) -> Vec<DegradationPlan> {
        let chosen = &self.found.chosen;
        let planned = 1.0 - chosen.figures.decided[0];
        let mut levels: Vec<DegradationPlan> = Vec::new();
        if self.cascade().stages.len() == 1 {
            return levels;
        }
        for price in
            prices(self.cascade().rule).into_iter().filter(|&price| price > self.cascade().price)
        {
            let cascade = Chain { price, ..self.cascade().clone() };
            let walk = self.board.walk(&cascade, Part::Val);
            let figures = self.board.figures(&cascade, &walk, Part::Val);
            let escalated = 1.0 - figures.decided[0];
            let last = levels.last().map_or(planned, |level| level.escalated);
            if escalated <= (last - planned * RELIEF_STEP).max(0.0) && escalated < last {
                let gates = (0..cascade.stages.len() - 1).map(|at| self.gate_numbers(&cascade, at));
                let (macro_f1, accuracy) = (figures.macro_f1, figures.accuracy);
                levels.push(DegradationPlan {
                    escalated,
                    macro_f1,
                    accuracy,
                    gates: gates.collect(),
                });
            }
        }
        levels
    }

    /// What a gate compares with at the cascade's price.
    fn gate_numbers(&self, cascade: &Chain, at: usize) -> Vec<f32> {
        match cascade.rule {
            Rule::Uncertainty(_) | Rule::Thresholds(..) => vec![cascade.price as f32],
            Rule::Learned => {
                let later = at + 1..cascade.stages.len();
                later.map(|to| self.board.step_price(cascade, at, to)).collect()
            }
        }
    }

    fn cascade(&self) -> &Chain {
        &self.found.chosen.cascade
    }

    fn name(&self, at: usize) -> &str {
        &self.board.pool.candidates[self.cascade().stages[at]].name
    }

    fn stage(&self, at: usize, models: &mut BTreeMap<String, Vec<u8>>) -> StagePlan {
        let pool = self.board.pool;
        let candidate = &pool.candidates[self.cascade().stages[at]];
        let columns = candidate.given.as_ref().and_then(|given| given.columns.as_ref());
        for name in columns.into_iter().chain([&candidate.file]) {
            let file = self.files.get(name).expect("the pool has its models");
            models.insert(name.clone(), file.clone());
        }
        let is_last = at + 1 == self.cascade().stages.len();
        StagePlan {
            name: candidate.name.clone(),
            packets: pool.row_packets(&candidate.recipe),
            wait_ms: self.wait_ms(at),
            window: candidate.recipe.packets == Tier::WINDOW,
            features: pool.features[candidate.recipe.features].clone(),
            headers: pool.headers.clone(),
            masks: pool.masks.clone(),
            lane: lane(candidate, &self.request.lanes).to_owned(),
            confidence: confidence::steps(self.board, self.cascade(), &self.walk, at),
            unknown: None,
            model: candidate.given.clone().unwrap_or_else(|| {
                ModelPlan::forest(candidate.file.clone(), &words(&candidate.recipe))
            }),
            gate: (!is_last).then(|| self.gate(at, models)),
            cost: Some(candidate.cost),
        }
    }

    /// A stage on the first packet waits for nothing, and must not be said to wait longer than the
    /// next.
    fn wait_ms(&self, at: usize) -> u64 {
        let recipe = |at: usize| self.board.pool.candidates[self.cascade().stages[at]].recipe;
        let behind = (at..self.cascade().stages.len()).map(|at| recipe(at).wait_ms);
        match recipe(at).packets {
            1 => behind.min().unwrap_or_default(),
            _ => recipe(at).wait_ms,
        }
    }

    fn gate(&self, at: usize, models: &mut BTreeMap<String, Vec<u8>>) -> GatePlan {
        let pool = self.board.pool;
        let cascade = self.cascade();
        let figures = &self.found.chosen.figures;
        let left: f64 = figures.decided[..=at].iter().sum();
        let last = cascade.stages[cascade.stages.len() - 1];
        let calibration = CalibrationPlan {
            target: self.target(),
            flows: pool.val.truth.len() as u64,
            escalated: (1.0 - left).max(0.0),
            cascade_macro_f1: figures.macro_f1,
            slow_macro_f1: pool.val_f1(last),
        };
        if let Rule::Thresholds(measure, _) = cascade.rule {
            return gate_plan(&pool.labels, measure, &cascade.thresholds[at], calibration);
        }
        let gate = GatePlan {
            rule: cascade.rule.name().to_owned(),
            threshold: None,
            thresholds: None,
            calibration: Some(calibration),
            heads: Vec::new(),
        };
        match cascade.rule {
            Rule::Uncertainty(_) | Rule::Thresholds(..) => {
                GatePlan { threshold: Some(cascade.price as f32), ..gate }
            }
            Rule::Learned => {
                let heads = (at + 1..cascade.stages.len()).map(|to| self.head(at, to, models));
                GatePlan { rule: LEARNED.to_owned(), heads: heads.collect(), ..gate }
            }
        }
    }

    fn head(&self, at: usize, to: usize, models: &mut BTreeMap<String, Vec<u8>>) -> HeadPlan {
        let cascade = self.cascade();
        let learned = &self.board.heads[&(cascade.stages[at], cascade.stages[to])];
        let plain = |name: &str| name.replace(['@', '~', '+'], "_");
        let file = format!("models/{}-to-{}.json", plain(self.name(at)), plain(self.name(to)));
        models.insert(file.clone(), learned.forest.to_json());
        HeadPlan {
            to: self.name(to).to_owned(),
            price: self.board.step_price(cascade, at, to),
            model: ModelPlan::forest(file, "boosted trees on scores and facts"),
        }
    }

    fn target(&self) -> String {
        let wish = &self.request.wish;
        match wish.escalate {
            _ if matches!(wish.rule, Rule::Thresholds(..)) => wish.target().words(),
            Some(_) => wish.target().words(),
            None => format!(
                "least {} with macro-F1 at most {} below the best single model",
                wish.objective.name(),
                wish.limits.max_loss
            ),
        }
    }
}

/// What a candidate is, in words.
fn words(recipe: &CandidateSpec) -> String {
    match recipe.size {
        None => recipe.kind.words().to_owned(),
        Some(size) => format!("{}, the first {size} rounds", recipe.kind.words()),
    }
}
