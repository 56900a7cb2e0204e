//! What is trained: tiers, the parameters of their trainers, and what they see of a flow.

mod compare;
mod tier;

pub use compare::{Compared, compare};
pub use tier::{ClassWeights, Kind, Tier, TierData, TierParams, train_tier};

use crate::dataset::{Dataset, RecordError, RecordPlan};
use crate::trees::{Progress, TrainError};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, MaskSet};
use serveflow_core::{FlowConfig, NO_WINDOW};
use serveflow_label::Split;
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
    /// The stages, where they are given; empty where they are searched.
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
    /// Seed of all random choices.
    pub seed: u64,
    /// Threads to train with; the bundle does not depend on it.
    pub threads: usize,
}

impl Default for TrainPlan {
    /// Stages to be searched, and parameters that did well on the tasks tried.
    fn default() -> Self {
        let mut params = TierParams::default();
        params.boost.patience = Some(20);
        // Thousands of columns, few flows of some classes: fewer columns a tree, smaller leaves
        // and a penalty did better on the calibration splits of the tasks tried.
        params.boost.column_fraction = 0.3;
        params.boost.min_leaf = 5;
        params.boost.l2 = 5.0;
        Self {
            task: String::new(),
            tiers: Vec::new(),
            features: vec!["header_bits".to_owned(), "packet_series".to_owned()],
            layout: HeaderLayout::default(),
            masks: MaskSet::default(),
            wait_ms: 10_000,
            window_packets: WINDOW_PACKETS,
            flows: FlowConfig::default(),
            params,
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
}

/// Why there is no bundle.
#[derive(Debug)]
#[non_exhaustive]
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
    /// Thresholds are wanted for each gate, and the stages are not given.
    NoStages,
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
            Self::NoStages => f.write_str("--uncertainty: expected a list of --stages, found auto"),
            Self::NoTier => f.write_str("expected at least one stage, found none"),
        }
    }
}

impl std::error::Error for PipelineError {}

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
