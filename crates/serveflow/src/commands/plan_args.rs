//! The command line: the objective and the constraints of a plan, and its candidates.

use super::args::heading;
use super::train_args::ThresholdArgs;
use super::values::{Encoders, between, encoders, kind, objective, quantity, rule, share, wait};
use clap::{Args, ValueEnum};
use serveflow_train::calibrate::Granularity;
use serveflow_train::pipeline::Kind;
use serveflow_train::planner::limits::{Constraints, Objective};
use serveflow_train::planner::replay::Rule;
use serveflow_train::planner::search::PlanGoal;
use serveflow_train::risk_control::{Guarantee, Loss};
use std::path::PathBuf;

/// Objective and constraints of a cascade.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::LIMITS)]
pub(crate) struct PlanArgs {
    /// Quantity to minimise
    #[arg(long, default_value = "latency", value_parser = objective())]
    #[arg(help_heading = heading::CASCADE)]
    pub(crate) objective: Objective,
    /// Escalation rule: predicted gain of a later stage, or an uncertainty above a threshold
    #[arg(long, default_value = "learned", value_parser = rule(), help_heading = heading::CASCADE)]
    pub(crate) rule: Rule,
    /// Escalate this share of the flows to the last stage, in place of the limits
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = heading::CASCADE)]
    pub(crate) escalate: Option<f64>,
    /// Largest loss of macro-F1 on the calibration flows against the best single model
    #[arg(long, value_name = "F1", default_value_t = 0.005, conflicts_with = "escalate")]
    #[arg(value_parser = share)]
    pub(crate) max_loss: f64,
    /// Largest loss of recall of any class against the best single model
    #[arg(long, value_name = "RECALL", value_parser = share)]
    pub(crate) max_class_loss: Option<f64>,
    /// Largest median time from first packet to verdict, in milliseconds
    #[arg(long, value_name = "MS", value_parser = quantity)]
    pub(crate) p50_ms: Option<f64>,
    /// Largest 99th percentile of the time from first packet to verdict, in milliseconds
    #[arg(long, value_name = "MS", value_parser = quantity)]
    pub(crate) p99_ms: Option<f64>,
    /// Required capacity, in new flows per second
    #[arg(long, value_name = "FLOWS", value_parser = quantity)]
    pub(crate) flows_per_s: Option<f64>,
    /// Cores available for serving
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) cores: u16,
    /// Largest memory of flows that collect packets at --flows-per-s, in MiB
    #[arg(long, value_name = "MIB", value_parser = quantity, requires = "flows_per_s")]
    pub(crate) memory_mb: Option<f64>,
    /// Guarantee that --guarantee-metric is at most this much below that of the last stage alone
    ///
    /// Risk control: statistical tests on a calibration split that nothing else is fitted on.
    #[arg(long, value_name = "LOSS", value_parser = between, conflicts_with = "escalate")]
    #[arg(help_heading = heading::GUARANTEE)]
    pub(crate) guarantee: Option<f64>,
    /// Metric of the guarantee
    #[arg(long, value_enum, value_name = "METRIC", default_value_t = GuaranteeMetric::Accuracy)]
    #[arg(requires = "guarantee", help_heading = heading::GUARANTEE)]
    pub(crate) guarantee_metric: GuaranteeMetric,
    /// Probability, over the draw of the calibration flows, that the guarantee holds
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = between)]
    #[arg(requires = "guarantee", help_heading = heading::GUARANTEE)]
    pub(crate) confidence: f64,
    /// Label flows that are unlike every class `unknown` (open-set rejection); rejects at most this
    /// share of the known flows of each stage
    ///
    /// Each stage gets a threshold of the novelty score from the calibration split.
    #[arg(long, value_name = "SHARE", value_parser = between, help_heading = heading::UNKNOWN)]
    pub(crate) unknown_rate: Option<f64>,
}

/// Metric of a guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum GuaranteeMetric {
    /// Share of correct labels
    Accuracy,
    /// Mean F1 of the classes
    #[value(name = "macro_f1")]
    MacroF1,
}

impl PlanArgs {
    /// Objective, constraints and escalation rule.
    pub(crate) fn goal(&self, thresholds: ThresholdArgs) -> PlanGoal {
        let by_gate = |measure| Rule::Thresholds(measure, Granularity::from(thresholds.thresholds));
        PlanGoal {
            objective: self.objective,
            limits: Constraints {
                max_loss: self.max_loss,
                max_class_loss: self.max_class_loss,
                p50_ms: self.p50_ms,
                p99_ms: self.p99_ms,
                flows_per_s: self.flows_per_s,
                cores: usize::from(self.cores),
                memory_mb: self.memory_mb,
            },
            rule: thresholds.uncertainty.map_or(self.rule, by_gate),
            stages: None,
            escalate: self.escalate,
            ends_in_best: false,
        }
    }

    /// The guarantee to test, if any.
    pub(crate) fn guarantee(&self) -> Option<Guarantee> {
        let loss = match self.guarantee_metric {
            GuaranteeMetric::Accuracy => Loss::Accuracy,
            GuaranteeMetric::MacroF1 => Loss::MacroF1,
        };
        let confidence = self.confidence;
        self.guarantee.map(|tolerated| Guarantee { loss, tolerated, confidence })
    }
}

/// What candidates there are.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::CANDIDATES)]
pub(crate) struct PoolArgs {
    /// Kinds of model to train as candidates, for --stages auto
    #[arg(long, value_delimiter = ',', value_name = "KIND,...", default_value = "tree,boosted")]
    #[arg(value_parser = kind())]
    pub(crate) kinds: Vec<Kind>,
    /// Also use the first N rounds of boosted trees as smaller candidates
    #[arg(long, value_delimiter = ',', default_value = "20", value_name = "ROUNDS,...")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sizes: Vec<u16>,
    /// Also train candidates on these encoders instead of --features, such as
    /// packet_series+flow_stats; repeatable
    #[arg(long, value_name = "ENCODERS", value_parser = encoders)]
    pub(crate) extra_features: Vec<Encoders>,
    /// Also use the stages of this bundle, with models of other libraries, as candidates;
    /// repeatable
    ///
    /// `serveflow bundle add` makes such a bundle. --cross-fit is then off, because there are no
    /// versions of those models that were trained without a part of the captures.
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) external_bundle: Vec<PathBuf>,
    /// Longest waits for packets, in milliseconds [default: --wait-ms]
    #[arg(long, value_delimiter = ',', value_name = "MS,...", value_parser = wait())]
    pub(crate) waits_ms: Vec<u64>,
    /// Parts of the training captures for cross-fitting; 0 or 1 for none
    ///
    /// Models trained without a part score its flows, so that the plan is chosen on more than the
    /// calibration split.
    #[arg(long, value_name = "PARTS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=20))]
    pub(crate) cross_fit: u16,
    /// Train no further candidate after this time, in seconds; the first two are always trained
    #[arg(long, value_name = "S")]
    pub(crate) budget_s: Option<u64>,
}
