//! From labelled captures to a bundle: record, train each tier, calibrate the gates, write.

mod compare;
mod tier;

pub use compare::{Compared, compare};
pub use tier::{ClassWeights, Kind, Tier, TierData, TierParams, train_tier};

use crate::calibrate::{Calibrated, Granularity, StageAnswers, Target, calibrate};
use crate::dataset::{Dataset, RecordError, RecordPlan, record};
use crate::trees::{Progress, TrainError};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Mask, MaskSet};
use serveflow_core::gate::{Threshold, Uncertainty};
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::parse::Header;
use serveflow_core::rows::{Rows, Scores};
use serveflow_core::{FlowConfig, NO_WINDOW};
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{
    CalibrationPlan, CostPlan, FlowPlan, GatePlan, LanePlan, ModelPlan, PLAN_FORMAT, Plan,
    Provenance, StagePlan,
};
use serveflow_model::forest::{BoundForest, Forest};
use std::collections::BTreeMap;
use std::fmt;

const MILLISECOND: u64 = 1_000_000;

/// Packets of a window that a row covers at most, unless told otherwise.
pub const WINDOW_PACKETS: u16 = 64;

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainPlan {
    /// What the plan names, in words.
    pub task: String,
    /// The cascade.
    pub tiers: Vec<Tier>,
    /// Encoders, in row order.
    pub features: Vec<String>,
    /// Protocols of `header_bits`.
    pub layout: HeaderLayout,
    /// Masked field groups.
    pub masks: MaskSet,
    /// Longest wait for a stage's packets, milliseconds after the flow's first.
    pub wait_ms: u64,
    /// Most packets of a window that a tier of [`Tier::WINDOW`] sees.
    pub window_packets: u16,
    /// Flow rules.
    pub flows: FlowConfig,
    /// Parameters of the trainers.
    pub params: TierParams,
    /// How gates measure doubt.
    pub measure: Uncertainty,
    /// One threshold per gate, or per gate and class.
    pub granularity: Granularity,
    /// What gates are calibrated for.
    pub target: Target,
    /// How each stage's lane is chosen from what it costs.
    pub lanes: LanePlan,
    /// Seed of all random choices.
    pub seed: u64,
    /// Threads to train with; the bundle does not depend on it.
    pub threads: usize,
}

impl Default for TrainPlan {
    /// The paper's cascade: a decision tree and boosted trees on packet 1, boosted trees on 10.
    fn default() -> Self {
        let tier = |kind, packets| Tier { kind, packets };
        let mut params = TierParams::default();
        params.boost.patience = Some(20);
        // Thousands of columns, few flows of some classes: fewer columns a tree, smaller leaves
        // and a penalty did better on the calibration splits of the tasks tried.
        params.boost.column_fraction = 0.3;
        params.boost.min_leaf = 5;
        params.boost.l2 = 5.0;
        Self {
            task: String::new(),
            tiers: vec![tier(Kind::Tree, 1), tier(Kind::Boosted, 1), tier(Kind::Boosted, 10)],
            features: vec!["header_bits".to_owned(), "packet_series".to_owned()],
            layout: HeaderLayout::default(),
            masks: MaskSet::default(),
            wait_ms: 10_000,
            window_packets: WINDOW_PACKETS,
            flows: FlowConfig::default(),
            params,
            measure: Uncertainty::LeastConfidence,
            granularity: Granularity::PerClass,
            target: Target::MaxLoss(0.005),
            lanes: LanePlan::default(),
            seed: 1,
            threads: 1,
        }
    }
}

impl TrainPlan {
    /// Packets that a row of this depth covers: as many, or as a window may have.
    #[must_use]
    pub fn row_packets(&self, depth: u16) -> u16 {
        Tier::row_packets(depth, self.window_packets)
    }

    /// The feature spec at a packet depth.
    #[must_use]
    pub fn spec(&self, packets: u16) -> FeatureSpec {
        FeatureSpec {
            encoders: self.features.clone(),
            packets: self.row_packets(packets),
            layout: self.layout,
            masks: self.masks,
        }
    }

    /// What to record for some packet depths.
    #[must_use]
    pub fn recording(&self, depths: &[u16]) -> RecordPlan {
        RecordPlan {
            specs: depths.iter().map(|&packets| self.spec(packets)).collect(),
            wait_ns: self.wait_ms.saturating_mul(MILLISECOND),
            of_window: depths.iter().filter(|&&depth| depth == Tier::WINDOW).count(),
            flows: self.flows,
        }
    }

    /// The packet depths of some tiers, each once, growing.
    #[must_use]
    pub fn depths(tiers: &[Tier]) -> Vec<u16> {
        let mut depths: Vec<u16> = tiers.iter().map(|tier| tier.packets).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }

    /// The trainers' parameters with the plan's seed and threads.
    #[must_use]
    pub fn seeded_params(&self) -> TierParams {
        let mut params = self.params.clone();
        (params.boost.seed, params.boost.threads) = (self.seed, self.threads);
        (params.forest.seed, params.forest.threads) = (self.seed, self.threads);
        params
    }
}

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Captures recorded, of how many.
    Recording(usize, usize),
    /// A tier is being trained.
    Training(Tier, Progress),
    /// Gates are being calibrated.
    Calibrating,
}

/// Why there is no bundle.
#[derive(Debug)]
pub enum PipelineError {
    /// Nothing could be recorded.
    Record(RecordError),
    /// A tier could not be trained.
    Train {
        /// The tier.
        tier: Tier,
        /// Why.
        source: TrainError,
    },
    /// A split has no labelled flow.
    EmptySplit {
        /// The split.
        split: Split,
    },
    /// Tiers must not want fewer packets than the one before.
    TierOrder {
        /// The tier out of order.
        tier: Tier,
    },
    /// A tier wants the window, and flows are not cut into windows, or it sees fewer packets than a
    /// tier before it.
    Window {
        /// The tier.
        tier: Tier,
        /// What is expected, in words.
        expected: &'static str,
    },
    /// A model that was given failed, or does not fit.
    Given {
        /// The model.
        name: String,
        /// What is wrong, in words.
        message: String,
    },
    /// A guarantee is wanted of several stages, and no flow was answered by models that did not see
    /// it.
    NotCrossFitted {
        /// Captures of training flows, and the parts wanted; none where the pool does not say.
        found: Option<(u64, u64)>,
    },
    /// There is no tier.
    NoTier,
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Train { tier, source } => write!(f, "{tier}: {source}"),
            Self::EmptySplit { split } => {
                write!(f, "the split `{}` has no labelled flow", split.name())
            }
            Self::TierOrder { tier } => {
                write!(f, "{tier} wants fewer packets than the stage before it")
            }
            Self::Window { tier, expected } => write!(f, "{tier}: expected {expected}"),
            Self::Given { name, message } => write!(f, "`{name}`: {message}"),
            Self::NotCrossFitted { found } => {
                f.write_str(
                    "--guarantee: expected --cross-fit of 2 parts or more and training flows of at \
                     least as many captures, since the calibration split is for the guarantee \
                     alone",
                )?;
                found.map_or(Ok(()), |(captures, parts)| {
                    let s = if captures == 1 { "" } else { "s" };
                    write!(f, "; found {captures} capture{s} for --cross-fit {parts}")
                })
            }
            Self::NoTier => f.write_str("expected at least one stage, found none"),
        }
    }
}

impl std::error::Error for PipelineError {}

/// A trained cascade, ready to be written.
#[derive(Debug)]
pub struct Trained {
    /// The plan.
    pub plan: Plan,
    /// Model files by name.
    pub models: BTreeMap<String, Vec<u8>>,
    /// What calibration gave.
    pub calibrated: Calibrated,
    /// What was recorded.
    pub dataset: Dataset,
}

/// Trains a cascade on the labelled flows of a book.
///
/// `wall` tells wall time in nanoseconds, to measure what scoring costs.
///
/// # Errors
/// When the tiers are out of order, a split has no flow, or a parameter is out of range.
pub fn train(
    book: &LabelBook,
    plan: &TrainPlan,
    wall: &mut dyn FnMut() -> u64,
    progress: &mut dyn FnMut(Step),
) -> Result<Trained, PipelineError> {
    check_order(&plan.tiers)?;
    check_window(plan, &plan.tiers)?;
    let depths = TrainPlan::depths(&plan.tiers);
    let files = book.files.len();
    let recorded = record(book, &plan.recording(&depths), &mut |done| {
        progress(Step::Recording(done, files));
    });
    let dataset = recorded.map_err(PipelineError::Record)?;
    let (train, val) = (filled(&dataset, Split::Train)?, filled(&dataset, Split::Val)?);
    let params = plan.seeded_params();
    let mut forests = Vec::new();
    let mut answers = Vec::new();
    let mut costs = Vec::new();
    for &tier in &plan.tiers {
        let stage = depths.iter().position(|&depth| depth == tier.packets).unwrap_or(0);
        let failed = |source| PipelineError::Train { tier, source };
        let data = TierData::new(&dataset, stage, &train, &val, params.class_weights);
        let data = data.map_err(failed)?;
        let forest = train_tier(tier.kind, &data, &params, &mut |done| {
            progress(Step::Training(tier, done));
        });
        let forest = forest.map_err(failed)?;
        let bound = BoundForest::new(&forest);
        let mut scores = Scores::default();
        bound.score(&data.val_rows, &mut scores);
        answers.push(StageAnswers::new(
            plan.row_packets(tier.packets),
            plan.measure,
            &scores,
            val.len(),
        ));
        costs.push(forest_cost(&bound, &data.val_rows, wall));
        forests.push(forest);
    }
    progress(Step::Calibrating);
    let truth = dataset.labels_of(&val);
    let classes = dataset.labels.len();
    let calibrated = calibrate(&answers, &truth, classes, plan.target, plan.granularity);
    let models = model_files(plan, &forests);
    let plan = written_plan(book, plan, &dataset, &calibrated, &costs);
    Ok(Trained { plan, models, calibrated, dataset })
}

fn check_order(tiers: &[Tier]) -> Result<(), PipelineError> {
    if tiers.is_empty() {
        return Err(PipelineError::NoTier);
    }
    let wrong = tiers.windows(2).find(|pair| pair[1].packets < pair[0].packets);
    wrong.map_or(Ok(()), |pair| Err(PipelineError::TierOrder { tier: pair[1] }))
}

/// Holds tiers that want the window to the flow rules and to the tiers before them.
pub(crate) fn check_window(plan: &TrainPlan, tiers: &[Tier]) -> Result<(), PipelineError> {
    let Some(&tier) = tiers.iter().find(|tier| tier.packets == Tier::WINDOW) else {
        return Ok(());
    };
    let refused = |expected| Err(PipelineError::Window { tier, expected });
    if plan.flows.window_ns == NO_WINDOW {
        return refused("flows to be cut into windows (window_ms), found none");
    }
    let most = |other: &Tier| other.packets != Tier::WINDOW && other.packets > plan.window_packets;
    if plan.window_packets == 0 || tiers.iter().any(most) {
        return refused("at least as many packets of a window as the stages before it want");
    }
    Ok(())
}

pub(crate) fn filled(dataset: &Dataset, split: Split) -> Result<Vec<usize>, PipelineError> {
    let flows = dataset.split(split);
    if flows.is_empty() { Err(PipelineError::EmptySplit { split }) } else { Ok(flows) }
}

/// A model's name in the bundle; a tier may stand in a cascade more than once.
fn stage_name(tiers: &[Tier], index: usize) -> String {
    let tier = tiers[index];
    let before = tiers[..index].iter().filter(|&&other| other == tier).count();
    if before == 0 { tier.to_string() } else { format!("{tier}.{}", before + 1) }
}

fn model_file(tiers: &[Tier], index: usize) -> String {
    format!("models/{}.json", stage_name(tiers, index).replace('@', "_"))
}

fn model_files(plan: &TrainPlan, forests: &[Forest]) -> BTreeMap<String, Vec<u8>> {
    let file =
        |(index, forest): (usize, &Forest)| (model_file(&plan.tiers, index), forest.to_json());
    forests.iter().enumerate().map(file).collect()
}

/// Rows scored at once when the batch cost is measured.
const COST_BATCH: usize = 64;
/// Times that the cost is measured; the median counts.
const COST_ROUNDS: usize = 5;
/// Rows of a round at the most, and about how long it may take, nanoseconds.
const COST_ROWS: usize = 512;
const COST_NS: u64 = 200_000_000;

/// What scoring costs on this machine, nanoseconds per flow.
///
/// # Errors
/// When the model fails.
pub(crate) fn cost(
    model: &dyn Model,
    rows: &Rows,
    wall: &mut dyn FnMut() -> u64,
) -> Result<CostPlan, ScoreError> {
    // A slow model is measured on fewer rows.
    let mut first = Rows::with_capacity(rows.shape(), 1);
    if !rows.is_empty() {
        first.push_copy(rows, 0);
    }
    let started = wall();
    model.score(&first, &mut Scores::default())?;
    let one_ns = wall().saturating_sub(started).max(1);
    let most = usize::try_from(COST_NS / one_ns).unwrap_or(COST_ROWS).clamp(2, COST_ROWS);
    let mut per_flow = |batch: usize| {
        let batches: Vec<Rows> = (0..rows.len().min(most))
            .collect::<Vec<usize>>()
            .chunks(batch)
            .map(|chunk| {
                let mut part = Rows::with_capacity(rows.shape(), chunk.len());
                chunk.iter().for_each(|&row| part.push_copy(rows, row));
                part
            })
            .collect();
        let flows: usize = batches.iter().map(Rows::len).sum();
        let mut scores = Scores::default();
        let mut measured = Vec::with_capacity(COST_ROUNDS);
        for _ in 0..COST_ROUNDS {
            let started = wall();
            batches.iter().try_for_each(|batch| model.score(batch, &mut scores))?;
            measured.push(wall().saturating_sub(started));
        }
        measured.sort_unstable();
        Ok(measured[COST_ROUNDS / 2] as f64 / flows.max(1) as f64)
    };
    Ok(CostPlan { score_batch_ns: per_flow(COST_BATCH)?, score_single_ns: per_flow(1)? })
}

/// The same of a forest, which never fails.
pub(crate) fn forest_cost(
    model: &BoundForest,
    rows: &Rows,
    wall: &mut dyn FnMut() -> u64,
) -> CostPlan {
    cost(model, rows, wall).expect("a forest scores every row")
}

fn written_plan(
    book: &LabelBook,
    plan: &TrainPlan,
    dataset: &Dataset,
    calibrated: &Calibrated,
    costs: &[CostPlan],
) -> Plan {
    let stage = |index: usize| StagePlan {
        name: stage_name(&plan.tiers, index),
        packets: plan.row_packets(plan.tiers[index].packets),
        wait_ms: plan.wait_ms,
        window: plan.tiers[index].packets == Tier::WINDOW,
        features: plan.features.clone(),
        headers: plan.layout.headers().into_iter().map(|h| Header::name(h).to_owned()).collect(),
        masks: plan.masks.iter().map(|mask| Mask::name(mask).to_owned()).collect(),
        lane: plan.lanes.lane(&costs[index]).to_owned(),
        confidence: Vec::new(),
        unknown: None,
        model: ModelPlan::forest(model_file(&plan.tiers, index), plan.tiers[index].kind.words()),
        gate: (index + 1 < plan.tiers.len()).then(|| {
            let flows = dataset.split(Split::Val).len() as u64;
            gate_plan(&dataset.labels, (plan.target, plan.measure), calibrated, index, flows)
        }),
        cost: Some(costs[index]),
    };
    let flows = |split: Split| (split.name().to_owned(), dataset.split(split).len() as u64);
    Plan {
        format: PLAN_FORMAT.to_owned(),
        task: plan.task.clone(),
        labels: dataset.labels.clone(),
        flows: FlowPlan::from_config(&plan.flows),
        lane_rule: Some(plan.lanes),
        guarantee: None,
        degradation: Vec::new(),
        drift: None,
        stages: (0..plan.tiers.len()).map(stage).collect(),
        provenance: Provenance {
            written_by: concat!("serveflow ", env!("CARGO_PKG_VERSION")).to_owned(),
            labels_sha256: book.sha256.clone(),
            flows: Split::ALL.into_iter().map(flows).collect(),
            seed: plan.seed,
            parameters: parameters(plan),
        },
    }
}

/// A gate's thresholds and what they were calibrated for.
pub(crate) fn gate_plan(
    labels: &[String],
    (target, measure): (Target, Uncertainty),
    calibrated: &Calibrated,
    index: usize,
    flows: u64,
) -> GatePlan {
    let (threshold, thresholds) = match &calibrated.thresholds[index] {
        Threshold::Universal(threshold) => (Some(*threshold), None),
        Threshold::PerClass(all) => {
            (None, Some(labels.iter().cloned().zip(all.iter().copied()).collect()))
        }
    };
    let target = match target {
        Target::MaxLoss(loss) => format!("macro-F1 at most {loss} below the last stage alone"),
        Target::Escalate(share) => format!("a share of {share} of the flows at the last stage"),
    };
    GatePlan {
        rule: measure.name().to_owned(),
        threshold,
        thresholds,
        calibration: Some(CalibrationPlan {
            target,
            flows,
            escalated: calibrated.escalated[index],
            cascade_macro_f1: calibrated.cascade_macro_f1,
            slow_macro_f1: calibrated.slow_macro_f1,
        }),
        heads: Vec::new(),
    }
}

/// The trainers' parameters in words; threads are left out, since nothing depends on them.
pub(crate) fn parameters(plan: &TrainPlan) -> BTreeMap<String, String> {
    let (tree, forest, boost) = (&plan.params.tree, &plan.params.forest, &plan.params.boost);
    let entry = |name: &str, text: String| (name.to_owned(), text);
    BTreeMap::from([
        entry("class_weights", format!("{:?}", plan.params.class_weights).to_lowercase()),
        entry("tree.max_depth", tree.max_depth.to_string()),
        entry("tree.min_leaf", tree.min_leaf.to_string()),
        entry("forest.trees", forest.trees.to_string()),
        entry("boosted.rounds", boost.rounds.to_string()),
        entry("boosted.learning_rate", boost.learning_rate.to_string()),
        entry("boosted.max_leaves", boost.max_leaves.to_string()),
        entry("boosted.min_leaf", boost.min_leaf.to_string()),
        entry("boosted.l2", boost.l2.to_string()),
        entry("boosted.column_fraction", boost.column_fraction.to_string()),
        entry("boosted.row_fraction", boost.row_fraction.to_string()),
        entry("boosted.patience", format!("{:?}", boost.patience)),
    ])
}
