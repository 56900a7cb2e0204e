//! `serveflow bench`: what can be typed.

use crate::commands::args::{LabelsFrom, share, split};
use clap::{Args, ValueEnum};
use serveflow_label::Split;
use serveflow_train::traffic::fresh::MOST_WORKERS;
use serveflow_train::traffic::generator::Arrivals;
use std::path::PathBuf;

/// The labelled flows that are cloned.
#[derive(Debug, Args)]
pub(crate) struct ClonedArgs {
    /// The bundle [default: that of the sample that ships with the project]
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Directory of labelled captures whose flows are cloned [default: the sample]
    #[arg(long, value_name = "DIR")]
    pub(crate) captures: Option<PathBuf>,
    /// Table with a line per flow (columns: see README); its `file` is relative to --captures
    #[arg(long, value_name = "FILE", requires = "captures")]
    pub(crate) labels: Option<PathBuf>,
    /// Where labels stand when there is no table
    #[arg(long, value_enum, default_value_t = LabelsFrom::Path, conflicts_with = "labels")]
    pub(crate) labels_from: LabelsFrom,
    /// Which flows are cloned: train, val or test
    #[arg(long, default_value = "test", value_parser = split)]
    pub(crate) split: Split,
    /// Gaps between a flow's packets: captured, none, or a factor that they are multiplied by
    #[arg(long, default_value = "captured", value_name = "GAPS", value_parser = gaps)]
    pub(crate) gaps: f64,
    /// Bytes kept of each packet, as a capture's snap length; 0 keeps all
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = snap_bytes)]
    pub(crate) snap_bytes: usize,
    /// How flows begin
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Poisson)]
    pub(crate) arrivals: ArrivalsArg,
    /// Seed of every choice: the same seed makes the same packets
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Receive ring of each worker when paced, packets; what finds it full is dropped
    #[arg(long, value_name = "PACKETS", default_value_t = 4096, value_parser = ring)]
    pub(crate) ring: u64,
    /// Also write the figures as JSON (docs/bench.md says what each holds)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// `serveflow bench traffic`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench traffic                                     # the sample, as fast as it goes
  serveflow bench traffic --sweep --html load.html            # 200 to 60,000 flows/s and beyond
  serveflow bench traffic --synthetic --packets-per-flow 20 --rates 5000,50000 --mode paced
  serveflow bench traffic --replay capture.pcap --bundle bundle --json figures.json")]
pub(crate) struct BenchTrafficArgs {
    #[command(flatten)]
    pub(crate) cloned: ClonedArgs,
    /// Replay captures as they are instead of cloning flows
    #[arg(long, value_name = "CAPTURE", num_args = 1.., conflicts_with_all = ["captures", "synthetic"])]
    #[arg(conflicts_with_all = ["rates", "sweep"])]
    pub(crate) replay: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) made: SyntheticArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// `serveflow bench paper`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench paper                                       # on the sample that ships with the project
  serveflow bench paper --html paper.html --json paper.json
  serveflow bench paper --bundle bundle --captures data/iot_sentinel --labels data/iot_sentinel/labels.csv")]
pub(crate) struct BenchPaperArgs {
    #[command(flatten)]
    pub(crate) cloned: ClonedArgs,
    /// New flows per second of the runs that are paced by the clock
    #[arg(long, value_name = "FLOWS_PER_S", default_value_t = 1000.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Seconds of wall time for which flows begin in those runs
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How often each flow of the set is served in the runs as fast as they go
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) copies: u64,
    /// Rounds of those runs, of which the one of the median rate is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: u64,
    /// Flows that the queue's consumer scores together, at most
    #[arg(long, value_name = "FLOWS", default_value_t = 64, value_parser = ring)]
    pub(crate) queue_batch: u64,
    /// Flows that the queue holds
    #[arg(long, value_name = "FLOWS", default_value_t = 1024, value_parser = ring)]
    pub(crate) queue_flows: u64,
}

/// Synthetic flows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Synthetic flows")]
pub(crate) struct SyntheticArgs {
    /// Make flows up from the seed instead of cloning real ones
    #[arg(long, conflicts_with = "captures")]
    pub(crate) synthetic: bool,
    /// Mean packets per flow; most flows are shorter and few are very long
    #[arg(long, value_name = "PACKETS", default_value_t = 7.7, value_parser = mean_packets)]
    #[arg(requires = "synthetic")]
    pub(crate) packets_per_flow: f64,
    /// Mean payload of the packets that carry any
    #[arg(long, value_name = "BYTES", default_value_t = 500.0, value_parser = positive)]
    #[arg(requires = "synthetic")]
    pub(crate) payload_bytes: f64,
    /// Mean gap between a flow's packets, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = positive)]
    #[arg(requires = "synthetic")]
    pub(crate) gap_ms: f64,
    /// Share of flows over IPv6
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    #[arg(requires = "synthetic")]
    pub(crate) ipv6_share: f64,
    /// Share of flows over TCP; the others are UDP
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share)]
    #[arg(requires = "synthetic")]
    pub(crate) tcp_share: f64,
}

/// How much, how fast, on how many cores.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Whether packets come as fast as they are served, or when the clock says
    /// [default: memory; paced with --sweep]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// New flows per second, all workers together: one rate or several, each a run of its own
    #[arg(long, value_name = "FLOWS_PER_S", value_delimiter = ',', default_value = "10000")]
    #[arg(value_parser = rate)]
    pub(crate) rates: Vec<f64>,
    /// 200, 500, 1000, 2000, 5000, 10000, 20000, 48500 and 60000 flows/s, then twice as many again
    /// and again until something gives
    #[arg(long, conflicts_with = "rates")]
    pub(crate) sweep: bool,
    /// Seconds of wall time for which flows begin, at each rate
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Most flows of a run [default: what begins within --seconds]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) flows: Option<u64>,
    /// Workers, each on a thread of its own with flows of its own
    #[arg(long, default_value_t = 1, value_parser = workers)]
    pub(crate) workers: u64,
    /// A rate is too high when the 99th percentile from the deciding packet to the verdict is
    /// longer than this, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 16.0, value_parser = positive)]
    pub(crate) limit_ms: f64,
}

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// As fast as they are served: the service rate
    Memory,
    /// When they are due by the clock: latency and drops under a load
    Paced,
}

/// How flows begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalsArg {
    /// At random, a Poisson process
    Poisson,
    /// At equal distances
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
