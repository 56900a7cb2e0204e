//! `plan.toml` as it is written: what was typed, before it is checked.

use serde::{Deserialize, Serialize};
use serveflow_core::calibration::Calibration;
use serveflow_core::parse::Tunnels;
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
    /// How the stages' lanes were chosen from their costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane_rule: Option<LanePlan>,
    /// The cascade, in the order its stages are asked.
    pub stages: Vec<StagePlan>,
    /// How the gates may be loosened under load, step by step, and what each step costs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degradation: Vec<DegradationPlan>,
    /// What the plan guarantees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<GuaranteePlan>,
    /// What the flows looked like that the plan was calibrated on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftPlan>,
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
    /// Length of the windows that flows are cut into, milliseconds; none leaves them whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// Whether the VLAN id is part of the key.
    #[serde(default)]
    pub vlan_in_key: bool,
    /// Which packet of a tunnel flows are made of; the outer one where a plan is older than the
    /// choice.
    #[serde(default = "before_the_choice", with = "tunnel_words")]
    pub tunnels: Tunnels,
}

/// How models were trained while there was no choice.
fn before_the_choice() -> Tunnels {
    Tunnels::Outer
}

/// The words of [`Tunnels`].
mod tunnel_words {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;
    use serveflow_core::parse::Tunnels;

    pub(super) fn serialize<S: Serializer>(tunnels: &Tunnels, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(tunnels.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tunnels, D::Error> {
        let word = String::deserialize(from)?;
        let refusal = || D::Error::custom(format!("expected `inner` or `outer`, found `{word}`"));
        Tunnels::from_name(&word).ok_or_else(refusal)
    }
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
    /// Whether it wants the window: it is asked when the window ends, with at most `packets`
    /// packets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub window: bool,
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
    /// What its probability of an answer is worth, as steps of lowest probability and share of
    /// right answers; none leaves it as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidence: Vec<[f64; 2]>,
    /// Which of its answers say that a flow is of no class that was learned; none take all for
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<UnknownPlan>,
    /// The model file.
    pub model: ModelPlan,
    /// How sure its answer must be; none for the last stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GatePlan>,
    /// What the stage was measured to cost, per flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostPlan>,
}

impl StagePlan {
    /// Its `confidence` as a function.
    ///
    /// # Errors
    /// When it is none, in words.
    pub fn calibration(&self) -> Result<Calibration, String> {
        let steps = self.confidence.iter().map(|step| (step[0] as f32, step[1] as f32));
        Calibration::new(steps.collect())
    }
}

fn default_headers() -> Vec<String> {
    ["ipv4", "tcp", "udp"].map(str::to_owned).to_vec()
}

fn default_lane() -> String {
    "inline".to_owned()
}

/// A stage's model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// File, relative to the bundle.
    pub file: String,
    /// Name of its format.
    pub format: String,
    /// What it is, in words.
    #[serde(default)]
    pub kind: String,
    /// A file, relative to the bundle, with the names of a foreign model's columns in their order,
    /// one a line; none for all columns of the stage in the order in which `serveflow features`
    /// writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    /// The labels that the model's classes are, in its order; none for all labels in the plan's
    /// order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Whether the model's outputs are logits, whose softmax are the probabilities.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logits: bool,
    /// The value that was missing to the library that trained the model; none where every value was
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f32>,
}

impl ModelPlan {
    /// One of this project's own forests, in a file, described in words.
    #[must_use]
    pub fn forest(file: String, kind: &str) -> Self {
        let (format, kind) = (crate::formats::FOREST.to_owned(), kind.to_owned());
        Self {
            file,
            format,
            kind,
            columns: None,
            classes: Vec::new(),
            logits: false,
            missing: None,
        }
    }
}

/// What a gate's `rule` says when heads rule.
pub const LEARNED: &str = "learned";

/// A stage's gate and how it was calibrated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePlan {
    /// What escalates: an uncertainty by its name, or [`LEARNED`].
    pub rule: String,
    /// Largest accepted uncertainty, for all classes...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// ... or one per label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<BTreeMap<String, f32>>,
    /// What the threshold was calibrated for and what that gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationPlan>,
    /// The heads of a learned gate, one per later stage that flows may go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<HeadPlan>,
}

/// A head of a learned gate: it predicts what a later stage is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadPlan {
    /// Name of the later stage.
    pub to: String,
    /// What its worth must exceed: probability of help less that of hurt.
    pub price: f32,
    /// The model: facts in, three outcomes out.
    pub model: ModelPlan,
}

/// Gates that are looser than the planned ones, for more traffic than the models can take, and what
/// they come to on the calibration flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DegradationPlan {
    /// Share of the flows that go on from the first stage.
    pub escalated: f64,
    /// Macro-F1 of the cascade.
    pub macro_f1: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// For each stage but the last: its largest accepted uncertainty, or the prices of its heads.
    pub gates: Vec<Vec<f32>>,
}

/// Where the reference stands that drift is told by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftPlan {
    /// File, relative to the bundle.
    pub file: String,
}

/// A stage's open-set rule, and how it was calibrated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnknownPlan {
    /// How odd scores are: an uncertainty measure.
    pub score: String,
    /// Largest oddness at which a flow is taken for one of the classes.
    pub threshold: f32,
    /// Share of the known flows that the stage decides which may be called unknown.
    pub rate: f64,
    /// Flows of the calibration split that the stage decides.
    pub flows: u64,
    /// Share of these that are called unknown.
    pub measured: f64,
}

/// What the plan guarantees, on which data, under which assumptions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuaranteePlan {
    /// What may be lost against the slow stage alone: `accuracy` or `macro_f1`.
    pub loss: String,
    /// So much of it at most, 0 to 1.
    pub tolerated: f64,
    /// With at least this probability over the draw of the calibration flows.
    pub confidence: f64,
    /// The slow stage.
    pub slow: String,
    /// Flows that the guarantee was tested on, none of which the gates were fitted on.
    pub flows: u64,
    /// Loss measured on these flows.
    pub measured: f64,
    /// Assumptions, in words.
    pub assumptions: String,
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

/// What a stage's lane is chosen by: a stage is scored inline as long as a full batch of it does
/// not hold up its worker for longer than the budget, and on a thread of its own otherwise.
///
/// While it scores inline, a worker takes no packet, and the packets that come wait in the receive
/// ring. A ring of 4096 packets, as the larger network cards have them, bridges one millisecond at
/// four million packets a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanePlan {
    /// Rows of a full batch.
    pub batch_rows: u32,
    /// Longest time that a batch may hold up its worker, nanoseconds.
    pub budget_ns: u64,
}

impl LanePlan {
    /// How long a full batch of a stage holds up a worker that scores it inline, nanoseconds.
    #[must_use]
    pub fn batch_ns(&self, cost: &CostPlan) -> f64 {
        f64::from(self.batch_rows) * cost.score_batch_ns
    }

    /// The lane of a stage that costs so much. A cost that is no number is taken for a large one.
    #[must_use]
    pub fn lane(&self, cost: &CostPlan) -> &'static str {
        if self.batch_ns(cost) <= self.budget_ns as f64 { "inline" } else { "thread" }
    }
}

impl Default for LanePlan {
    /// The engine's default batch, and one millisecond.
    fn default() -> Self {
        Self { batch_rows: 256, budget_ns: 1_000_000 }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_goes_to_a_thread_when_a_full_batch_of_it_takes_longer_than_the_budget() {
        let rule = LanePlan::default();
        assert_eq!(
            rule.batch_rows as usize,
            serveflow_core::engine::EngineConfig::default().batch_rows
        );
        let lane = |ns| rule.lane(&CostPlan { score_batch_ns: ns, score_single_ns: ns });
        assert_eq!([20.0, 2_000.0, 3_906.25].map(lane), ["inline"; 3]);
        assert_eq!([3_906.5, 1e6, f64::NAN, f64::INFINITY].map(lane), ["thread"; 4]);
        let small = LanePlan { batch_rows: 1, ..rule };
        assert_eq!(small.lane(&CostPlan { score_batch_ns: 1e6, score_single_ns: 1e6 }), "inline");
        assert!(super::super::LANE_NAMES.contains(&lane(1e9)));
    }
}
