//! `serveflow bench`: the command line.

use super::packets::BenchPacketsArgs;
use crate::commands::args::heading;
use crate::commands::bench_scale::BenchScaleArgs;
use crate::commands::data_args::LabelsFrom;
use crate::commands::values::{share, split};
use clap::{Args, Subcommand, ValueEnum};
use serveflow_label::Split;
use serveflow_train::traffic::fresh::MOST_WORKERS;
use serveflow_train::traffic::generator::Arrivals;
use std::path::PathBuf;

/// `serveflow bench`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Serve a cascade under load: capacity, latency, drops and quality
    Traffic(Box<BenchTrafficArgs>),
    /// Compare the cascade with its slow and its fast model alone and with queueing, as the paper
    /// does, on the same flows
    Paper(Box<BenchPaperArgs>),
    /// Measure the time per flow of reference models, and their error against expected scores
    Models(BenchModelsArgs),
    /// Measure the time per packet of reading, parsing, the flow table and storing packets
    Packets(BenchPacketsArgs),
    /// Simulate the capacity of more cores from costs measured on this machine
    Scale(BenchScaleArgs),
}

/// Labelled flows to clone.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::INPUT)]
pub(crate) struct ClonedArgs {
    /// Bundle to serve [default: that of the shipped sample]
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Directory of labelled captures whose flows are cloned [default: the shipped sample]
    #[arg(long, value_name = "DIR")]
    pub(crate) captures: Option<PathBuf>,
    /// Label table (CSV), one row per flow; its column `file` is relative to --captures
    #[arg(long, value_name = "FILE", requires = "captures")]
    pub(crate) labels: Option<PathBuf>,
    /// Source of labels without a table
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = LabelsFrom::Path)]
    #[arg(conflicts_with = "labels")]
    pub(crate) labels_from: LabelsFrom,
    /// Split of the flows to clone
    #[arg(long, default_value = "test", value_parser = split())]
    pub(crate) split: Split,
    /// Factor of the gaps between a flow's packets, or `captured` (1) or `none` (0)
    #[arg(long, default_value = "captured", value_name = "GAPS", value_parser = gaps)]
    #[arg(help_heading = heading::TRAFFIC)]
    pub(crate) gaps: f64,
    /// Snap length: bytes kept of each packet, at least 96; 0 keeps all
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = snap_bytes)]
    #[arg(help_heading = heading::TRAFFIC)]
    pub(crate) snap_bytes: usize,
    /// Arrival process of new flows
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Poisson)]
    #[arg(help_heading = heading::TRAFFIC)]
    pub(crate) arrivals: ArrivalsArg,
    /// Random seed; the same seed makes the same packets
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = heading::TRAFFIC)]
    pub(crate) seed: u64,
    /// Receive ring of each worker in paced runs, in packets; packets that find it full are dropped
    #[arg(long, value_name = "PACKETS", default_value_t = 4096, value_parser = ring)]
    #[arg(help_heading = heading::TRAFFIC)]
    pub(crate) ring: u64,
    /// Also write the results as JSON (keys: docs/bench.md)
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) json: Option<PathBuf>,
    /// Also write the results as an HTML page with plots
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) html: Option<PathBuf>,
}

/// `serveflow bench traffic`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench traffic                               # the sample, as fast as possible
  serveflow bench traffic --sweep --html load.html      # 200 to 60,000 flows/s and beyond
  serveflow bench traffic --synthetic --packets-per-flow 20 --rates 5000,50000 --mode paced
  serveflow bench traffic --replay capture.pcap --bundle bundle --json figures.json")]
pub(crate) struct BenchTrafficArgs {
    /// Replay these captures unchanged instead of cloning flows
    #[arg(long, value_name = "CAPTURE", num_args = 1..)]
    #[arg(conflicts_with_all = ["captures", "synthetic", "rates", "sweep"])]
    #[arg(help_heading = heading::INPUT)]
    pub(crate) replay: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cloned: ClonedArgs,
    #[command(flatten)]
    pub(crate) made: SyntheticArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// `serveflow bench paper`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench paper                                 # the shipped sample
  serveflow bench paper --html paper.html --json paper.json
  serveflow bench paper --bundle bundle --captures data/iot_sentinel \\
    --labels data/iot_sentinel/labels.csv")]
pub(crate) struct BenchPaperArgs {
    #[command(flatten)]
    pub(crate) cloned: ClonedArgs,
    /// New flows per second of the paced runs
    #[arg(long, value_name = "FLOWS_PER_S", default_value_t = 1000.0, value_parser = rate)]
    #[arg(help_heading = heading::LOAD)]
    pub(crate) rate: f64,
    /// Wall time in which flows start in the paced runs, in seconds
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    #[arg(help_heading = heading::LOAD)]
    pub(crate) seconds: f64,
    /// Copies of each flow in the runs at full speed
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = heading::LOAD)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) copies: u64,
    /// Rounds of the runs at full speed; the round with the median rate is shown
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = heading::LOAD)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: u64,
    /// Most flows that the consumer of the queue scores together
    #[arg(long, value_name = "FLOWS", default_value_t = 64, value_parser = ring)]
    #[arg(help_heading = heading::QUEUE)]
    pub(crate) queue_batch: u64,
    /// Capacity of the queue, in flows
    #[arg(long, value_name = "FLOWS", default_value_t = 1024, value_parser = ring)]
    #[arg(help_heading = heading::QUEUE)]
    pub(crate) queue_flows: u64,
}

/// `serveflow bench models`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench models --models reference
  serveflow bench models --models reference --seconds 5 --json models.json")]
pub(crate) struct BenchModelsArgs {
    /// Directory of reference models, test rows and expected scores, compressed with Zstandard
    #[arg(long, value_name = "DIR", help_heading = heading::INPUT)]
    pub(crate) models: PathBuf,
    /// Time per model and batch size, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0, help_heading = heading::MEASUREMENT)]
    pub(crate) seconds: f64,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) json: Option<PathBuf>,
}

/// Synthetic flows.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::SYNTHETIC)]
pub(crate) struct SyntheticArgs {
    /// Generate flows from the seed instead of cloning real ones
    #[arg(long, conflicts_with = "captures")]
    pub(crate) synthetic: bool,
    /// Mean packets per flow, 1 to 1000; most flows are shorter, few are very long
    #[arg(long, value_name = "PACKETS", default_value_t = 7.7, value_parser = mean_packets)]
    #[arg(requires = "synthetic")]
    pub(crate) packets_per_flow: f64,
    /// Mean payload of packets that have one, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 500.0, value_parser = positive)]
    #[arg(requires = "synthetic")]
    pub(crate) payload_bytes: f64,
    /// Mean gap between a flow's packets, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = positive)]
    #[arg(requires = "synthetic")]
    pub(crate) gap_ms: f64,
    /// Share of flows over IPv6
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    #[arg(requires = "synthetic")]
    pub(crate) ipv6_share: f64,
    /// Share of flows over TCP; the others use UDP
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share)]
    #[arg(requires = "synthetic")]
    pub(crate) tcp_share: f64,
}

/// How much, how fast, on how many cores.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::LOAD)]
pub(crate) struct LoadArgs {
    /// Pace of the packets [default: memory; paced with --sweep]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// New flows per second of all workers together; one run per rate
    #[arg(long, value_name = "FLOWS_PER_S,...", value_delimiter = ',', default_value = "10000")]
    #[arg(value_parser = rate)]
    pub(crate) rates: Vec<f64>,
    /// Run 200, 500, 1000, 2000, 5000, 10000, 20000, 48500 and 60000 flows/s, then double the rate
    /// until a limit is exceeded
    #[arg(long, conflicts_with = "rates")]
    pub(crate) sweep: bool,
    /// Wall time in which flows start at each rate, in seconds
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Most flows per run [default: those that start within --seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) flows: Option<u64>,
    /// Worker threads, each with its own flows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = workers)]
    pub(crate) workers: u64,
    /// Largest 99th percentile of the time from the deciding packet to the verdict, in
    /// milliseconds; a rate above it is too high
    #[arg(long, value_name = "MS", default_value_t = 16.0, value_parser = positive)]
    pub(crate) limit_ms: f64,
}

/// Pace of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// As fast as they are served: measures capacity
    Memory,
    /// By the clock: measures latency and drops under a load
    Paced,
}

/// Arrival process of new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalsArg {
    /// Random, a Poisson process
    Poisson,
    /// Equally spaced
    Constant,
}

impl From<ArrivalsArg> for Arrivals {
    fn from(arrivals: ArrivalsArg) -> Self {
        match arrivals {
            ArrivalsArg::Poisson => Self::Poisson,
            ArrivalsArg::Constant => Self::Constant,
        }
    }
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 1.0, 1e8)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.01, 3600.0)
}

fn positive(text: &str) -> Result<f64, String> {
    within(text, 0.001, 1e6)
}

fn mean_packets(text: &str) -> Result<f64, String> {
    within(text, 1.0, 1000.0)
}

fn gaps(text: &str) -> Result<f64, String> {
    match text {
        "captured" => Ok(1.0),
        "none" => Ok(0.0),
        factor => within(factor, 0.0, 100.0)
            .map_err(|_| "expected captured, none or a factor from 0 to 100".to_owned()),
    }
}

/// Shorter than this, headers would be cut and their flows lost.
const LEAST_SNAP_BYTES: usize = 96;

fn snap_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|&bytes| bytes == 0 || bytes >= LEAST_SNAP_BYTES);
    bytes.ok_or_else(|| format!("expected 0, or at least {LEAST_SNAP_BYTES} bytes"))
}

fn whole(text: &str, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

fn workers(text: &str) -> Result<u64, String> {
    whole(text, MOST_WORKERS as u64)
}

fn ring(text: &str) -> Result<u64, String> {
    whole(text, 1 << 24)
}
