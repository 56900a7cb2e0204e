//! The command line: what is wanted of a plan, and what it may be made of.

use super::args::{measure, share, wait};
use clap::{Args, ValueEnum};
use serveflow_core::features::ENCODERS;
use serveflow_train::pipeline::Kind;
use serveflow_train::planner::limits::Objective;
use serveflow_train::planner::replay::Rule;
use serveflow_train::risk_control::{Guarantee, Loss};
use std::path::PathBuf;

/// What is wanted of a cascade.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plan")]
pub(crate) struct WishArgs {
    /// What to make small: latency, cpu or escalation
    #[arg(long, default_value = "latency", value_parser = objective)]
    pub(crate) objective: Objective,
    /// Macro-F1 on the calibration flows may be at most this much below the best single model
    #[arg(long, value_name = "F1", default_value_t = 0.005, conflicts_with = "escalate")]
    #[arg(value_parser = share)]
    pub(crate) max_loss: f64,
    /// Any class's recall may be at most this much below that of the best single model
    #[arg(long, value_name = "RECALL", value_parser = share)]
    pub(crate) max_class_loss: Option<f64>,
    /// Longest median from a flow's first packet to its verdict, milliseconds
    #[arg(long, value_name = "MS", value_parser = quantity)]
    pub(crate) p50_ms: Option<f64>,
    /// Longest 99th percentile of the same
    #[arg(long, value_name = "MS", value_parser = quantity)]
    pub(crate) p99_ms: Option<f64>,
    /// New flows per second that must be served
    #[arg(long, value_name = "FLOWS", value_parser = quantity)]
    pub(crate) flows_per_s: Option<f64>,
    /// Cores that serve
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) cores: u16,
    /// Most memory of flows that wait for packets, at --flows-per-s, MiB
    #[arg(long, value_name = "MIB", value_parser = quantity, requires = "flows_per_s")]
    pub(crate) memory_mb: Option<f64>,
    /// Promise that what --guarantee-of names is at most this much below the last stage alone, by tests
    /// on a calibration split that nothing else is fitted on
    #[arg(long, value_name = "LOSS", value_parser = between, conflicts_with = "escalate")]
    pub(crate) guarantee: Option<f64>,
    /// What is guaranteed: accuracy or macro_f1
    #[arg(long, value_enum, default_value_t = PromiseOf::Accuracy, requires = "guarantee")]
    pub(crate) guarantee_of: PromiseOf,
    /// Probability, over the draw of the calibration flows, that the guarantee is true
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = between)]
    #[arg(requires = "guarantee")]
    pub(crate) confidence: f64,
    /// Let this share of the flows reach the last stage, in place of limits
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) escalate: Option<f64>,
    /// Say "unknown" of flows that are likely of no class that was learned, of at most this share of the
    /// known flows of each stage: a threshold each, from the calibration split
    #[arg(long, value_name = "SHARE", value_parser = between)]
    pub(crate) unknown_rate: Option<f64>,
    /// What passes flows on: learned (heads that predict what a later stage is worth), or the doubt of
    /// the answer: least_confidence, margin, entropy
    #[arg(long, default_value = "learned", value_parser = rule)]
    pub(crate) rule: Rule,
}

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum PromiseOf {
    /// The share of right answers
    Accuracy,
    /// The mean of the classes' F1
    #[value(name = "macro_f1")]
    MacroF1,
}

impl WishArgs {
    /// What is to be guaranteed.
    pub(crate) fn guarantee(&self) -> Option<Guarantee> {
        let loss = match self.guarantee_of {
            PromiseOf::Accuracy => Loss::Accuracy,
            PromiseOf::MacroF1 => Loss::MacroF1,
        };
        let confidence = self.confidence;
        self.guarantee.map(|tolerated| Guarantee { loss, tolerated, confidence })
    }
}

/// What candidates there are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Candidates")]
pub(crate) struct PoolArgs {
    /// Kinds of model that are candidates, for --stages auto
    #[arg(long, value_delimiter = ',', default_value = "tree,boosted", value_parser = kind)]
    pub(crate) kinds: Vec<Kind>,
    /// Also the first so many rounds of boosted trees as smaller candidates
    #[arg(long, value_delimiter = ',', default_value = "20", value_name = "ROUNDS")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sizes: Vec<u16>,
    /// Also candidates of these encoders in place of --features, such as packet_series+flow_stats; may
    /// be given several times
    #[arg(long, value_name = "ENCODERS", value_parser = encoders)]
    pub(crate) also_features: Vec<Encoders>,
    /// Also the stages of this bundle as candidates, whose models another library trained (`serveflow bundle
    /// add`); may be given several times. Captures are not parted then (--cross-fit), since nobody has
    /// such models that did not see a part
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) join: Vec<PathBuf>,
    /// Longest waits of candidates, milliseconds [default: --wait-ms alone]
    #[arg(long, value_delimiter = ',', value_name = "MS", value_parser = wait())]
    pub(crate) waits_ms: Vec<u64>,
    /// Parts of the training captures that are also answered by models which did not see them, to
    /// choose by more than the calibration split; 0 or 1 for none
    #[arg(long, value_name = "PARTS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=20))]
    pub(crate) cross_fit: u16,
    /// Train no further candidate after so many seconds; the first two are always trained
    #[arg(long, value_name = "S")]
    pub(crate) budget_s: Option<u64>,
}

fn objective(name: &str) -> Result<Objective, String> {
    let known = || Objective::ALL.map(Objective::name).join(", ");
    let found = Objective::ALL.into_iter().find(|objective| objective.name() == name);
    found.ok_or_else(|| format!("expected one of {}", known()))
}

fn rule(name: &str) -> Result<Rule, String> {
    if name == Rule::Learned.name() {
        return Ok(Rule::Learned);
    }
    let known = |refused: String| refused.replace("expected one of", "expected learned or one of");
    measure(name).map(Rule::Uncertainty).map_err(known)
}

/// Encoders of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoders(pub(crate) Vec<String>);

fn encoders(text: &str) -> Result<Encoders, String> {
    let known: Vec<&str> = ENCODERS.iter().map(|encoder| encoder.name).collect();
    let names: Vec<String> = text.split('+').map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("expected some of {}, found `{name}`", known.join(", "))),
        None => Ok(Encoders(names)),
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| format!("expected some of {}", known()))
}

/// A share that says something: neither nothing nor all.
fn between(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|&share: &f64| share > 0.0 && share < 1.0);
    share.ok_or_else(|| "expected a number above 0 and below 1".to_owned())
}

/// A number above 0.
fn quantity(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}
