//! What a training is to do.

use super::SessionError;
use super::external::external_models;
use crate::pipeline::{Kind, Tier, TrainPlan};
use crate::planner::candidates::{PoolPlan, grid};
use crate::planner::meter::MeterLoad;
use crate::planner::pool::CandidateSpec;
use crate::planner::replay::{MOST_STAGES, Rule};
use crate::planner::search::PlanGoal;
use crate::risk_control::Guarantee;
use serveflow_core::NO_WINDOW;
use serveflow_model::bundle::LanePlan;
use std::path::PathBuf;

/// What a training is to do: [`SessionOptions::new`] has the defaults of the command line, and a
/// method changes each of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// The folder of the bundle; it is created.
    pub out: PathBuf,
    /// What is trained, and on which features. Its tiers are the stages, if these are given.
    pub train: TrainPlan,
    /// Candidates where stages are searched, and how all are measured.
    pub candidates: CandidateOptions,
    /// Objective, constraints and escalation rule. Its `stages` and `ends_in_best` are filled in.
    pub goal: PlanGoal,
    /// Names of the candidates that make the cascade, where an earlier training is planned anew;
    /// none where they are searched.
    pub stage_names: Option<Vec<String>>,
    /// What the plan must guarantee.
    pub guarantee: Option<Guarantee>,
    /// Open-set rules.
    pub unknown: Option<UnknownOptions>,
    /// How lanes are chosen from costs.
    pub lanes: LanePlan,
    /// Whether the best single model is audited.
    pub audit: bool,
}

/// What candidates there are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CandidateOptions {
    /// Kinds of model.
    pub kinds: Vec<Kind>,
    /// Rounds of boosted trees that are candidates beside all of them.
    pub sizes: Vec<usize>,
    /// Packet depths.
    pub depths: Vec<u16>,
    /// Longest waits, milliseconds; none for that of the training.
    pub waits_ms: Vec<u64>,
    /// Sets of encoders beside that of the training.
    pub extra_features: Vec<Vec<String>>,
    /// Bundles whose stages are candidates too.
    pub external_bundles: Vec<PathBuf>,
    /// Parts of the training captures for cross-fitting. There are none where thresholds are
    /// calibrated for each gate, for which the calibration split is enough, or where there are
    /// external models, of which no version was trained without a part.
    pub cross_fit: usize,
    /// Wall time after which no further candidate is trained, seconds.
    pub budget_s: Option<u64>,
    /// What candidates are measured under; the rate is that of the constraints if they have one.
    pub load: MeterLoad,
}

impl Default for CandidateOptions {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Tree, Kind::Boosted],
            sizes: vec![20],
            depths: vec![1, 2, 3, 5, 10],
            waits_ms: Vec::new(),
            extra_features: Vec::new(),
            external_bundles: Vec::new(),
            cross_fit: 3,
            budget_s: None,
            load: MeterLoad::default(),
        }
    }
}

/// How flows of no known class are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnknownOptions {
    /// Largest share of the known flows of each stage that is labelled unknown.
    pub rate: f64,
    /// Most classes that are held out to measure it; each costs a training.
    pub most_classes: usize,
}

impl SessionOptions {
    /// A training into a folder, with the defaults of the command line.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            train: TrainPlan::default(),
            candidates: CandidateOptions::default(),
            goal: PlanGoal::default(),
            stage_names: None,
            guarantee: None,
            unknown: None,
            lanes: LanePlan::default(),
            audit: true,
        }
    }

    /// Sets what is trained.
    #[must_use]
    pub fn train(self, train: TrainPlan) -> Self {
        Self { train, ..self }
    }

    /// Changes the candidates.
    #[must_use]
    pub fn candidates(mut self, change: impl FnOnce(&mut CandidateOptions)) -> Self {
        change(&mut self.candidates);
        self
    }

    /// Sets objective, constraints and escalation rule.
    #[must_use]
    pub fn goal(self, goal: PlanGoal) -> Self {
        Self { goal, ..self }
    }

    /// Names the candidates that make the cascade, where an earlier training is planned anew.
    #[must_use]
    pub fn stage_names(self, stage_names: Option<Vec<String>>) -> Self {
        Self { stage_names, ..self }
    }

    /// Sets what the plan must guarantee.
    #[must_use]
    pub fn guarantee(self, guarantee: Option<Guarantee>) -> Self {
        Self { guarantee, ..self }
    }

    /// Sets the open-set rules.
    #[must_use]
    pub fn unknown(self, unknown: Option<UnknownOptions>) -> Self {
        Self { unknown, ..self }
    }

    /// Sets how lanes are chosen.
    #[must_use]
    pub fn lanes(self, lanes: LanePlan) -> Self {
        Self { lanes, ..self }
    }

    /// Sets whether the best single model is audited.
    #[must_use]
    pub fn audit(self, audit: bool) -> Self {
        Self { audit, ..self }
    }

    /// Parts of the training captures that are cross-fitted.
    #[must_use]
    pub fn cross_fit(&self) -> usize {
        let by_gate = matches!(self.goal.rule, Rule::Thresholds(..));
        let is_off = by_gate || !self.candidates.external_bundles.is_empty();
        if is_off { 0 } else { self.candidates.cross_fit }
    }

    /// The training, without what may not be fitted on the split that a guarantee is tested on.
    pub(super) fn train_plan(&self) -> TrainPlan {
        let mut train = self.train.clone();
        if self.guarantee.is_some() {
            train.params.boost.patience = None;
        }
        train
    }

    /// The load of the measurements.
    pub(super) fn load(&self) -> MeterLoad {
        let (load, limits) = (self.candidates.load, &self.goal.limits);
        let flows_per_s = limits.flows_per_s.unwrap_or(load.flows_per_s) / limits.cores as f64;
        MeterLoad { flows_per_s, ..load }
    }

    /// Refuses options that contradict each other.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let tiers = &self.train.tiers;
        if tiers.len() > MOST_STAGES {
            let message = format!("expected at most {MOST_STAGES}, found {}", tiers.len());
            return Err(SessionError::option("--stages", message));
        }
        self.check_goal((!tiers.is_empty()).then_some(tiers.len()))?;
        for (at, tier) in tiers.iter().enumerate() {
            if tiers[..at].contains(tier) {
                let message = format!("expected {tier} once, found it twice");
                return Err(SessionError::option("--stages", message));
            }
            if at > 0 && tier.packets < tiers[at - 1].packets {
                let message = format!("{tier} uses fewer packets than the stage before it");
                return Err(SessionError::option("--stages", message));
            }
        }
        if self.guarantee.is_none() {
            return Ok(());
        }
        let refused = |message: &str| Err(SessionError::option("--guarantee", message));
        if !self.candidates.external_bundles.is_empty() {
            return refused(
                "expected no --external-bundle, because its models may have been trained on the \
                 calibration split",
            );
        }
        if self.candidates.cross_fit < 2 {
            return refused(
                "expected --cross-fit of 2 parts or more, because the calibration split is for the \
                 guarantee alone",
            );
        }
        Ok(())
    }

    /// Refuses a goal that so many given stages cannot have.
    pub(super) fn check_goal(&self, stages: Option<usize>) -> Result<(), SessionError> {
        let is_alone = stages.is_some_and(|stages| stages < 2);
        let typed = [
            ("--escalate", self.goal.escalate.is_some()),
            ("--guarantee", self.guarantee.is_some()),
        ];
        if let Some((name, _)) = typed.into_iter().find(|(_, is_typed)| is_alone && *is_typed) {
            let message = "expected at least two --stages, because one alone escalates nothing";
            return Err(SessionError::option(name, message));
        }
        if stages.is_none() && matches!(self.goal.rule, Rule::Thresholds(..)) {
            let message = "expected a list of --stages, found auto";
            return Err(SessionError::option("--uncertainty", message));
        }
        Ok(())
    }

    /// What is to be put into the pool.
    pub(super) fn pool_plan(&self) -> Result<PoolPlan, SessionError> {
        let own = [self.train.features.clone()];
        let features: Vec<Vec<String>> =
            own.into_iter().chain(self.candidates.extra_features.iter().cloned()).collect();
        for (at, set) in features.iter().enumerate() {
            if features[..at].contains(set) {
                let words = set.join("+");
                let message = format!("expected each set of encoders once, found {words} twice");
                return Err(SessionError::option("--extra-features", message));
            }
        }
        let given = external_models(&self.candidates.external_bundles, &self.train, &features)?;
        let budget_s = self.candidates.budget_s;
        Ok(PoolPlan {
            recipes: self.recipes(),
            features,
            cross_fit: self.cross_fit(),
            given,
            all_wanted: !self.train.tiers.is_empty(),
            budget_ns: budget_s.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            load: self.load(),
        })
    }

    /// The candidates to train: the given stages, or all that the search may compose.
    fn recipes(&self) -> Vec<CandidateSpec> {
        let (train, own) = (&self.train, &self.candidates);
        let recipe = |tier: &Tier| CandidateSpec {
            kind: tier.kind,
            size: None,
            packets: tier.packets,
            wait_ms: train.wait_ms,
            features: 0,
        };
        if !train.tiers.is_empty() {
            return train.tiers.iter().map(recipe).collect();
        }
        let waits =
            if own.waits_ms.is_empty() { vec![train.wait_ms] } else { own.waits_ms.clone() };
        let mut depths = own.depths.clone();
        if train.flows.window_ns != NO_WINDOW {
            depths.push(Tier::WINDOW);
        }
        grid(&own.kinds, &own.sizes, &depths, &waits, 1 + own.extra_features.len())
    }
}
