//! `serveflow bundle`: the command line.

use crate::commands::args::heading;
use crate::commands::data_args::{FeatureArgs, LabelsFrom};
use crate::commands::train_args::{LaneArgs, Thresholds};
use crate::commands::values::{lane, measure, model_format, share};
use clap::{Args, Subcommand};
use serveflow_core::gate::Uncertainty;
use serveflow_train::pipeline::Tier;
use std::path::PathBuf;

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Put a model file into a stage of a bundle; creates the bundle if it is missing
    Add(Box<BundleAddArgs>),
    /// Recompute the hashes of a bundle whose files you edited
    Pack(BundlePackArgs),
    /// Verify the hashes of a bundle, bind every model, and show its stages
    Check(BundleCheckArgs),
}

/// `serveflow bundle add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bundle add mine --stage lgb@10 --model model.txt --packets 10 \\
    --captures data/app_protocol --labels data/app_protocol/labels.csv
  serveflow bundle add mine --stage cnn@10 --model cnn.onnx --packets 10 --logits \\
    --columns features.parquet --captures data/app_protocol --labels data/app_protocol/labels.csv
  serveflow bundle add mine --stage lgb@10 --model better.txt --captures captures

Columns: those of the stage in the order of `serveflow features`, unless the model file or
--columns names them.
Classes: the labels of the bundle in their order, unless the model file or --classes names them.
Checks: with labelled captures, a model is refused if the calibration flows fit another order of
its columns or classes far better, or if its probabilities differ from those of --expect.
Gates: in a bundle of several stages, all thresholds are calibrated again on the split `val`.")]
pub(crate) struct BundleAddArgs {
    /// Directory of the bundle; created if missing
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Name of the stage; an existing stage gets the new model
    #[arg(long, value_name = "NAME", help_heading = heading::BUNDLE)]
    pub(crate) stage: String,
    /// Task of a new bundle, in words
    #[arg(long, value_name = "TEXT", help_heading = heading::BUNDLE)]
    pub(crate) task: Option<String>,
    /// Model file
    #[arg(long, value_name = "FILE", help_heading = heading::MODEL)]
    pub(crate) model: PathBuf,
    /// Format of the model file [default: by its content and name]
    #[arg(long, value_name = "FORMAT", value_parser = model_format())]
    #[arg(help_heading = heading::MODEL)]
    pub(crate) format: Option<String>,
    /// Columns of the model in its order: a table of `serveflow features` (Parquet or CSV), or a
    /// text file with one name per line
    /// [default: the names in the model file, else all columns of the stage]
    #[arg(long, value_name = "FILE", help_heading = heading::MODEL)]
    pub(crate) columns: Option<PathBuf>,
    /// Classes of the model in its order, as labels
    /// [default: those in the model file, else the labels of the bundle]
    #[arg(long, value_delimiter = ',', value_name = "LABEL,...", allow_hyphen_values = true)]
    #[arg(help_heading = heading::MODEL)]
    pub(crate) classes: Vec<String>,
    /// Value that was missing in training, such as the zeros of a sparse matrix
    /// [default: only what the model file declares]
    #[arg(long, value_name = "zero|VALUE", value_parser = missing, allow_hyphen_values = true)]
    #[arg(help_heading = heading::MODEL)]
    pub(crate) missing: Option<f32>,
    /// The model returns logits; apply a softmax
    #[arg(long, help_heading = heading::MODEL)]
    pub(crate) logits: bool,
    /// Table of the library's probabilities for flows of the captures (CSV or Parquet, columns
    /// `p_LABEL`); a model that differs is refused
    ///
    /// Rows are matched by the leading columns of `serveflow features`, or by their order.
    #[arg(long, value_name = "FILE", requires = "captures", help_heading = heading::CHECKS)]
    pub(crate) expect: Option<PathBuf>,
    /// Largest difference to the probabilities of --expect
    #[arg(long, value_name = "DIFFERENCE", default_value_t = 1e-4, value_parser = share)]
    #[arg(help_heading = heading::CHECKS)]
    pub(crate) tolerance: f64,
    /// Accept a model although another order of its classes or columns fits far better
    #[arg(long, help_heading = heading::CHECKS)]
    pub(crate) accept: bool,
    /// Directory of labelled captures, to check the model and to calibrate the gates
    #[arg(long, value_name = "DIR", help_heading = heading::INPUT)]
    pub(crate) captures: Option<PathBuf>,
    /// Label table (CSV), one row per flow; its column `file` is relative to --captures
    #[arg(long, value_name = "FILE", requires = "captures", help_heading = heading::INPUT)]
    pub(crate) labels: Option<PathBuf>,
    /// Source of labels without a table
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = LabelsFrom::Path)]
    #[arg(conflicts_with = "labels", help_heading = heading::INPUT)]
    pub(crate) labels_from: LabelsFrom,
    /// Packets of the stage; required for a new stage, with the features below
    #[arg(long, value_name = "N", help_heading = heading::FEATURES)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..i64::from(Tier::WINDOW)))]
    pub(crate) packets: Option<u16>,
    /// Score a flow at the end of each window, with the window's first --packets packets
    #[arg(long, requires = "packets", help_heading = heading::FEATURES)]
    pub(crate) at_window_end: bool,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Largest loss of macro-F1 on the calibration flows against the last stage alone
    #[arg(long, value_name = "F1", default_value_t = 0.005, value_parser = share)]
    #[arg(help_heading = heading::THRESHOLDS)]
    pub(crate) max_loss: f64,
    /// Escalate this share of the flows to the last stage, in place of --max-loss
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "max_loss")]
    #[arg(help_heading = heading::THRESHOLDS)]
    pub(crate) escalate: Option<f64>,
    /// Uncertainty that the gates compare with their thresholds
    #[arg(long, value_parser = measure(), default_value = "least_confidence")]
    #[arg(help_heading = heading::THRESHOLDS)]
    pub(crate) uncertainty: Uncertainty,
    /// Thresholds per gate
    #[arg(long, value_enum, default_value_t = Thresholds::PerClass)]
    #[arg(help_heading = heading::THRESHOLDS)]
    pub(crate) thresholds: Thresholds,
    /// Lane of the stage [default: for forests by --inline-budget-us, else batch]
    #[arg(long, value_name = "LANE", value_parser = lane(), help_heading = heading::LANES)]
    pub(crate) lane: Option<String>,
    #[command(flatten)]
    pub(crate) lanes: LaneArgs,
}

/// `serveflow bundle pack`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bundle pack mine
  sed -i 's/^task = .*/task = \"IoT devices\"/' mine/plan.toml && serveflow bundle pack mine")]
pub(crate) struct BundlePackArgs {
    /// Directory of the bundle
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
}

/// `serveflow bundle check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bundle check mine
  serveflow bundle check mine --id 3f2a9c51")]
pub(crate) struct BundleCheckArgs {
    /// Directory of the bundle
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Expected id: SHA-256 of the hash list, or at least its first 8 digits
    #[arg(long, value_name = "HEX", help_heading = heading::BUNDLE)]
    pub(crate) id: Option<String>,
}

fn missing(text: &str) -> Result<f32, String> {
    let value = if text == "zero" { Some(0.0) } else { text.parse().ok() };
    let finite = value.filter(|value: &f32| value.is_finite());
    finite.ok_or_else(|| format!("expected `zero` or a finite number, found `{text}`"))
}
