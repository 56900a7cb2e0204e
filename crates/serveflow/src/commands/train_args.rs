//! The command line: training and planning.

use super::args::heading;
use super::data_args::{FeatureArgs, Labelled};
use super::plan_args::{PlanArgs, PoolArgs};
use super::trainer_args::TrainerArgs;
use super::values::{budget_us, measure};
use clap::{Args, ValueEnum};
use serveflow_core::gate::Uncertainty;
use serveflow_train::calibrate::Granularity;
use serveflow_train::pipeline::{Kind, Tier, WINDOW_PACKETS};
use std::path::PathBuf;

/// The options that most trainings need: those of `train -h`. `train --help` has all of them.
const SHORT_HELP: [&str; 15] = [
    "captures",
    "labels",
    "labels_from",
    "out",
    "stages",
    "objective",
    "max_loss",
    "p99_ms",
    "flows_per_s",
    "cores",
    "guarantee",
    "unknown_rate",
    "budget_s",
    "window_ms",
    "threads",
];

const EXAMPLES: &str = "\
Examples:
  serveflow train --captures data/app_protocol --labels data/app_protocol/labels.csv --out bundle
  serveflow train --captures captures --out bundle --p99-ms 1000 --flows-per-s 400000 --cores 2
  serveflow train --captures captures --out bundle --stages tree@1,boosted@3 --max-loss 0.01
  serveflow train --captures captures --out bundle --compare --depths 1,5,10";

/// Leaves in `-h` what most trainings need, and says where the rest is.
pub(crate) fn with_short_help(train: clap::Command) -> clap::Command {
    let globals = ["config", "quiet", "help"];
    let is_short = move |id: &str| SHORT_HELP.contains(&id) || globals.contains(&id);
    train
        .mut_args(move |arg| {
            let is_hidden = !is_short(arg.get_id().as_str());
            arg.hide_short_help(is_hidden)
        })
        .after_help(format!(
            "{EXAMPLES}\n\n`serveflow train --help` shows all options by section: features, \
             candidates, models,\nthresholds, lanes and reports."
        ))
        .after_long_help(EXAMPLES)
}

/// `serveflow train`
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) labelled: Labelled,
    /// Directory of the bundle; created if missing
    #[arg(long, value_name = "BUNDLE", help_heading = heading::OUTPUT)]
    pub(crate) out: PathBuf,
    /// Stages in order, as KIND@PACKETS, or `auto` to search them among the candidates
    ///
    /// Kinds are tree, forest and boosted. A stage KIND@window scores a flow at the end of each
    /// window of --window-ms, with the first --window-packets packets of the window.
    #[arg(long, value_delimiter = ',', value_name = "STAGE,...", default_value = "auto")]
    #[arg(value_parser = stage, help_heading = heading::CASCADE)]
    pub(crate) stages: Vec<StageArg>,
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    /// Hold out at most this many classes, one at a time, to measure how well flows of classes
    /// without training data are detected; 0 for none
    ///
    /// Each takes another training of the last stage.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "unknown_rate")]
    #[arg(help_heading = heading::UNKNOWN)]
    pub(crate) unknown_classes: u16,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Packet depths of the candidates and of --compare
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,5,10", value_name = "PACKETS,...")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..), help_heading = heading::CANDIDATES)]
    pub(crate) depths: Vec<u16>,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Most packets of a window that a stage KIND@window uses
    #[arg(long, value_name = "PACKETS", default_value_t = WINDOW_PACKETS)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..i64::from(Tier::WINDOW)))]
    #[arg(help_heading = heading::FEATURES)]
    pub(crate) window_packets: u16,
    #[command(flatten)]
    pub(crate) trainer: TrainerArgs,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(crate) lanes: LaneArgs,
    /// Skip the audit of the best single model: leakage, duplicates, other masks and splits
    ///
    /// The audit trains that model up to four more times, also on the fields of --mask.
    #[arg(long, help_heading = heading::REPORT)]
    pub(crate) no_audit: bool,
    /// Also train each kind of model at each of --depths alone, and print its scores
    #[arg(long, help_heading = heading::REPORT)]
    pub(crate) compare: bool,
}

/// Thresholds that are calibrated for each gate.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = heading::THRESHOLDS)]
pub(crate) struct ThresholdArgs {
    /// Calibrate an uncertainty threshold for each gate of the given --stages, in place of --rule
    ///
    /// --max-loss is then the largest loss of macro-F1 against the last stage alone.
    #[arg(long, value_parser = measure())]
    #[arg(conflicts_with_all = [
        "rule", "objective", "guarantee", "p50_ms", "p99_ms", "flows_per_s", "memory_mb",
        "max_class_loss", "cores", "unknown_rate",
    ])]
    pub(crate) uncertainty: Option<Uncertainty>,
    /// Thresholds per gate with --uncertainty
    #[arg(long, value_enum, default_value_t = Thresholds::PerClass, requires = "uncertainty")]
    pub(crate) thresholds: Thresholds,
}

/// Where stages run.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::LANES)]
pub(crate) struct LaneArgs {
    /// Longest time that scoring a full batch may block the packet path, in microseconds
    ///
    /// A stage that took longer in a measurement gets its own thread (lane "thread" in the plan).
    /// Packets queue in the receive ring meanwhile: 1 ms is 4,000 packets at 4 million packets/s.
    #[arg(long, value_name = "US", default_value_t = 1_000, value_parser = budget_us())]
    pub(crate) inline_budget_us: u64,
}

/// A stage of a given cascade, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StageArg {
    /// Searched.
    Auto,
    /// Given.
    Tier(Tier),
}

fn stage(text: &str) -> Result<StageArg, String> {
    if text == "auto" { Ok(StageArg::Auto) } else { text.parse().map(StageArg::Tier) }
}

/// `serveflow replan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow replan --bundle bundle --out cheaper --objective cpu
  serveflow replan --bundle bundle --out sooner --max-loss 0.02 --p99-ms 500
  serveflow replan --bundle bundle --out given --stages tree@1,boosted@10")]
pub(crate) struct ReplanArgs {
    /// Bundle with the candidates that `train` wrote to its folder `pool`
    #[arg(long, value_name = "BUNDLE", help_heading = heading::INPUT)]
    pub(crate) bundle: PathBuf,
    /// Directory of the new bundle; created if missing
    #[arg(long, value_name = "BUNDLE", help_heading = heading::OUTPUT)]
    pub(crate) out: PathBuf,
    /// Stages in order, by the names of the candidates in the report, or `auto` to search them
    #[arg(long, value_delimiter = ',', value_name = "STAGE,...", default_value = "auto")]
    #[arg(help_heading = heading::CASCADE)]
    pub(crate) stages: Vec<String>,
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(crate) lanes: LaneArgs,
}

impl From<Thresholds> for Granularity {
    fn from(thresholds: Thresholds) -> Self {
        match thresholds {
            Thresholds::Universal => Self::Universal,
            Thresholds::PerClass => Self::PerClass,
        }
    }
}

/// How many thresholds a gate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thresholds {
    /// One threshold
    Universal,
    /// One threshold per predicted class
    PerClass,
}

/// All kinds of model, for `--compare`.
pub(crate) const COMPARED_KINDS: [Kind; 3] = Kind::ALL;
