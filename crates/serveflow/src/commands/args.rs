//! The command line: what can be typed.

use super::bench::args::{BenchPaperArgs, BenchTrafficArgs};
use super::bench::packets::BenchPacketsArgs;
use super::bundle::BundleCommand;
use super::inputs::TableRuleArgs;
use super::plan_args::{PoolArgs, WishArgs};
pub(crate) use super::trainer_args::TrainerArgs;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serveflow_core::FlowConfig;
use serveflow_core::features::Mask;
use serveflow_core::gate::Uncertainty;
use serveflow_core::parse::Header;
use serveflow_label::Split;
use serveflow_train::pipeline::{Kind, Tier, WINDOW_PACKETS};
use std::path::PathBuf;

/// Names network flows as early as they can be named well.
#[derive(Debug, Parser)]
#[command(name = "serveflow", version, about, long_about = None, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The operator's configuration; see `serveflow inspect --example-config`
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// No progress and no summary on standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done; standard error says what, where, what was expected and what was found
  2  the command line is wrong
  3  an input was damaged, or has packets of a link type that is not supported; all else was served and
     written
  4  done, but something was lost on the way, as standard error says: records that the output did not
     take, answers that models did not give for flows of a capture, or a worker that failed";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay the sample that ships with the project through its cascade
    Demo(DemoArgs),
    /// Train models from labelled captures and plan a cascade of them
    Train(Box<TrainArgs>),
    /// Plan anew from the models of an earlier training: other objective, limits or rule
    Replan(ReplanArgs),
    /// Name the flows of captures or of live interfaces
    Run(RunArgs),
    /// Check a configuration: what it comes to, and what it costs in memory
    Check(CheckArgs),
    /// Look at a running service, or change its bundle
    Control(ControlArgs),
    /// Measure a cascade on labelled captures
    Evaluate(EvaluateArgs),
    /// Write the features of captures as a table
    Features(FeaturesArgs),
    /// Show what a bundle or a capture holds
    Inspect(InspectArgs),
    /// Put models of your own into a bundle, check it, write its hashes anew
    Bundle {
        /// What
        #[command(subcommand)]
        what: BundleCommand,
    },
    /// Measure a cascade under load, and what its parts cost on this machine
    Bench {
        /// Which part
        #[command(subcommand)]
        what: BenchCommand,
    },
    /// Write the completions of a shell to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual page to standard output
    Man,
}

/// Labelled captures.
#[derive(Debug, Args)]
pub(crate) struct Labelled {
    /// Directory of captures
    #[arg(long, value_name = "DIR")]
    pub(crate) captures: PathBuf,
    /// Table with a line per flow (columns: see README); its `file` is relative to --captures
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Where labels stand when there is no table
    #[arg(long, value_enum, default_value_t = LabelsFrom::Path, conflicts_with = "labels")]
    pub(crate) labels_from: LabelsFrom,
}

/// Where labels stand when there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelsFrom {
    /// In the folders' or files' names: captures/<label>/*.pcap or captures/<label>.pcap
    Path,
    /// In the packet comments of pcapML captures
    Pcapml,
}

/// Which features.
#[derive(Debug, Args)]
pub(crate) struct FeatureArgs {
    /// Encoders, in row order: some of header_bits, packet_series, flow_stats
    /// [default: header_bits,packet_series; of single packets header_bits]
    #[arg(long, value_delimiter = ',')]
    pub(crate) features: Vec<String>,
    /// Protocols of header_bits
    #[arg(long, value_delimiter = ',', default_value = "ipv4,tcp,udp", value_parser = header)]
    pub(crate) headers: Vec<Header>,
    /// Header fields that no row shows: some of addresses, ports, checksums, ip_id, seq_ack,
    /// tcp_timestamps, ttl; or none
    #[arg(long, value_delimiter = ',', default_value = "addresses,ports,checksums,ip_id,seq_ack")]
    pub(crate) mask: Vec<String>,
    /// Longest wait for a row's packets, milliseconds after the flow's first
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = wait())]
    pub(crate) wait_ms: u64,
    /// Cut flows into windows this long, milliseconds; each is a sample of its own. Windows lie on a grid
    /// that begins with the flow's first packet [default: flows.window_ms of the configuration, or none]
    #[arg(long, value_name = "MS", value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST_MS))]
    pub(crate) window_ms: Option<u64>,
}

/// The longest window: what nanoseconds can hold.
const MOST_MS: u64 = u64::MAX / 1_000_000;

/// How long to wait: for nothing there is a stage of one packet.
pub(crate) fn wait() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=i64::MAX as u64)
}

/// A number that a plan can hold: TOML's integers have a sign.
pub(crate) fn plan_number() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=i64::MAX as u64)
}

fn header(name: &str) -> Result<Header, String> {
    let known = || Header::ALL.map(Header::name).join(", ");
    Header::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}

impl FeatureArgs {
    /// The flow rules of a configuration, with the window that was typed.
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

    /// The masks; `none` stands for no mask.
    pub(crate) fn masks(&self) -> anyhow::Result<Vec<Mask>> {
        let named = self.mask.iter().filter(|name| *name != "none");
        let known = || Mask::ALL.map(Mask::name).join(", ");
        let refused =
            |name| anyhow::anyhow!("--mask: expected some of {} or none, found `{name}`", known());
        named.map(|name| Mask::from_name(name).ok_or_else(|| refused(name))).collect()
    }
}

/// `serveflow train`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow train --captures data/app_protocol --labels data/app_protocol/labels.csv --out bundle
  serveflow train --captures captures --out bundle --p99-ms 1000 --flows-per-s 400000 --cores 2
  serveflow train --captures captures --out bundle --stages tree@1,boosted@3 --max-loss 0.01
  serveflow train --captures captures --out bundle --compare --depths 1,5,10")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) labelled: Labelled,
    /// Where the bundle goes: a directory, made if need be
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) out: PathBuf,
    /// The cascade: KIND@PACKETS in the order they are asked; kinds are tree, forest, boosted.
    /// KIND@window is asked when the window of --window-ms ends, with its first --window-packets packets;
    /// auto searches it among the candidates
    #[arg(long, value_delimiter = ',', default_value = "auto", value_parser = stage)]
    pub(crate) stages: Vec<StageArg>,
    /// Most packets of a window that KIND@window sees
    #[arg(long, value_name = "PACKETS", default_value_t = WINDOW_PACKETS)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..i64::from(Tier::WINDOW)))]
    pub(crate) window_packets: u16,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    #[command(flatten)]
    pub(crate) wish: WishArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Threshold gates on the doubt of each answer in place of a planned rule, for --stages that are
    /// given: least_confidence, margin or entropy
    #[arg(long, value_parser = measure, conflicts_with_all = [
        "rule", "objective", "guarantee", "p50_ms", "p99_ms", "flows_per_s", "memory_mb", "max_class_loss", "cores",
        "unknown_rate",
    ])]
    pub(crate) measure: Option<Uncertainty>,
    /// With --measure: one threshold per gate, or one per gate and predicted class
    #[arg(long, value_enum, default_value_t = Thresholds::PerClass, requires = "measure")]
    pub(crate) thresholds: Thresholds,
    /// Longest time that scoring a full batch may hold up the packet path, microseconds. A stage that
    /// was measured to take longer is put on a thread of its own (lane = "thread" in the plan).
    /// Packets wait in the receive ring meanwhile: 1 ms is 4096 of them at 4 million a second
    #[arg(long, value_name = "US", default_value_t = 1_000)]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(..=1_000_000_000_000))]
    pub(crate) inline_budget_us: u64,
    #[command(flatten)]
    pub(crate) trainer: TrainerArgs,
    /// With --unknown-rate: hold out so many classes at the most, each by a training of the last stage
    /// without it, to measure how well flows of classes that were not learned are told; 0 for none
    #[arg(long, value_name = "N", default_value_t = 8, requires = "unknown_rate")]
    pub(crate) unknown_classes: u16,
    /// Leave out the honest evaluation of the best single model: other masks and splits, duplicates,
    /// neighbours, intervals. It trains that model up to four more times, on what it sees unmasked too
    #[arg(long)]
    pub(crate) no_honest: bool,
    /// Also train each kind of model at each of --depths and print how good each is alone
    #[arg(long)]
    pub(crate) compare: bool,
    /// Packet depths of candidates, and of --compare
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,5,10", value_name = "PACKETS")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) depths: Vec<u16>,
}

/// A stage of a cascade that is given, or that it is to be searched.
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
    /// The bundle, with the candidates that train left in its folder `pool`
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// Where the new bundle goes: a directory, made if need be
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) out: PathBuf,
    /// The cascade, by the candidates' names as the report has them; auto searches it
    #[arg(long, value_delimiter = ',', default_value = "auto")]
    pub(crate) stages: Vec<String>,
    #[command(flatten)]
    pub(crate) wish: WishArgs,
    /// As for train
    #[arg(long, value_name = "US", default_value_t = 1_000)]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(..=1_000_000_000_000))]
    pub(crate) inline_budget_us: u64,
}

/// How many thresholds a gate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thresholds {
    /// One for all classes
    Universal,
    /// One per predicted class
    PerClass,
}

pub(crate) fn measure(name: &str) -> Result<Uncertainty, String> {
    let known = || Uncertainty::ALL.map(Uncertainty::name).join(", ");
    Uncertainty::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A share of something, and not of nothing.
fn some_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a number above 0 and up to 1".to_owned())
}

/// All kinds of model, for `--compare`.
pub(crate) const COMPARED_KINDS: [Kind; 3] = Kind::ALL;

/// `serveflow run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow run capture.pcap --bundle bundle > verdicts.jsonl
  serveflow run captures/ more.pcapng.gz --bundle bundle --format csv --out verdicts.csv
  zcat big.pcap.gz | serveflow run - --bundle bundle | jq .label")]
pub(crate) struct RunArgs {
    /// Captures: files, directories, or - for standard input; packets are taken in the order of time.
    /// None: the interfaces of --interface or of the configuration
    #[arg(value_name = "CAPTURE", conflicts_with_all = ["interface", "filter"])]
    pub(crate) captures: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) tables: TableRuleArgs,
    /// Take a pipe for live: packets are not held to be put in order, and waits and timeouts run out
    /// while it is silent. Else a pipe is live whose packets are stamped within 5 s of the wall time
    #[arg(long, requires = "captures")]
    pub(crate) live_pipe: bool,
    /// Listen to an interface, until SIGINT or SIGTERM; may be given several times
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// What to take of interfaces, in the words of tcpdump: pcap-filter(7)
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// The bundle [default: service.bundle of the configuration]
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// json, csv or null [default: as --out ends (.json, .jsonl, .ndjson, .csv), or json]
    #[arg(long, value_parser = sink)]
    pub(crate) format: Option<String>,
    /// Where verdicts go: a file or a named pipe [default: standard output], uncompressed. A
    /// service adds to a file that is there; a run over captures refuses one that is not empty,
    /// unless told otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Add to the file of --out
    #[arg(long, requires = "out")]
    pub(crate) append: bool,
    /// Empty the file of --out first
    #[arg(long, requires = "out", conflicts_with = "append")]
    pub(crate) overwrite: bool,
    /// Also write the first answers that do not stand, marked "final":false
    #[arg(long)]
    pub(crate) provisional: bool,
    /// Threads that share the packets by flow [default: one per core for interfaces and for captures of
    /// 16 MiB and more, else one]. Verdicts are the same for any number; with one, they come out in the same order each
    /// time
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
}

fn sink(name: &str) -> Result<String, String> {
    let known: Vec<&str> = serveflow_output::FORMATS.iter().map(|sink| sink.name).collect();
    let found = known.contains(&name).then(|| name.to_owned());
    found.ok_or_else(|| format!("expected one of {}", known.join(", ")))
}

/// `serveflow check`
#[derive(Debug, Args)]
#[command(after_help = "\
Everything that `run` opens on interfaces is opened and closed again, so what `run` refuses is refused here, with the
same sentence. Run it with the rights of the service.

Examples:
  serveflow check --config /etc/serveflow/serveflow.toml
  serveflow check --config /etc/serveflow/serveflow.toml --running    # beside the service")]
pub(crate) struct CheckArgs {
    /// The bundle [default: service.bundle of the configuration]
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// As of run: an interface; may be given several times
    #[arg(short, long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// As of run: what to take of interfaces
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// As of run: threads that share the packets
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// As of run: where verdicts go. A file is opened as run opens it; one that was not there is
    /// removed again
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The service is running: do not open its output, its addresses and its control socket, which
    /// are in use
    #[arg(long)]
    pub(crate) running: bool,
}

/// `serveflow control`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow control status --config /etc/serveflow/serveflow.toml
  serveflow control reload --socket /run/serveflow/control.sock --bundle /srv/bundles/new
  serveflow control rollback --socket /run/serveflow/control.sock
  serveflow control shadow --socket /run/serveflow/control.sock --bundle /srv/bundles/new --share 0.2
  serveflow control promote --socket /run/serveflow/control.sock")]
pub(crate) struct ControlArgs {
    /// What to do
    #[arg(value_enum)]
    pub(crate) what: Order,
    /// The control socket [default: service.control of the configuration]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// For reload and shadow: the bundle [default of reload: the present one, read anew]
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// For shadow: the share of the flows that it sees, above 0 and up to 1
    #[arg(long, default_value_t = 0.1, value_parser = some_share)]
    pub(crate) share: f64,
}

/// What a running service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Say where packets and flows went so far, as JSON
    Status,
    /// Write the metrics as Prometheus reads them
    Metrics,
    /// Serve another bundle, or the present one read anew; flows under way keep theirs
    Reload,
    /// Serve the bundle before this one again
    Rollback,
    /// Let another bundle see a share of the flows and say nothing; status tells how it compares
    Shadow,
    /// End the shadow
    Unshadow,
    /// Serve the bundle in the shadow from now on
    Promote,
    /// Give every open flow its verdict, and end
    Stop,
}

/// `serveflow evaluate`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  serveflow evaluate --bundle bundle --captures data/app_protocol \\
      --labels data/app_protocol/labels.csv --split test --json evaluation.json")]
pub(crate) struct EvaluateArgs {
    /// The bundle
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) labelled: Labelled,
    /// Which flows: train, val or test
    #[arg(long, default_value = "test", value_parser = split)]
    pub(crate) split: Split,
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

pub(crate) fn split(name: &str) -> Result<Split, String> {
    Split::from_name(name).ok_or_else(|| "expected train, val or test".to_owned())
}

/// `serveflow features`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow features capture.pcap --out features.csv
  serveflow features capture.pcap --packets 10 --out features.parquet
  serveflow features capture.pcap --per packet --features header_bits --mask none --out nprint.csv")]
pub(crate) struct FeaturesArgs {
    /// Captures: files, directories, or - for standard input; packets are taken in the order of time
    #[arg(required = true, value_name = "CAPTURE")]
    pub(crate) captures: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) tables: TableRuleArgs,
    /// Format of the table [default: as --out ends (.csv, .parquet), or csv]
    #[arg(long, value_enum)]
    pub(crate) format: Option<TableFormat>,
    /// Where the table goes; - is standard output. A file that is there and not empty is refused
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Empty the file of --out first
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// A row per flow or per packet
    #[arg(long, value_enum, default_value_t = RowPer::Flow)]
    pub(crate) per: RowPer,
    /// Packets that a flow's row covers
    #[arg(long, default_value_t = 1)]
    pub(crate) packets: u16,
    /// Take each row when its window ends, with at most --packets packets, as KIND@window has it; needs
    /// --window-ms
    #[arg(long)]
    pub(crate) at_window_end: bool,
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Table with a line per flow, whose labels and splits become columns; its `file` is relative
    /// to the table's directory. Each capture then has a flow table of its own, and captures that
    /// it does not list are left out
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
}

/// Format of a feature table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Comma-separated values
    Csv,
    /// Apache Parquet
    Parquet,
}

/// What a row of a feature table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowPer {
    /// A flow's first packets
    Flow,
    /// A packet, as the nPrint tool writes them
    Packet,
}

/// `serveflow inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow inspect bundle
  serveflow inspect capture.pcap
  serveflow inspect --example-config > serveflow.toml")]
pub(crate) struct InspectArgs {
    /// A bundle's directory, or captures
    #[arg(value_name = "PATH", required_unless_present = "example_config")]
    pub(crate) paths: Vec<PathBuf>,
    /// Write a commented serveflow.toml with every key and its default
    #[arg(long)]
    pub(crate) example_config: bool,
}

/// `serveflow demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Directory of the sample: captures, labels.csv and a bundle
    #[arg(long, value_name = "DIR")]
    pub(crate) sample: Option<PathBuf>,
}

/// `serveflow bench`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// A cascade under load: service rate, latency, drops, and how good its answers are
    Traffic(Box<BenchTrafficArgs>),
    /// The paper's comparison: the cascade, its slow and its fast model alone, and a queue in front
    /// of the slow model, side by side on the same flows
    Paper(Box<BenchPaperArgs>),
    /// Time per flow of reference models, and their largest difference from the expected scores
    Models(BenchModelsArgs),
    /// Time per packet of reading, parsing, the flow table and keeping packets, on a capture
    Packets(BenchPacketsArgs),
    /// What more cores are expected to give, simulated from costs that are measured here
    Scale(super::bench_scale::BenchScaleArgs),
}

/// `serveflow bench models`
#[derive(Debug, Args)]
pub(crate) struct BenchModelsArgs {
    /// Directory of reference models, test rows and expected scores, compressed by zstd
    #[arg(long, value_name = "DIR")]
    pub(crate) models: PathBuf,
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Seconds to spend on each model and batch size
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
}
