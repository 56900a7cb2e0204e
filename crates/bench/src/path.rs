//! The packet path, stage by stage: what a packet of a capture costs up to where a model is asked.
//!
//! Each stage is measured with all before it, over the whole capture, read from memory as far as
//! the system keeps it there. The engine is a warm one: it has served the capture before, so its
//! memory is in use. What it costs that the flows of the round before time out is measured on its
//! own. Rounds go through the stages in turn, so that what else the machine does meets all of them.

use super::Wall;
use super::usage::thread_cpu_ns;
use serde::Serialize;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::Gate;
use serveflow_core::lane::{Constant, InlineLane, Lane};
use serveflow_core::parse::KeyRules;
use serveflow_core::shard::Sharder;
use serveflow_io::{Batch, FileSource, Severity, Source, SourceError};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

/// Packets that `record` keeps of each flow.
pub const DEPTH: u16 = 10;
/// Frames of a batch.
const BATCH_FRAMES: usize = 1024;
/// From the end of a capture to its next start: every flow has timed out by then.
const BREAK_NS: u64 = 3_600_000_000_000;

/// A stage of the packet path, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Parse,
    Table,
    Record,
}

const STEPS: [(Step, &str, &str); 4] = [
    (Step::Read, "read", "blocks from the file, cut into frames"),
    (Step::Parse, "parse", "headers to a flow key, and its hash"),
    (
        Step::Table,
        "table",
        "flow looked up or created, its first packet recorded and scored; scores are synthetic",
    ),
    (Step::Record, "record", "ten packets recorded per flow; no model is called before the tenth"),
];

/// What a stage costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepFigures {
    /// Name of the stage.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Nanoseconds per packet with all stages before it, median of the rounds; CPU time of the
    /// thread where the system tells it, else wall time.
    pub ns_per_packet: f64,
    /// The fastest and the slowest round.
    pub range_ns: [f64; 2],
    /// The same without reading.
    pub without_reading_ns: f64,
    /// The round that warmed up: nanoseconds per packet in memory that the system had yet to give.
    pub cold_ns: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathFigures {
    /// Packets of the capture.
    pub packets: u64,
    /// Flows that the engine found in it.
    pub flows: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Rounds that were measured, after one that warmed up.
    pub rounds: usize,
    /// Whether times are CPU time.
    pub cpu_time: bool,
    /// The stages, in order.
    pub stages: Vec<StepFigures>,
    /// Nanoseconds for each flow that times out of a table that holds them all, decided before;
    /// median.
    pub leave_ns_per_flow: f64,
    /// Bytes that the engine took for flows and their packets at the most, while it kept ten of
    /// each.
    pub engine_bytes: usize,
}

/// An engine, or none, and what it has seen.
struct Bench {
    step: Step,
    engine: Option<(Engine, Vec<Box<dyn Lane>>)>,
    sharder: Sharder,
    spent_ns: Vec<f64>,
    cold_ns: f64,
    /// Nanoseconds that it took the flows of the round before to leave, round by round.
    leave_ns: Vec<f64>,
}

impl Bench {
    fn new(step: Step, flows: usize) -> Self {
        let engine = match step {
            Step::Read | Step::Parse => None,
            Step::Table => Some(engine(1, flows)),
            Step::Record => Some(engine(DEPTH, flows)),
        };
        Self {
            step,
            engine,
            sharder: Sharder::new(1, KeyRules::default(), 1),
            spent_ns: Vec::new(),
            cold_ns: 0.0,
            leave_ns: Vec::new(),
        }
    }

    fn serve(&mut self, batch: &Batch) {
        match &mut self.engine {
            None if self.step == Step::Parse => {
                batch.iter().for_each(|packet| {
                    black_box(self.sharder.shard(&packet));
                });
            }
            None => {
                black_box(batch.len());
            }
            Some((engine, lanes)) => {
                engine.push_all(batch.iter());
                engine.advance();
                pump(engine, lanes);
            }
        }
    }
}

impl Bench {
    /// Lets the flows of the round before leave, by the first packets of this one.
    fn turn(&mut self, batch: &Batch, now_ns: &impl Fn() -> u64) -> u64 {
        let Some((engine, lanes)) = &mut self.engine else { return 0 };
        let started_ns = now_ns();
        // The clock follows the earlier of the last two packets.
        engine.push_all(batch.iter().take(2));
        engine.advance();
        pump(engine, lanes);
        let took_ns = now_ns() - started_ns;
        self.leave_ns.push(took_ns as f64);
        took_ns
    }
}

fn pump(engine: &mut Engine, lanes: &mut [Box<dyn Lane>]) {
    engine.submit(lanes);
    engine.collect(lanes);
    engine.clear_verdicts();
}

fn engine(packets: u16, flows: usize) -> (Engine, Vec<Box<dyn Lane>>) {
    let spec = FeatureSpec {
        encoders: vec!["header_bits".to_owned()],
        packets,
        layout: HeaderLayout::default(),
        masks: MaskSet::default(),
    };
    let features = Features::new(&spec).expect("the encoder is known");
    let shape = features.shape();
    let stage = Stage::new("still", features, Gate::never(), u64::MAX);
    let cascade = Cascade::new(vec![stage], vec!["any".to_owned()]).expect("a stage and a label");
    let limits = EngineConfig {
        // Flows of the round before are still there when those of the next begin.
        flows: FlowConfig { capacity: 2 * flows + 1024, ..FlowConfig::default() },
        record_packets: flows * usize::from(DEPTH) + 1024,
        ..EngineConfig::default()
    };
    let lane = InlineLane::new(vec![Arc::new(Constant::first(shape, 1, 0.0))]);
    (Engine::new(Arc::new(cascade), limits), vec![Box::new(lane)])
}

/// What the capture holds: packets, bytes, and how long it lasts.
fn survey(captures: &[PathBuf]) -> Result<(u64, u64, u64), SourceError> {
    let (mut packets, mut bytes, mut times) = (0, 0, (u64::MAX, 0));
    each_batch(captures, |batch| {
        packets += batch.len() as u64;
        for packet in batch.iter() {
            bytes += packet.data.len() as u64;
            times = (times.0.min(packet.ts_ns), times.1.max(packet.ts_ns));
        }
    })?;
    Ok((packets, bytes, times.1.saturating_sub(times.0)))
}

fn each_batch(captures: &[PathBuf], mut serve: impl FnMut(&mut Batch)) -> Result<(), SourceError> {
    let mut source = FileSource::new(captures.to_vec());
    let mut batch = Batch::new();
    loop {
        match source.fill(&mut batch, BATCH_FRAMES) {
            Ok(0) => return Ok(()),
            Ok(_) => serve(&mut batch),
            Err(error) if error.severity() == Severity::Damage => return Err(error),
            Err(_) => {}
        }
    }
}

/// Measures the packet path over captures; `None` when there is no packet in them.
///
/// # Errors
/// When a capture cannot be read to its end.
pub fn measure(
    captures: &[PathBuf],
    rounds: usize,
    wall: Wall,
) -> Result<Option<PathFigures>, SourceError> {
    let (packets, bytes, span_ns) = survey(captures)?;
    if packets == 0 {
        return Ok(None);
    }
    let flows = flows_of(captures)?;
    let now_ns = || thread_cpu_ns().unwrap_or_else(wall);
    let mut benches = STEPS.map(|(step, ..)| Bench::new(step, flows as usize));
    let mut engine_bytes = 0;
    // Round 0 warms up.
    for round in 0..=rounds as u64 {
        for bench in &mut benches {
            let (started_ns, mut apart_ns) = (now_ns(), 0);
            let mut is_first = round > 0;
            each_batch(captures, |batch| {
                batch.delay(round * (span_ns + BREAK_NS));
                if std::mem::take(&mut is_first) {
                    apart_ns = bench.turn(batch, &now_ns);
                }
                bench.serve(batch);
            })?;
            let spent_ns = (now_ns() - started_ns - apart_ns) as f64 / packets as f64;
            match round {
                0 => bench.cold_ns = spent_ns,
                _ => bench.spent_ns.push(spent_ns),
            }
            if let Some((engine, lanes)) = &mut bench.engine {
                engine_bytes = engine_bytes.max(engine.bytes());
                if bench.step == Step::Record {
                    engine.finish(End::Stop);
                    pump(engine, lanes);
                }
            }
        }
    }
    let stages = figures(&mut benches);
    let cpu_time = thread_cpu_ns().is_some();
    let leave_ns_per_flow = median(&mut benches[Step::Table as usize].leave_ns) / flows as f64;
    Ok(Some(PathFigures {
        packets,
        flows,
        bytes,
        rounds,
        cpu_time,
        stages,
        leave_ns_per_flow,
        engine_bytes,
    }))
}

/// Flows in the captures, by an engine that has room for all.
fn flows_of(captures: &[PathBuf]) -> Result<u64, SourceError> {
    let (mut engine, mut lanes) = engine(1, 1 << 24);
    each_batch(captures, |batch| {
        engine.push_all(batch.iter());
        engine.advance();
        pump(&mut engine, &mut lanes);
    })?;
    Ok(engine.accounts().flows.seen)
}

/// The value in the middle; the values are sorted then.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn figures(benches: &mut [Bench]) -> Vec<StepFigures> {
    let reading = median(&mut benches[0].spent_ns);
    let figures = |(bench, (_, name, what)): (&mut Bench, _)| {
        let ns_per_packet = median(&mut bench.spent_ns);
        let range_ns = [bench.spent_ns[0], bench.spent_ns[bench.spent_ns.len() - 1]];
        let without_reading_ns = ns_per_packet - reading;
        let cold_ns = bench.cold_ns;
        StepFigures { name, what, ns_per_packet, range_ns, without_reading_ns, cold_ns }
    };
    benches.iter_mut().zip(STEPS).map(figures).collect()
}
