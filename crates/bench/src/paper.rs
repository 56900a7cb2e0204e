//! The paper's comparison: a cascade beside its slow model alone, its fast model alone, and a queue
//! in front of the slow model. All serve the same flows, each in two runs: one as fast as it goes,
//! which gives the service rate and how good the answers are, and one paced by the clock, which
//! gives the latencies.

use super::Wall;
use super::contender::Contender;
use super::figures::{LoadLimits, Machine, RunFigures, TrafficFigures};
use super::load::{LoadError, LoadRun, Mode, Traffic, run};
use super::queue::QueueSpec;
use serde::Serialize;
use serveflow_core::verdict::Reason;
use serveflow_report::number_format::{grouped, time};
use std::fmt::Write;

/// A saturated run that takes longer than this ends before all its flows.
const MOST_SECONDS: f64 = 120.0;

/// One contender.
#[derive(Clone, Debug, Serialize)]
pub struct ContenderFigures {
    /// Short name.
    pub name: &'static str,
    /// What it is, in words.
    pub what: String,
    /// Mean F1 over the classes, of the saturated run.
    pub macro_f1: f64,
    /// Median from a flow's first packet to its verdict, microseconds, of the paced run.
    pub median_end_to_end_us: f64,
    /// Share of flows with a verdict in less than 16 ms, end to end, of the paced run.
    pub share_under_16ms: f64,
    /// Share of flows that never had the packets that their stage wants, of the saturated run.
    pub short_share: f64,
    /// Flows per second and core, of the saturated run.
    pub flows_per_s_per_core: f64,
    /// The run as fast as it goes; every flow is served equally often.
    pub saturated: RunFigures,
    /// The run that is paced by the clock.
    pub paced: RunFigures,
}

/// The cascade against another contender.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// The other's median end-to-end latency over the cascade's.
    pub median_speedup: f64,
    /// The cascade's flows per second and core over the other's.
    pub service_rate: f64,
    /// The cascade's macro-F1 less the other's.
    pub macro_f1: f64,
}

/// Everything that `bench paper` measured.
#[derive(Clone, Debug, Serialize)]
pub struct PaperReport {
    /// Version of this schema.
    pub schema: &'static str,
    /// `paper`.
    pub bench: &'static str,
    /// Id of the bundle.
    pub bundle: String,
    /// The machine.
    pub machine: Machine,
    /// The flows.
    pub traffic: TrafficFigures,
    /// New flows per second of the paced runs.
    pub offered_flows_per_s: f64,
    /// Flows that the queue's consumer scores together, at most.
    pub queue_batch_flows: usize,
    /// Flows that the queue holds.
    pub queue_waiting_flows: usize,
    /// Rounds of the saturated runs, of which the one of the median rate stands.
    pub rounds: usize,
    /// `cascade`, `slow_only`, `fast_only`, `queueing`.
    pub contenders: Vec<ContenderFigures>,
    /// The cascade against the slow model alone.
    pub over_slow_only: Gain,
    /// The cascade against the queue in front of the slow model.
    pub over_queueing: Gain,
    /// Captures that were damaged: one sentence each.
    pub damaged: Vec<String>,
}

/// The four contenders of a cascade, each with what it is in words.
#[must_use]
pub fn contenders(cascade: &Contender, queue: QueueSpec) -> Vec<(Contender, String)> {
    let stages = cascade.cascade.stages();
    let last = stages.len() - 1;
    let slow = cascade.alone("slow_only", last);
    let queueing = slow.queued("queueing", queue);
    let (first_name, last_name) = (&stages[0].name, &stages[last].name);
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    vec![
        (
            cascade.clone(),
            format!("{}, each for flows that the stage before escalates", names.join(", ")),
        ),
        (slow, format!("{last_name} alone on every flow, on the worker's own thread")),
        (cascade.alone("fast_only", 0), format!("{first_name} alone on every flow")),
        (
            queueing,
            format!(
                "{last_name} on every flow behind one queue of {} flows and one consumer on a \
                 separate thread, in batches of up to {}",
                queue.waiting_flows, queue.batch_flows
            ),
        ),
    ]
}

/// The loads of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Loads {
    /// The one that is paced by the clock.
    pub paced: LoadRun,
    /// How often each flow of the traffic is served in the saturated one.
    pub copies: u64,
    /// Rounds of the saturated one, of which the one of the median rate stands.
    pub rounds: usize,
}

/// Puts all contenders under both loads. The rounds go through all contenders in turn, so that what
/// else the machine does falls on all alike. `progress` is told how many runs are done, of how
/// many.
///
/// # Errors
/// When anything is not accounted for.
pub fn measure(
    contenders: &[(Contender, String)],
    traffic: &Traffic,
    loads: &Loads,
    wall: Wall,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<ContenderFigures>, LoadError> {
    let flows = loads.copies * traffic.templates.flows().len() as u64;
    let saturated = LoadRun { mode: Mode::Memory, flows, seconds: MOST_SECONDS, ..loads.paced };
    let limits = LoadLimits { p99_ms: f64::INFINITY };
    let (mut done, all) = (0, contenders.len() * (loads.rounds + 1));
    let mut figures = |load: &LoadRun, contender: &Contender| {
        let served = run(load, contender, traffic, wall)?;
        done += 1;
        progress(done, all);
        Ok(RunFigures::new(load, contender, "", &served, limits))
    };
    let mut rounds: Vec<Vec<RunFigures>> = vec![Vec::new(); contenders.len()];
    for _ in 0..loads.rounds {
        for ((contender, _), runs) in contenders.iter().zip(&mut rounds) {
            runs.push(figures(&saturated, contender)?);
        }
    }
    let mut measured = Vec::new();
    for ((contender, what), runs) in contenders.iter().zip(rounds) {
        let paced = figures(&loads.paced, contender)?;
        measured.push(ContenderFigures::new(contender.name, what.clone(), median(runs), paced));
    }
    Ok(measured)
}

/// The run of the median rate; of an even number, the slower one of the middle.
fn median(mut runs: Vec<RunFigures>) -> RunFigures {
    runs.sort_by(|one, other| one.flows_per_s.total_cmp(&other.flows_per_s));
    let middle = (runs.len() - 1) / 2;
    runs.swap_remove(middle)
}

impl ContenderFigures {
    fn new(name: &'static str, what: String, saturated: RunFigures, paced: RunFigures) -> Self {
        Self {
            name,
            what,
            macro_f1: saturated.quality.as_ref().map_or(0.0, |quality| quality.macro_f1),
            median_end_to_end_us: paced.end_to_end_us.p50,
            share_under_16ms: paced.share_under_16ms,
            short_share: short_share(&saturated),
            flows_per_s_per_core: saturated.flows_per_s_per_core,
            saturated,
            paced,
        }
    }
}

/// Share of flows that were answered because they ended or had waited long enough.
fn short_share(run: &RunFigures) -> f64 {
    let verdicts = &run.accounts.flows.verdicts;
    let of = |reason: Reason| verdicts.get(reason.name()).copied().unwrap_or(0);
    let short = of(Reason::Ended) + of(Reason::TimedOut);
    short as f64 / run.accounts.flows.seen.max(1) as f64
}

/// The first contender against another.
#[must_use]
pub fn gain(cascade: &ContenderFigures, other: &ContenderFigures) -> Gain {
    Gain {
        median_speedup: other.median_end_to_end_us / cascade.median_end_to_end_us.max(1e-3),
        service_rate: cascade.flows_per_s_per_core / other.flows_per_s_per_core.max(1e-3),
        macro_f1: cascade.macro_f1 - other.macro_f1,
    }
}

/// A row of the comparison: what it shows, and how a contender's value is spelled.
pub(super) type Row = (&'static str, fn(&ContenderFigures) -> String);

/// The rows of the comparison.
pub(super) const ROWS: [Row; 12] = [
    ("macro-F1", |one| format!("{:.4}", one.macro_f1)),
    ("first packet to verdict, median", |one| time(one.paced.end_to_end_us.p50)),
    ("first packet to verdict, p99", |one| time(one.paced.end_to_end_us.p99)),
    ("under 16 ms, of all flows", |one| format!("{:.1}%", one.share_under_16ms * 100.0)),
    ("deciding packet to verdict, median", |one| time(one.paced.verdict_latency_us.p50)),
    ("deciding packet to verdict, p99", |one| time(one.paced.verdict_latency_us.p99)),
    ("never had the packets", |one| format!("{:.1}%", one.short_share * 100.0)),
    ("threads that compute", |one| one.saturated.cores.to_string()),
    ("served, flows/s", |one| format!("{:.0}", one.saturated.flows_per_s)),
    ("served, flows/s per core", |one| format!("{:.0}", one.flows_per_s_per_core)),
    ("without making packets", |one| {
        one.saturated
            .without_source
            .map_or("-".to_owned(), |speed| format!("{:.0}", speed.flows_per_s_per_core))
    }),
    ("served, flows per CPU second", |one| {
        one.saturated.flows_per_cpu_s.map_or("-".to_owned(), |flows| format!("{flows:.0}"))
    }),
];

/// The share of flows that a contender's stage of this name decides; `None` without such a stage.
pub(super) fn decided(one: &ContenderFigures, stage: &str) -> Option<f64> {
    one.saturated.stages.iter().find(|found| found.name == stage).map(|found| found.share)
}

/// The report as text.
#[must_use]
pub fn text(report: &PaperReport) -> String {
    let contenders = &report.contenders;
    let mut text = "\n".to_owned();
    for one in contenders {
        let _ = writeln!(text, "{:<10} {}", one.name, one.what);
    }
    let _ = write!(text, "\n{:<36}", "");
    contenders.iter().for_each(|one| {
        let _ = write!(text, "{:>12}", one.name);
    });
    let mut row = |what: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
        let _ = write!(text, "\n{what:<36}{cells}");
    };
    for (what, spell) in ROWS {
        row(what, contenders.iter().map(spell).collect());
    }
    for stage in &contenders[0].saturated.stages {
        let cell = |one: &ContenderFigures| {
            decided(one, &stage.name)
                .map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0))
        };
        row(&format!("decided by {}", stage.name), contenders.iter().map(cell).collect());
    }
    let gave = |one: &ContenderFigures| {
        format!("{}/{}", one.paced.dropped, one.paced.shed + one.paced.evicted)
    };
    row("packets dropped/flows cut short", contenders.iter().map(gave).collect());
    text + &gains(report)
}

/// How many times, in as many digits as say anything.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 100.0 { format!("{ratio:.1}x") } else { format!("{}x", grouped(round_to(ratio, 3))) }
}

fn round_to(number: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(number.log10().floor() as i32 + 1 - digits);
    (number / unit).round() * unit
}

/// The comparison in words, and how it was measured.
fn gains(report: &PaperReport) -> String {
    let gain = |gain: &Gain| {
        format!(
            "median latency {} lower, service rate per core {:.2}x, macro-F1 {:+.4}",
            times(gain.median_speedup),
            gain.service_rate,
            gain.macro_f1
        )
    };
    let first = &report.contenders[0];
    format!(
        "\n\ncascade over slow_only: {}\ncascade over queueing:  {}\n\nLatencies at {:.0} new \
         flows/s for {:.1} s, paced by the clock; flows still open then are drained in memory.\n\
         Rates and F1 of {} flows in memory, at full speed, each flow of the set equally often;\n\
         the round with the median rate of {} rounds. \"Without making packets\" leaves out the \
         cost of the generator;\nwith more than one thread, which run meanwhile, it is an upper \
         bound. The counters of all runs add up.\n",
        gain(&report.over_slow_only),
        gain(&report.over_queueing),
        report.offered_flows_per_s,
        first.paced.load_s,
        first.saturated.flows_made,
        report.rounds
    )
}
