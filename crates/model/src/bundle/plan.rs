//! `plan.toml` as it is written: what was typed, before it is checked.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this version reads and writes.
pub const PLAN_FORMAT: &str = "serveflow-plan/1";

/// The plan: stages, labels, and where they come from. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: String,
    /// What the plan names, in words.
    #[serde(default)]
    pub task: String,
    /// Names of the classes, by index.
    pub labels: Vec<String>,
    /// The flow rules under which the models were trained.
    pub flows: FlowPlan,
    /// The cascade, in the order its stages are asked.
    pub stages: Vec<StagePlan>,
    /// Where the models come from.
    #[serde(default)]
    pub provenance: Provenance,
}

/// Flow rules, as the engine's `FlowConfig` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowPlan {
    /// Idle timeout, milliseconds.
    pub idle_ms: u64,
    /// Active timeout, milliseconds.
    pub active_ms: u64,
    /// How long a closed TCP flow lingers, milliseconds.
    pub linger_ms: u64,
    /// Whether the VLAN id is part of the key.
    #[serde(default)]
    pub vlan_in_key: bool,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Name for outputs, unique in the plan.
    pub name: String,
    /// Packets that a row covers.
    pub packets: u16,
    /// Longest wait for the packets after the flow's first, milliseconds.
    pub wait_ms: u64,
    /// Encoders, in row order.
    pub features: Vec<String>,
    /// Protocols of `header_bits`.
    #[serde(default = "default_headers")]
    pub headers: Vec<String>,
    /// Masked field groups.
    pub masks: Vec<String>,
    /// Where the stage is scored.
    #[serde(default = "default_lane")]
    pub lane: String,
    /// The model file.
    pub model: ModelPlan,
    /// How sure its answer must be; none for the last stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GatePlan>,
    /// What the stage was measured to cost, per flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostPlan>,
}

fn default_headers() -> Vec<String> {
    ["ipv4", "tcp", "udp"].map(str::to_owned).to_vec()
}

fn default_lane() -> String {
    "inline".to_owned()
}

/// A stage's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// File, relative to the bundle.
    pub file: String,
    /// Name of its format.
    pub format: String,
    /// What it is, in words.
    #[serde(default)]
    pub kind: String,
}

/// A stage's gate and how it was calibrated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePlan {
    /// Uncertainty measure.
    pub measure: String,
    /// Largest accepted uncertainty, for all classes...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// ... or one per label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<BTreeMap<String, f32>>,
    /// What the threshold was calibrated for and what that gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationPlan>,
}

/// How a gate was calibrated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationPlan {
    /// The target, in words.
    pub target: String,
    /// Flows of the calibration split.
    pub flows: u64,
    /// Share of all calibration flows that leave this stage for the next.
    pub escalated: f64,
    /// Macro-F1 of the calibrated cascade on the calibration split.
    pub cascade_macro_f1: f64,
    /// Macro-F1 of the last stage alone on the calibration split.
    pub slow_macro_f1: f64,
}

/// Measured cost of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostPlan {
    /// Nanoseconds to score a flow in a batch of 64.
    pub score_batch_ns: f64,
    /// Nanoseconds to score a flow alone.
    pub score_single_ns: f64,
}

/// Where a bundle's models come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Program and version that wrote the bundle.
    pub written_by: String,
    /// Hash of the label table that the flows were labelled from (SHA-256).
    #[serde(default)]
    pub labels_sha256: String,
    /// Labelled flows that were recorded, by split.
    #[serde(default)]
    pub flows: BTreeMap<String, u64>,
    /// Seed of all random choices.
    #[serde(default)]
    pub seed: u64,
    /// Training parameters, as the trainer prints them.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}
