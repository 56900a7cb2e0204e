//! What a candidate costs, measured in the engine itself on the calibration captures.

use crate::labels::{LabelBook, Split};
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::{FeatureSpec, Features};
use serveflow_core::gate::Gate;
use serveflow_core::lane::{InlineLane, Lane, Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::verdict::Verdict;
use serveflow_core::{FlowConfig, features::MaskSet};
use serveflow_io::drive::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory, MemorySource, Null, OwnedFrame, Sink, Source};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Packets that are measured with, at most.
const MOST_PACKETS: usize = 200_000;
/// Runs per candidate; the fastest counts, for whatever else the machine does only adds.
const RUNS: usize = 5;
/// Frames per batch: as many as a busy worker takes at once.
pub const BUSY_FRAMES: usize = 1024;
/// Frames per batch where latency is measured: few, as `evaluate` takes them.
const CALM_FRAMES: usize = 64;

/// Captured packets in memory, and what a flow of them costs that is asked nothing.
#[derive(Debug)]
pub struct Meter {
    source: MemorySource,
    flows: FlowConfig,
    labels: Vec<String>,
    /// Packets of a flow, on average.
    pub packets_per_flow: f64,
    /// Nanoseconds per flow whose packets are looked up and that is asked nothing worth mentioning.
    pub idle_flow_ns: f64,
}

/// What was measured of a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metered {
    /// Nanoseconds per flow, over those of one that is asked nothing.
    pub engine_ns: f64,
    /// Median wall time from question to answer, nanoseconds.
    pub compute_ns: f64,
}

/// Answers at once, and always the same.
#[derive(Debug)]
struct Constant(RowShape, usize);

impl Model for Constant {
    fn shape(&self) -> RowShape {
        self.0
    }
    fn classes(&self) -> usize {
        self.1
    }
    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), self.1);
        (0..rows.len()).for_each(|row| scores.row_mut(row)[0] = 1.0);
        Ok(())
    }
}

impl Meter {
    /// Reads the captures that hold calibration flows, and measures what comes before any stage.
    ///
    /// # Panics
    /// When the built-in features cannot be built.
    pub fn new(
        book: &LabelBook,
        labels: &[String],
        flows: FlowConfig,
        wall: &mut dyn FnMut() -> u64,
    ) -> Self {
        let mut frames: Vec<OwnedFrame> = Vec::new();
        for (path, file) in &book.files {
            if frames.len() < MOST_PACKETS && file.may_hold(Split::Val) {
                // What is damaged has been told of when it was recorded.
                let mut source: Box<dyn Source> = Box::new(FileSource::new(vec![path.clone()]));
                if let Ok(read) = MemorySource::read(source.as_mut()) {
                    frames.extend_from_slice(read.frames());
                }
            }
        }
        frames.truncate(MOST_PACKETS);
        let packets = frames.len();
        let labels = labels.to_vec();
        let source = MemorySource::new(frames);
        let mut meter = Self { source, flows, labels, packets_per_flow: 1.0, idle_flow_ns: 0.0 };
        let (spec, model) = meter.idle();
        let (flows, per_flow) = meter.once(&spec, 0, &model, wall);
        meter.packets_per_flow = packets as f64 / flows.max(1) as f64;
        meter.idle_flow_ns = per_flow;
        meter
    }

    /// Measures a candidate: a cascade of it alone.
    ///
    /// # Panics
    /// When the features cannot be built.
    pub fn measure(
        &mut self,
        spec: &FeatureSpec,
        wait_ns: u64,
        model: &Arc<dyn Model>,
        wall: &mut dyn FnMut() -> u64,
    ) -> Metered {
        let (idle_spec, idle_model) = self.idle();
        let (mut idle, mut own) = (f64::INFINITY, f64::INFINITY);
        // In turns: what else the machine does weighs on both alike.
        for _ in 0..RUNS {
            idle = idle.min(self.once(&idle_spec, 0, &idle_model, wall).1);
            own = own.min(self.once(spec, wait_ns, model, wall).1);
        }
        self.idle_flow_ns = self.idle_flow_ns.min(idle);
        let mut sink = Memory::default();
        self.run(spec, wait_ns, model, CALM_FRAMES, &mut sink, wall);
        let mut compute: Vec<u64> = sink.verdicts.iter().map(|v: &Verdict| v.compute_ns).collect();
        compute.sort_unstable();
        let median = compute.get(compute.len() / 2).copied().unwrap_or(0);
        Metered { engine_ns: (own - idle).max(0.0), compute_ns: median as f64 }
    }

    /// Serves a whole cascade, inline; nanoseconds per flow of the fastest run.
    pub fn serve(
        &mut self,
        cascade: &Arc<Cascade>,
        models: &[Arc<dyn Model>],
        wall: &mut dyn FnMut() -> u64,
    ) -> f64 {
        let inline = |stage: &Stage| Stage {
            name: stage.name.clone(),
            features: Features::new(stage.features.spec()).expect("the cascade has built them"),
            gate: stage.gate.clone(),
            wait_ns: stage.wait_ns,
            wants_window: stage.wants_window,
            lane: 0,
        };
        let stages = cascade.stages().iter().map(inline).collect();
        let inline = Cascade::new(stages, self.labels.clone()).expect("it was a cascade");
        let inline = Arc::new(inline);
        let run = |_| {
            let sink = &mut Null::default();
            let (flows, ns) = self.drive(&inline, models.to_vec(), BUSY_FRAMES, sink, wall);
            ns as f64 / flows.max(1) as f64
        };
        (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
    }

    /// A stage that costs as little as one can: the first packet's size, and an answer without thought.
    fn idle(&self) -> (FeatureSpec, Arc<dyn Model>) {
        let spec = FeatureSpec {
            encoders: vec!["packet_series".to_owned()],
            packets: 1,
            layout: serveflow_core::features::layout::HeaderLayout::new(&[]),
            masks: MaskSet::default(),
        };
        let features = Features::new(&spec).expect("the encoder is built in");
        let model = Constant(features.shape(), self.labels.len());
        (spec, Arc::new(model))
    }

    /// Flows, and nanoseconds per flow, of a run in batches of a busy worker.
    fn once(
        &mut self,
        spec: &FeatureSpec,
        wait_ns: u64,
        model: &Arc<dyn Model>,
        wall: &mut dyn FnMut() -> u64,
    ) -> (u64, f64) {
        let sink = &mut Null::default();
        let (flows, ns) = self.run(spec, wait_ns, model, BUSY_FRAMES, sink, wall);
        (flows, ns as f64 / flows.max(1) as f64)
    }

    fn run(
        &mut self,
        spec: &FeatureSpec,
        wait_ns: u64,
        model: &Arc<dyn Model>,
        batch_frames: usize,
        sink: &mut dyn Sink,
        wall: &mut dyn FnMut() -> u64,
    ) -> (u64, u64) {
        let features = Features::new(spec).expect("the candidate was trained on them");
        let stage = Stage {
            name: "measured".to_owned(),
            features,
            gate: Gate::never(),
            wait_ns,
            wants_window: false,
            lane: 0,
        };
        let cascade = Cascade::new(vec![stage], self.labels.clone()).expect("a stage is a cascade");
        self.drive(&Arc::new(cascade), vec![Arc::clone(model)], batch_frames, sink, wall)
    }

    /// Flows seen, and nanoseconds from the first packet to the last verdict.
    fn drive(
        &mut self,
        cascade: &Arc<Cascade>,
        models: Vec<Arc<dyn Model>>,
        batch_frames: usize,
        sink: &mut dyn Sink,
        wall: &mut dyn FnMut() -> u64,
    ) -> (u64, u64) {
        let config = EngineConfig { flows: self.flows, ..EngineConfig::default() };
        let mut engine = Engine::new(Arc::clone(cascade), config);
        let lane: Box<dyn Lane> = Box::new(InlineLane::new(models));
        self.source.rewind();
        let started = wall();
        let mut worker = Worker {
            engine: &mut engine,
            lanes: &mut [lane],
            sink,
            wall: &mut *wall,
            batch_frames,
            when_full: WhenFull::Wait,
        };
        let outcome = worker.run(&mut self.source, &mut |_, _| ControlFlow::Continue(()));
        outcome.expect("a sink in memory never fails");
        (engine.accounts().flows.seen, wall().saturating_sub(started))
    }
}
