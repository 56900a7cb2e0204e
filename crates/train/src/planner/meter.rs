//! What a candidate costs, measured in the engine itself.
//!
//! What a flow costs is measured under load: clones of the calibration flows that begin at a rate,
//! so that as many wait, and as much is in the caches, as when they are served. What an answer
//! takes is measured on the captures as they are, in the small batches of a calm link.

use crate::traffic::captured::labelled;
use crate::traffic::generator::{Arrivals, Generator, Recipe};
use crate::traffic::template::TemplateSet;
use crate::traffic::timed::Timed;
use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::{FeatureSpec, Features};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{Constant, InlineLane, Lane, Model};
use serveflow_core::verdict::Verdict;
use serveflow_core::{FlowConfig, features::MaskSet};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, Memory, MemorySource, Null, Sink, Source};
use serveflow_label::{LabelBook, Split};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Packets that answers are timed with, but for the rest of a capture.
const MOST_PACKETS: usize = 200_000;
/// Bytes kept of each packet of a clone.
const SNAP_BYTES: usize = 256;
/// Runs per candidate. Of a core's time the fastest counts, for whatever else the machine does only
/// adds; of latency, which is held against single runs, the middle one.
const RUNS: usize = 3;
/// Frames per batch: as many as a busy worker takes at once.
pub const BUSY_FRAMES: usize = 1024;
/// Frames per batch where latency is measured: few, as `evaluate` takes them.
const CALM_FRAMES: usize = 64;

/// What candidates are measured under.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterLoad {
    /// New flows per second and core, of packet time.
    pub flows_per_s: f64,
    /// Wall time for which flows begin in each run, nanoseconds.
    pub run_ns: u64,
    /// Most flows of a run.
    pub flows: u64,
}

impl Default for MeterLoad {
    fn default() -> Self {
        Self { flows_per_s: 10_000.0, run_ns: 200_000_000, flows: 1_000_000 }
    }
}

/// A stage to measure.
#[derive(Clone, Copy, Debug)]
pub struct CandidateCost<'a> {
    /// What its rows show.
    pub spec: &'a FeatureSpec,
    /// Longest wait, nanoseconds.
    pub wait_ns: u64,
    /// Whether it is asked at the end of the window.
    pub wants_window: bool,
    /// Its model.
    pub model: &'a Arc<dyn Model>,
}

/// Clones of the flows of a split, and an engine's flow rules, to serve cascades under load.
#[derive(Debug)]
pub struct ServiceRate {
    clones: TemplateSet,
    load: MeterLoad,
    flows: FlowConfig,
    wall: fn() -> u64,
    /// Packets of a flow, on average.
    pub packets_per_flow: f64,
}

/// Calibration flows to measure with, and what one of them costs that is asked nothing.
#[derive(Debug)]
pub struct CostMeter {
    /// The captures, each of which is served by an engine of its own, as `evaluate` has it.
    calm: Vec<MemorySource>,
    labels: Vec<String>,
    /// The same flows under load.
    pub service: ServiceRate,
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

/// A source that is taken through the engine.
struct Pass<'a> {
    source: &'a mut dyn Source,
    sink: &'a mut dyn Sink,
    /// Frames per batch.
    batch_frames: usize,
}

impl ServiceRate {
    /// Reads the captures that hold flows of a split.
    #[must_use]
    pub fn new(
        book: &LabelBook,
        split: Split,
        flows: FlowConfig,
        load: MeterLoad,
        wall: fn() -> u64,
    ) -> Self {
        let numbers: Vec<u16> = (0..book.labels.len() as u16).collect();
        let clones = labelled(book, split, &numbers, flows, SNAP_BYTES).templates;
        let packets_per_flow = clones.packets() as f64 / clones.flows().len().max(1) as f64;
        Self { clones, load, flows, wall, packets_per_flow }
    }

    /// Serves a cascade under load; nanoseconds of a core per flow, making packets left out. All
    /// its stages must be in lane 0.
    ///
    /// # Panics
    /// When they are not.
    pub fn serve(&self, cascade: &Arc<Cascade>, models: &[Arc<dyn Model>]) -> f64 {
        if self.clones.flows().is_empty() {
            return 0.0;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut generator = Generator::new(
            self.clones.clone(),
            Recipe {
                flows_per_s: self.load.flows_per_s,
                arrivals: Arrivals::Poisson,
                flows: self.load.flows,
                seed: 1,
                worker: 0,
                stop: Arc::clone(&stop),
            },
        );
        let now = self.wall;
        let started = now();
        let watch = &mut |_: &Engine| {
            if now() - started >= self.load.run_ns {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let mut source = Timed::new(&mut generator, now);
        let sink = &mut Null::default();
        let pass = Pass { source: &mut source, sink, batch_frames: BUSY_FRAMES };
        self.drive(cascade, models, pass, watch);
        let spent_ns = source.spent_ns;
        let served_ns = now().saturating_sub(started).saturating_sub(spent_ns);
        served_ns as f64 / generator.flows_made().max(1) as f64
    }

    /// Takes a source through the engine to its end.
    fn drive(
        &self,
        cascade: &Arc<Cascade>,
        models: &[Arc<dyn Model>],
        Pass { source, sink, batch_frames }: Pass<'_>,
        watch: &mut dyn FnMut(&Engine),
    ) {
        let config = EngineConfig { flows: self.flows, ..EngineConfig::default() };
        let mut engine = Engine::new(Arc::clone(cascade), config);
        let lane: Box<dyn Lane> = Box::new(InlineLane::new(models.to_vec()));
        let mut worker = Worker {
            engine: &mut engine,
            lanes: &mut vec![lane],
            sink,
            wall: &mut || (self.wall)(),
            batch_frames,
            when_full: WhenFull::Wait,
            flush_ns: u64::MAX,
        };
        let outcome = worker.run(source, &mut |_, worker| {
            watch(worker.engine);
            ControlFlow::Continue(())
        });
        outcome.expect("a sink in memory never fails");
    }
}

impl CostMeter {
    /// Reads the captures that hold calibration flows, and measures what comes before any stage.
    ///
    /// # Panics
    /// When the built-in features cannot be built.
    pub fn new(book: &LabelBook, flows: FlowConfig, load: MeterLoad, wall: fn() -> u64) -> Self {
        let (mut calm, mut packets): (Vec<MemorySource>, usize) = (Vec::new(), 0);
        for (path, file) in &book.files {
            if packets < MOST_PACKETS && file.may_hold(Split::Val) {
                // What is damaged has been told of when it was recorded.
                let mut source: Box<dyn Source> = Box::new(FileSource::new(vec![path.clone()]));
                if let Ok(read) = MemorySource::read(source.as_mut()) {
                    packets += read.frames().len();
                    calm.push(read);
                }
            }
        }
        let service = ServiceRate::new(book, Split::Val, flows, load, wall);
        let labels = book.labels.clone();
        let mut meter = Self { calm, labels, service, idle_flow_ns: f64::INFINITY };
        for _ in 0..RUNS {
            meter.idle_flow_ns = meter.idle_flow_ns.min(meter.idle());
        }
        meter
    }

    /// Measures a candidate: a cascade of it alone.
    ///
    /// # Panics
    /// When the features cannot be built.
    pub fn measure(&mut self, own: &CandidateCost<'_>) -> Metered {
        let cascade = self.alone(own);
        let models = [Arc::clone(own.model)];
        self.idle_flow_ns = self.idle_flow_ns.min(self.idle());
        let own = (0..RUNS).map(|_| self.service.serve(&cascade, &models));
        let own_ns = own.fold(f64::INFINITY, f64::min);
        Metered {
            engine_ns: (own_ns - self.idle_flow_ns).max(0.0),
            compute_ns: median(&self.calm(&cascade, &models)) as f64,
        }
    }

    /// Times that a stage takes to answer when another one follows, for the flows whose doubt is
    /// above the given one: flows wait, and the models share the caches. Nanoseconds, of flows that
    /// it decides, at equal steps of their distribution; empty where it decides none.
    ///
    /// # Panics
    /// When the features cannot be built, or the second stage sees fewer packets.
    pub fn company(
        &mut self,
        first: &CandidateCost<'_>,
        doubt: f32,
        last: &CandidateCost<'_>,
        steps: usize,
    ) -> Vec<f64> {
        let threshold = Threshold::Universal(doubt);
        let gate = Gate::Uncertainty { measure: Uncertainty::LeastConfidence, threshold };
        let stages =
            vec![Self::stage("first", first, gate), Self::stage("last", last, Gate::never())];
        let cascade = Cascade::new(stages, self.labels.clone()).expect("stages in order");
        let models = [Arc::clone(first.model), Arc::clone(last.model)];
        let times = self.calm(&Arc::new(cascade), &models);
        if times.is_empty() {
            return Vec::new();
        }
        let middle = |step: usize| (2 * step + 1) * times.len() / (2 * steps);
        (0..steps).map(|step| times[middle(step)] as f64).collect()
    }

    /// Wall times from question to answer of the flows that the first stage decides, in the small
    /// batches of a calm link, nanoseconds, rising: those of the run of the middle median.
    fn calm(&mut self, cascade: &Arc<Cascade>, models: &[Arc<dyn Model>]) -> Vec<u64> {
        let mut runs: Vec<Vec<u64>> = (0..RUNS).map(|_| self.calm_once(cascade, models)).collect();
        runs.sort_by_key(|times| median(times));
        runs.swap_remove(RUNS / 2)
    }

    fn calm_once(&mut self, cascade: &Arc<Cascade>, models: &[Arc<dyn Model>]) -> Vec<u64> {
        let (mut sink, mut calm) = (Memory::default(), std::mem::take(&mut self.calm));
        let go_on = &mut |_: &Engine| {};
        for capture in &mut calm {
            capture.rewind();
            let pass = Pass { source: capture, sink: &mut sink, batch_frames: CALM_FRAMES };
            self.service.drive(cascade, models, pass, go_on);
        }
        self.calm = calm;
        let first = |v: &&Verdict| v.answer.is_some_and(|answer| answer.stage == 0);
        let mut times: Vec<u64> =
            sink.verdicts.iter().filter(first).map(|verdict| verdict.compute_ns).collect();
        times.sort_unstable();
        times
    }

    /// Serves flows that are asked as little as can be: the first packet's size, and an answer
    /// without thought.
    fn idle(&self) -> f64 {
        let spec = FeatureSpec {
            encoders: vec!["packet_series".to_owned()],
            packets: 1,
            layout: serveflow_core::features::layout::HeaderLayout::new(&[]),
            masks: MaskSet::default(),
        };
        let features = Features::new(&spec).expect("the encoder is built in");
        let model = Constant::first(features.shape(), self.labels.len(), 1.0);
        let model: Arc<dyn Model> = Arc::new(model);
        let idle = CandidateCost { spec: &spec, wait_ns: 0, wants_window: false, model: &model };
        self.service.serve(&self.alone(&idle), &[Arc::clone(&model)])
    }

    /// A cascade of one stage.
    fn alone(&self, own: &CandidateCost<'_>) -> Arc<Cascade> {
        let stage = Self::stage("measured", own, Gate::never());
        Arc::new(Cascade::new(vec![stage], self.labels.clone()).expect("a stage is a cascade"))
    }

    fn stage(name: &str, own: &CandidateCost<'_>, gate: Gate) -> Stage {
        let features = Features::new(own.spec).expect("the candidate was trained on them");
        Stage::new(name, features, gate, own.wait_ns).at_window_end(own.wants_window)
    }
}

/// The middle one of rising times; 0 where there are none.
fn median(times: &[u64]) -> u64 {
    times.get(times.len() / 2).copied().unwrap_or(0)
}
