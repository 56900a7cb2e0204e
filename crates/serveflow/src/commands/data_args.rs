//! The command line: labelled captures, features, and the commands that look at data.

use super::args::heading;
use super::inputs::TableRuleArgs;
use super::values::{encoder, header, mask, split, wait};
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use serveflow_core::FlowConfig;
use serveflow_core::features::Mask;
use serveflow_core::parse::Header;
use serveflow_label::Split;
use std::path::PathBuf;

/// Labelled captures.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::INPUT)]
pub(crate) struct Labelled {
    /// Directory of labelled captures
    #[arg(long, value_name = "DIR")]
    pub(crate) captures: PathBuf,
    /// Label table (CSV), one row per flow; its column `file` is relative to --captures
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Source of labels without a table
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = LabelsFrom::Path)]
    #[arg(conflicts_with = "labels")]
    pub(crate) labels_from: LabelsFrom,
}

/// Source of labels without a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelsFrom {
    /// Folder or file names: captures/LABEL/*.pcap or captures/LABEL.pcap
    Path,
    /// Packet comments of pcapML captures
    Pcapml,
}

/// Which features.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::FEATURES)]
pub(crate) struct FeatureArgs {
    /// Encoders in row order [default: header_bits,packet_series; for rows per packet: header_bits]
    #[arg(long, value_delimiter = ',', value_name = "ENCODER,...", value_parser = encoder())]
    pub(crate) features: Vec<String>,
    /// Protocols that header_bits encodes
    #[arg(long, value_delimiter = ',', value_name = "PROTOCOL,...", value_parser = header())]
    #[arg(default_value = "ipv4,tcp,udp")]
    pub(crate) headers: Vec<Header>,
    /// Header fields to mask in every row
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...", value_parser = mask())]
    #[arg(default_value = "addresses,ports,checksums,ip_id,seq_ack")]
    pub(crate) mask: Vec<Option<Mask>>,
    /// Longest wait for the packets of a row after the flow's first packet, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = wait())]
    pub(crate) wait_ms: u64,
    /// Cut flows into windows of this length, in milliseconds; each window is a sample
    /// [default: flows.window_ms of the configuration, else no windows]
    ///
    /// The first window starts at the flow's first packet. Empty windows give no sample.
    #[arg(long, value_name = "MS")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST_MS))]
    pub(crate) window_ms: Option<u64>,
}

/// The longest window: what nanoseconds can hold.
const MOST_MS: u64 = u64::MAX / 1_000_000;

impl FeatureArgs {
    /// The flow rules of a configuration, with the window of the command line.
    pub(crate) fn flows(&self, flows: FlowConfig) -> FlowConfig {
        let typed = self.window_ms.map(|ms| ms.saturating_mul(1_000_000));
        FlowConfig { window_ns: typed.unwrap_or(flows.window_ns), ..flows }
    }

    /// The encoders of a flow's row.
    pub(crate) fn encoders(&self) -> Vec<String> {
        if self.features.is_empty() {
            return ["header_bits", "packet_series"].map(str::to_owned).to_vec();
        }
        self.features.clone()
    }

    /// The masked fields.
    pub(crate) fn masks(&self) -> impl Iterator<Item = Mask> {
        self.mask.iter().copied().flatten()
    }
}

/// `serveflow evaluate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow evaluate --bundle bundle --captures captures
  serveflow evaluate --bundle bundle --captures data/app_protocol \\
    --labels data/app_protocol/labels.csv --split val --json evaluation.json")]
pub(crate) struct EvaluateArgs {
    /// Bundle to evaluate
    #[arg(long, value_name = "BUNDLE", help_heading = heading::INPUT)]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) labelled: Labelled,
    /// Split of the flows to evaluate
    #[arg(long, default_value = "test", value_parser = split(), help_heading = heading::INPUT)]
    pub(crate) split: Split,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) json: Option<PathBuf>,
}

/// `serveflow features`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow features capture.pcap --out features.csv
  serveflow features capture.pcap --packets 10 --out features.parquet
  serveflow features capture.pcap --per packet --mask none --out nprint.csv")]
pub(crate) struct FeaturesArgs {
    /// Captures: files, directories, or - for standard input; packets are read in time order
    #[arg(required = true, value_name = "CAPTURE")]
    pub(crate) captures: Vec<PathBuf>,
    /// Label table (CSV) whose labels and splits become columns; its column `file` is relative to
    /// the directory of the table
    ///
    /// Each capture then has its own flow table, and captures that the table does not list are
    /// skipped.
    #[arg(long, value_name = "FILE", help_heading = heading::INPUT)]
    pub(crate) labels: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tables: TableRuleArgs,
    /// File of the table, or - for standard output; a file that is not empty is refused
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) out: PathBuf,
    /// Format of the table [default: by the extension of --out (.csv, .parquet), else csv]
    #[arg(long, value_enum, help_heading = heading::OUTPUT)]
    pub(crate) format: Option<TableFormat>,
    /// Empty the file of --out first
    #[arg(long, help_heading = heading::OUTPUT)]
    pub(crate) overwrite: bool,
    /// What a row holds
    #[arg(long, value_enum, default_value_t = RowPer::Flow, help_heading = heading::ROWS)]
    pub(crate) per: RowPer,
    /// Packets in a flow's row
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = heading::ROWS)]
    pub(crate) packets: u16,
    /// Write each row when its window ends, with at most --packets packets, like a stage
    /// KIND@window; needs --window-ms
    #[arg(long, help_heading = heading::ROWS)]
    pub(crate) at_window_end: bool,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
}

/// Format of a feature table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Comma-separated values
    Csv,
    /// Apache Parquet
    Parquet,
}

/// What a row of a feature table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowPer {
    /// The first packets of a flow
    Flow,
    /// One packet, as the nPrint tool writes it
    Packet,
}

/// `serveflow inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow inspect bundle
  serveflow inspect capture.pcap")]
pub(crate) struct InspectArgs {
    /// Directory of a bundle, or captures
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

/// `serveflow demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow demo
  serveflow demo --sample data/app_protocol")]
pub(crate) struct DemoArgs {
    /// Directory with captures, labels.csv and a bundle [default: the shipped sample]
    ///
    /// The shipped sample is data/app_protocol, if the current directory has it; otherwise its test
    /// split, which the program carries and unpacks to a temporary directory.
    #[arg(long, value_name = "DIR", help_heading = heading::INPUT)]
    pub(crate) sample: Option<PathBuf>,
}
