//! What can be typed of `serveflow bundle`.

use crate::commands::args::{FeatureArgs, LabelsFrom, Thresholds, measure, share};
use clap::{Args, Subcommand};
use serveflow_core::gate::Uncertainty;
use serveflow_train::pipeline::Tier;
use std::path::PathBuf;

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Put a model file into a stage of a bundle, or begin a bundle with it
    Add(Box<BundleAddArgs>),
    /// Write the hashes of a bundle anew, after its files were changed by hand
    Pack(BundlePackArgs),
    /// Hold a bundle to its hashes, bind every model, and tell what it holds
    Check(BundleCheckArgs),
}

/// `serveflow bundle add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bundle add mine --stage lgb@10 --model model.txt --packets 10 --captures data/app_protocol \\
    --labels data/app_protocol/labels.csv
  serveflow bundle add mine --stage cnn@10 --model cnn.onnx --packets 10 --columns features.parquet \\
    --captures data/app_protocol --labels data/app_protocol/labels.csv --logits
  serveflow bundle add mine --stage lgb@10 --model better.txt --captures ... --labels ...

The columns of a model are those of the stage in the order in which `serveflow features` writes them, unless the
model or --columns names them. The classes are the bundle's labels in their order, unless the model or --classes
names them. Labelled captures tell whether both fit: a model that would be right far more often with another order
is refused, and so is one whose answers are not those of --expect. Where the bundle has several stages, the thresholds of all gates are calibrated on
the split `val` of the labelled captures.")]
pub(crate) struct BundleAddArgs {
    /// The bundle: a directory, made if need be
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Name of the stage; one that is there gets the new model
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: String,
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// Its format [default: what the file's content and name say]
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub(crate) format: Option<String>,
    /// The model's columns in its order: a table that `serveflow features` wrote (Parquet or CSV), or a text
    /// with a name a line [default: the names in the model file, or all columns of the stage in their order]
    #[arg(long, value_name = "FILE")]
    pub(crate) columns: Option<PathBuf>,
    /// The model's classes in its order, as labels [default: those in the model file, or the bundle's labels]
    #[arg(long, value_delimiter = ',', value_name = "LABEL", allow_hyphen_values = true)]
    pub(crate) classes: Vec<String>,
    /// The value that was missing to the library that trained the model, as the zeros of a sparse matrix are
    /// [default: none; what the file itself says of zeros holds]
    #[arg(long, value_name = "zero|VALUE", value_parser = missing, allow_hyphen_values = true)]
    pub(crate) missing: Option<f32>,
    /// A table of the library's own probabilities for flows of the captures (CSV or Parquet, columns `p_LABEL`), to
    /// which the model's answers are held: row by row as `serveflow features` writes them, or by its leading columns
    #[arg(long, value_name = "FILE", requires = "captures")]
    pub(crate) expect: Option<PathBuf>,
    /// How far probabilities may be from those of --expect
    #[arg(long, value_name = "DIFFERENCE", default_value_t = 1e-4, value_parser = share)]
    pub(crate) tolerance: f64,
    /// Take the model although the calibration flows fit another order of its classes or columns far better
    #[arg(long)]
    pub(crate) accept: bool,
    /// The model ends in logits, which a softmax makes probabilities of
    #[arg(long)]
    pub(crate) logits: bool,
    /// Packets that the stage wants; needed for a new stage, whose features the options below say
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..i64::from(Tier::WINDOW)))]
    pub(crate) packets: Option<u16>,
    /// The stage is asked when the window ends, with its first --packets packets
    #[arg(long, requires = "packets")]
    pub(crate) at_window_end: bool,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// The lane of the stage [default: for forests what --inline-budget-us allows, else batch]
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<String>,
    /// Directory of labelled captures, to calibrate the gates on
    #[arg(long, value_name = "DIR")]
    pub(crate) captures: Option<PathBuf>,
    /// Table with a line per flow; its `file` is relative to --captures
    #[arg(long, value_name = "FILE", requires = "captures")]
    pub(crate) labels: Option<PathBuf>,
    /// Where labels stand when there is no table
    #[arg(long, value_enum, default_value_t = LabelsFrom::Path, conflicts_with = "labels")]
    pub(crate) labels_from: LabelsFrom,
    /// Macro-F1 that the cascade may lose against its last stage alone, on the calibration flows
    #[arg(long, value_name = "LOSS", default_value_t = 0.005, value_parser = share)]
    pub(crate) max_loss: f64,
    /// Share of the flows that is to reach the last stage, in place of --max-loss
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "max_loss")]
    pub(crate) escalate: Option<f64>,
    /// Doubt by which gates decide: least_confidence, margin or entropy
    #[arg(long, value_parser = measure, default_value = "least_confidence")]
    pub(crate) measure: Uncertainty,
    /// One threshold per gate, or one per gate and predicted class
    #[arg(long, value_enum, default_value_t = Thresholds::PerClass)]
    pub(crate) thresholds: Thresholds,
    /// Longest time that scoring a full batch of a forest may hold up the packet path, microseconds
    #[arg(long, value_name = "US", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000))]
    pub(crate) inline_budget_us: u64,
    /// What the new bundle names, in words
    #[arg(long, value_name = "TEXT")]
    pub(crate) task: Option<String>,
}

/// `serveflow bundle pack`
#[derive(Debug, Args)]
pub(crate) struct BundlePackArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
}

/// `serveflow bundle check`
#[derive(Debug, Args)]
pub(crate) struct BundleCheckArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// The id that it must have: SHA-256 of its hash list, or the first digits of it
    #[arg(long, value_name = "HEX")]
    pub(crate) id: Option<String>,
}

fn missing(text: &str) -> Result<f32, String> {
    let value = if text == "zero" { Some(0.0) } else { text.parse().ok() };
    let finite = value.filter(|value: &f32| value.is_finite());
    finite.ok_or_else(|| format!("expected `zero` or a finite number, found `{text}`"))
}

fn format() -> clap::builder::PossibleValuesParser {
    serveflow_model::formats::FORMATS.iter().map(|entry| entry.name).collect::<Vec<_>>().into()
}
