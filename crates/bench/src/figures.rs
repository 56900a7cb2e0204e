//! What was measured, as `--json` writes it. Shares and F1 are fractions, latencies microseconds;
//! `docs/bench.md` says what each key holds.

use super::contender::Contender;
use super::latency::LatencyFigures;
use super::load::{LoadRun, Mode, ServedLoad};
use super::meter::LatencyMeter;
use super::usage;
use serde::Serialize;
use serveflow_core::verdict::Reason;
use serveflow_train::evaluate::AccountsReport;
use serveflow_train::metrics::Confusion;
use serveflow_train::traffic::template::TemplateSet;

/// What the JSON's `schema` says.
pub const SCHEMA: &str = "serveflow-bench/1";

/// The machine that it was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// The processor, where the system tells it.
    pub processor: Option<String>,
    /// The operating system and the architecture.
    pub system: String,
    /// Version of this program.
    pub version: &'static str,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cores: usage::cores(),
            processor: usage::processor(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The flows that were cloned.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficFigures {
    /// `cloned`, `synthetic` or `replay`.
    pub kind: &'static str,
    /// Where it is from, in words.
    pub from: String,
    /// Different packets.
    pub packets: usize,
    /// Different flows; `null` of a replay.
    pub templates: Option<usize>,
    /// Packets per flow; `null` of a replay.
    pub packets_per_flow: Option<PacketsPerFlow>,
    /// Share of flows over IPv6; `null` of a replay.
    pub ipv6_share: Option<f64>,
    /// Seed of every choice.
    pub seed: u64,
}

/// How packets spread over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PacketsPerFlow {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u32,
    /// 90th percentile.
    pub p90: u32,
    /// 99th percentile.
    pub p99: u32,
    /// Most.
    pub max: u32,
}

impl PacketsPerFlow {
    /// Those of some templates.
    #[must_use]
    pub fn of(templates: &TemplateSet) -> Self {
        let mut counts: Vec<u32> = templates.flows().iter().map(|flow| flow.packets).collect();
        counts.sort_unstable();
        let rank = |percent: usize| {
            let rank = (counts.len() * percent).div_ceil(100).max(1);
            counts.get(rank - 1).copied().unwrap_or(0)
        };
        Self {
            mean: share(templates.packets() as u64, counts.len() as u64),
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            max: rank(100),
        }
    }
}

impl TrafficFigures {
    /// Those of some templates.
    #[must_use]
    pub fn new(kind: &'static str, from: String, templates: &TemplateSet, seed: u64) -> Self {
        let v6 = templates.flows().iter().filter(|flow| flow.v6).count();
        let (flows, is_cloned) = (templates.flows().len(), !templates.is_replay());
        Self {
            kind,
            from,
            packets: templates.packets(),
            templates: is_cloned.then_some(flows),
            packets_per_flow: is_cloned.then(|| PacketsPerFlow::of(templates)),
            ipv6_share: is_cloned.then(|| share(v6 as u64, flows as u64)),
            seed,
        }
    }
}

/// What one stage did.
#[derive(Clone, Debug, Serialize)]
pub struct StageFigures {
    /// Name of the stage.
    pub name: String,
    /// Packets that it wants.
    pub packets: u16,
    /// Flows whose verdict is its answer.
    pub flows: u64,
    /// Their share of all flows.
    pub share: f64,
}

/// Speed, making the packets left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WithoutSource {
    /// Flows per second.
    pub flows_per_s: f64,
    /// Flows per second and core.
    pub flows_per_s_per_core: f64,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Time of a worker per packet, nanoseconds.
    pub ns_per_packet: f64,
}

/// How good the answers are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityFigures {
    /// Who answered.
    pub name: String,
    /// Mean F1 over the classes.
    pub macro_f1: f64,
    /// Share of flows answered right.
    pub accuracy: f64,
}

impl QualityFigures {
    fn new(name: &str, table: &Confusion) -> Self {
        Self { name: name.to_owned(), macro_f1: table.macro_f1(), accuracy: table.accuracy() }
    }
}

/// One run under one load.
#[derive(Clone, Debug, Serialize)]
pub struct RunFigures {
    /// `memory` or `paced`.
    pub mode: &'static str,
    /// New flows per second that the traffic brings.
    pub offered_flows_per_s: f64,
    /// Workers.
    pub workers: usize,
    /// Threads that compute: workers, and the lanes that stages name.
    pub cores: usize,
    /// Flows served per second of wall time; when paced, while the load lasted.
    pub flows_per_s: f64,
    /// The same per core.
    pub flows_per_s_per_core: f64,
    /// Packets served per second.
    pub packets_per_s: f64,
    /// Busy time of a worker per packet, nanoseconds, making the packet included.
    pub ns_per_packet: f64,
    /// Of it, making the packet.
    pub source_ns_per_packet: f64,
    /// Speed without making the packets; `null` when paced.
    pub without_source: Option<WithoutSource>,
    /// Flows begun by the traffic.
    pub flows_made: u64,
    /// Packets made by the traffic.
    pub packets_made: u64,
    /// Packets that found a receive ring full.
    pub dropped: u64,
    /// Flows whose answer was cut short by a full queue or packet pool.
    pub shed: u64,
    /// Flows whose model failed or was late.
    pub failed: u64,
    /// Flows whose answer was cut short by a full flow table.
    pub evicted: u64,
    /// The cascade, stage by stage.
    pub stages: Vec<StageFigures>,
    /// Flows that no stage answered.
    pub unanswered: u64,
    /// From the deciding packet to the verdict.
    pub verdict_latency_us: LatencyFigures,
    /// From a deadline or a flow's end to the verdict.
    pub timer_latency_us: LatencyFigures,
    /// From a flow's first packet to the verdict.
    pub end_to_end_us: LatencyFigures,
    /// Share of flows with a verdict in less than 16 ms, end to end.
    pub share_under_16ms: f64,
    /// End-to-end latencies in microseconds, and the share of flows that does not exceed each.
    pub end_to_end_curve: Vec<(f64, f64)>,
    /// Flows that were decided after the load, or after the last flow began.
    pub drained_flows: u64,
    /// How good the answers are; `null` without labels.
    pub quality: Option<QualityFigures>,
    /// The last stage alone on the same flows; `null` without labels.
    pub slow_only: Option<QualityFigures>,
    /// Share of wall time in which workers had something to do.
    pub busy_share: f64,
    /// CPU time of the process, seconds.
    pub cpu_s: Option<f64>,
    /// Flows per second of CPU time, making the packets included: unlike the rates, it does not
    /// suffer when other programs share the machine.
    pub flows_per_cpu_s: Option<f64>,
    /// Most memory that the process held, megabytes.
    pub peak_rss_mb: Option<f64>,
    /// Most flows in the tables.
    pub table_flows: usize,
    /// For how long flows began, seconds.
    pub load_s: f64,
    /// Wall time from start to last verdict, seconds.
    pub wall_s: f64,
    /// Where packets and flows went.
    pub accounts: AccountsReport,
    /// What gave under this load, in words; empty when nothing did.
    pub gave: Vec<String>,
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn per_second(count: u64, ns: u64) -> f64 {
    count as f64 * 1e9 / ns.max(1) as f64
}

/// When a load is more than can be served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadLimits {
    /// Largest 99th percentile from the deciding packet to the verdict, milliseconds.
    pub p99_ms: f64,
}

impl RunFigures {
    /// The figures of a run. `slow_name` names whose answers the yardstick is.
    #[must_use]
    pub fn new(
        load: &LoadRun,
        contender: &Contender,
        slow_name: &str,
        served: &ServedLoad,
        limits: LoadLimits,
    ) -> Self {
        let cores = load.workers * contender.threads();
        let (seen, meter) = (&served.accounts, &served.meter);
        let (flows, packets) = (seen.flows.seen, seen.packets.seen);
        let (flows_per_s, packets_per_s) = match load.mode {
            Mode::Memory => {
                (per_second(flows, served.wall_ns), per_second(packets, served.wall_ns))
            }
            Mode::Paced { .. } => {
                let loaded = served.loaded;
                (
                    per_second(loaded.flows, loaded.wall_ns),
                    per_second(loaded.packets, loaded.wall_ns),
                )
            }
        };
        let verdicts = |reason: Reason| seen.flows.verdicts[reason as usize];
        let mut figures = Self {
            mode: mode_name(load.mode),
            offered_flows_per_s: load.flows_per_s,
            workers: load.workers,
            cores,
            flows_per_s,
            flows_per_s_per_core: flows_per_s / cores as f64,
            packets_per_s,
            ns_per_packet: share(served.busy_ns, packets),
            source_ns_per_packet: share(served.source_ns, packets),
            without_source: without_source(load, served, cores),
            flows_made: served.flows_made,
            packets_made: served.packets_made,
            dropped: served.dropped,
            shed: verdicts(Reason::Shed),
            failed: verdicts(Reason::Failed),
            evicted: verdicts(Reason::Evicted),
            stages: stages(contender, meter),
            unanswered: meter.unanswered,
            verdict_latency_us: meter.verdict.figures(),
            timer_latency_us: meter.timer.figures(),
            end_to_end_us: meter.end_to_end.figures(),
            share_under_16ms: share(meter.under_mark, meter.verdicts),
            end_to_end_curve: meter.end_to_end.curve(),
            drained_flows: meter.drained,
            quality: meter.answers().map(|table| QualityFigures::new(contender.name, table)),
            slow_only: meter.yardstick().map(|table| QualityFigures::new(slow_name, table)),
            busy_share: served.busy_ns as f64
                / (served.wall_ns.max(1) * load.workers as u64) as f64,
            cpu_s: served.cpu_s,
            flows_per_cpu_s: served
                .cpu_s
                .filter(|&cpu_s| cpu_s > 0.0)
                .map(|cpu_s| flows as f64 / cpu_s),
            peak_rss_mb: served.peak_rss_mb,
            table_flows: served.table_flows,
            load_s: served.loaded.wall_ns as f64 / 1e9,
            wall_s: served.wall_ns as f64 / 1e9,
            accounts: AccountsReport::new(seen),
            gave: Vec::new(),
        };
        figures.gave = figures.what_gave(limits);
        figures
    }

    /// What the load was too much for.
    fn what_gave(&self, limits: LoadLimits) -> Vec<String> {
        let mut gave = Vec::new();
        let counts = [
            (self.dropped, "packets dropped"),
            (self.shed, "flows shed"),
            (self.failed, "flows failed"),
            (self.evicted, "flows evicted"),
        ];
        let some = counts.iter().filter(|(count, _)| *count > 0);
        gave.extend(some.map(|(count, what)| format!("{count} {what}")));
        let p99_ms = self.verdict_latency_us.p99 / 1e3;
        if p99_ms > limits.p99_ms {
            gave.push(format!("p99 {p99_ms:.1} ms over {} ms", limits.p99_ms));
        }
        if self.mode == "memory" && self.flows_per_s < self.offered_flows_per_s {
            gave.push(format!("serves {:.0} flows/s at most", self.flows_per_s));
        }
        gave
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Memory => "memory",
        Mode::Paced { .. } => "paced",
    }
}

fn without_source(load: &LoadRun, served: &ServedLoad, cores: usize) -> Option<WithoutSource> {
    if load.mode != Mode::Memory {
        return None;
    }
    let (flows, packets) = (served.accounts.flows.seen, served.accounts.packets.seen);
    let flows_per_s = per_second(flows, served.wall_without_source_ns);
    Some(WithoutSource {
        flows_per_s,
        flows_per_s_per_core: flows_per_s / cores as f64,
        packets_per_s: per_second(packets, served.wall_without_source_ns),
        ns_per_packet: share(served.busy_ns - served.source_ns, packets),
    })
}

fn stages(contender: &Contender, meter: &LatencyMeter) -> Vec<StageFigures> {
    let stage = |(stage, &flows): (&serveflow_core::engine::Stage, &u64)| StageFigures {
        name: stage.name.clone(),
        packets: stage.packets(),
        flows,
        share: share(flows, meter.verdicts),
    };
    contender.cascade.stages().iter().zip(&meter.stages).map(stage).collect()
}

/// Everything that `bench traffic` measured. The keys of one run stand at the top: the run at the
/// highest rate where nothing gave, or the first one when each gave.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficReport {
    /// Version of this schema.
    pub schema: &'static str,
    /// `traffic`.
    pub bench: &'static str,
    /// Id of the bundle.
    pub bundle: String,
    /// The machine.
    pub machine: Machine,
    /// The flows.
    pub traffic: TrafficFigures,
    /// The run that stands for all.
    #[serde(flatten)]
    pub best: RunFigures,
    /// All runs, in the order of their rates.
    pub runs: Vec<RunFigures>,
    /// Captures that were damaged: one sentence each.
    pub damaged: Vec<String>,
}

/// The run that stands for all.
#[must_use]
pub fn best(runs: &[RunFigures]) -> Option<&RunFigures> {
    let held = runs.iter().filter(|run| run.gave.is_empty());
    let rate = |run: &&RunFigures| run.offered_flows_per_s;
    held.max_by(|one, other| rate(one).total_cmp(&rate(other))).or(runs.first())
}
