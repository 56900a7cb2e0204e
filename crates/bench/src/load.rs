//! Workers under load.

use super::Wall;
use super::contender::Contender;
use super::meter::{LatencyMeter, Truth};
use super::paced::{Pace, PacedSource};
use super::usage;
use serveflow_core::counters::Counters;
use serveflow_core::engine::Engine;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, Source, SourceError};
use serveflow_serve::service::no_thread;
use serveflow_train::traffic::generator::{Arrivals, Generator, Recipe, START_NS, shuffled};
use serveflow_train::traffic::template::TemplateSet;
use serveflow_train::traffic::timed::Timed;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread::Builder;

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As fast as they are served; their times are those of the rate all the same.
    Memory,
    /// When they are due by the clock, through a receive ring of so many packets for each worker.
    Paced {
        /// Packets that a ring holds.
        ring_packets: usize,
    },
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadRun {
    /// How packets come.
    pub mode: Mode,
    /// New flows per second, all workers together: of packet time, and when paced of wall time.
    pub flows_per_s: f64,
    /// How flows begin.
    pub arrivals: Arrivals,
    /// For how many seconds of wall time flows begin.
    pub seconds: f64,
    /// Most flows, all workers together.
    pub flows: u64,
    /// Workers, each on a thread of its own with flows of its own.
    pub workers: usize,
    /// Seed of the traffic.
    pub seed: u64,
    /// Most packets that a worker takes at once.
    pub batch_frames: usize,
}

/// The traffic: flows to clone, and answers to compare those of the contender with.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The flows.
    pub templates: TemplateSet,
    /// Answers of another contender to each template; may be empty.
    pub yardstick: Vec<Option<u16>>,
}

impl Traffic {
    /// The truth about the flows, in the order in which they are cloned; `None` when a flow has no
    /// label.
    fn truth(&self, classes: usize, seed: u64) -> Option<Truth> {
        let flows = self.templates.flows();
        let order = shuffled(flows.len(), seed);
        let label = |&at: &u32| flows[at as usize].label;
        let yardstick = order.iter().filter_map(|&at| self.yardstick.get(at as usize).copied());
        Some(Truth {
            labels: order.iter().map(label).collect::<Option<Vec<u16>>>()?.into(),
            yardstick: yardstick.collect(),
            classes,
        })
    }
}

/// What came of a load: one worker's part, or all together.
#[derive(Debug)]
pub struct ServedLoad {
    /// Latencies, stages and truth.
    pub meter: LatencyMeter,
    /// Where packets and flows went.
    pub accounts: Counters,
    /// Flows begun.
    pub flows_made: u64,
    /// Packets made.
    pub packets_made: u64,
    /// Packets that found a ring full.
    pub dropped: u64,
    /// Wall time from the start to the last verdict, the longest of all workers.
    pub wall_ns: u64,
    /// The same without the time that making packets took.
    pub wall_without_source_ns: u64,
    /// Wall time in which workers served or made packets, the sum of all.
    pub busy_ns: u64,
    /// Wall time in which workers made packets, the sum of all.
    pub source_ns: u64,
    /// Flows and packets served while the load lasted, and how long that was.
    pub loaded: LoadOutcome,
    /// Most flows in the tables, all workers together.
    pub table_flows: usize,
    /// CPU time of the process, seconds, where the system tells it.
    pub cpu_s: Option<f64>,
    /// Most memory held, megabytes, where the system tells it.
    pub peak_rss_mb: Option<f64>,
}

/// What was served while flows still began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOutcome {
    /// Flows met.
    pub flows: u64,
    /// Packets met.
    pub packets: u64,
    /// Wall time, the longest of all workers, nanoseconds.
    pub wall_ns: u64,
}

/// Why a load says nothing.
#[derive(Debug)]
pub enum LoadError {
    /// The source failed.
    Source(SourceError),
    /// A thread cannot be started.
    Thread(io::Error),
    /// Something is not accounted for.
    Unaccounted {
        /// What should be equal.
        what: &'static str,
        /// What was expected.
        expected: u64,
        /// What was found.
        found: u64,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Thread(error) => error.fmt(f),
            Self::Unaccounted { what, expected, found } => {
                write!(f, "the counters do not add up: {what}: expected {expected}, found {found}")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Puts a contender under load.
///
/// # Errors
/// When anything is not accounted for, or a thread cannot be started.
///
/// # Panics
/// When a worker does.
pub fn run(
    load: &LoadRun,
    contender: &Contender,
    traffic: &Traffic,
    wall: Wall,
) -> Result<ServedLoad, LoadError> {
    usage::forget_peak();
    let start = Start { barrier: Barrier::new(load.workers + 1), wall_ns: OnceLock::new() };
    let stop = Arc::new(AtomicBool::new(false));
    // Held until all workers are there, since those that are would wait for the others for ever.
    let is_short = Mutex::new(true);
    let served = std::thread::scope(|scope| {
        let mut held = is_short.lock().expect("no thread panics while it holds it");
        let worker = |index| {
            let (stop, start, is_short) = (Arc::clone(&stop), &start, &is_short);
            let part = Part { load, contender, traffic, index, stop, start, wall };
            Builder::new().spawn_scoped(scope, move || {
                let is_short = *is_short.lock().expect("no thread panics while it holds it");
                (!is_short).then(|| part.serve())
            })
        };
        let workers = (0..load.workers).map(worker).collect::<io::Result<Vec<_>>>()?;
        *held = false;
        drop(held);
        start.barrier.wait();
        let before = usage::cpu_seconds();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().expect("a worker does not panic")
        };
        let served: Vec<Result<ServedLoad, LoadError>> =
            workers.into_iter().filter_map(join).collect();
        let used = usage::cpu_seconds().zip(before).map(|(after, before)| after - before);
        Ok((served, used))
    });
    let (served, cpu_s) =
        served.map_err(|error| LoadError::Thread(no_thread("of a worker")(error)))?;
    let mut parts = served.into_iter();
    let mut all = parts.next().expect("there is a worker")?;
    for part in parts {
        all.add(&part?);
    }
    all.cpu_s = cpu_s;
    all.peak_rss_mb = usage::peak_rss_mb();
    all.check()?;
    Ok(all)
}

/// Where all workers start together.
struct Start {
    barrier: Barrier,
    wall_ns: OnceLock<u64>,
}

/// One worker's part of a load.
struct Part<'a> {
    load: &'a LoadRun,
    contender: &'a Contender,
    traffic: &'a Traffic,
    index: usize,
    stop: Arc<AtomicBool>,
    start: &'a Start,
    wall: Wall,
}

impl Part<'_> {
    fn generator(&self) -> Generator {
        let share = |flows: u64| {
            let workers = self.load.workers as u64;
            flows / workers + u64::from((self.index as u64) < flows % workers)
        };
        let recipe = Recipe {
            flows_per_s: self.load.flows_per_s / self.load.workers as f64,
            arrivals: self.load.arrivals,
            flows: share(self.load.flows),
            seed: self.load.seed,
            worker: self.index,
            // When paced, each source ends its own load.
            stop: match self.load.mode {
                Mode::Memory => Arc::clone(&self.stop),
                Mode::Paced { .. } => Arc::default(),
            },
        };
        Generator::new(self.traffic.templates.clone(), recipe)
    }

    fn serve(&self) -> Result<ServedLoad, LoadError> {
        let cascade = &self.contender.cascade;
        let truth = self.traffic.truth(cascade.labels().len(), self.load.seed);
        let generator = self.generator();
        let mut engine = Engine::new(Arc::clone(cascade), self.contender.engine);
        engine.prefault();
        let load_ns = (self.load.seconds * 1e9) as u64;
        self.start.barrier.wait();
        let wall_start_ns = *self.start.wall_ns.get_or_init(|| (self.wall)());
        let pace = Pace { wall_start_ns, start_ns: START_NS, load_ns };
        let stages = cascade.stages().len();
        match self.load.mode {
            Mode::Memory => {
                let meter = LatencyMeter::new(self.wall, None, stages, truth);
                let mut source = generator;
                // A replay begins once, and what it holds are flows that go on beginning.
                let draining = match self.traffic.templates.is_replay() {
                    true => Arc::default(),
                    false => source.is_draining(),
                };
                let mut served = self.drive(&mut source, &draining, engine, meter, pace)?;
                served.flows_made = source.flows_made();
                served.packets_made = source.packets_made();
                Ok(served)
            }
            Mode::Paced { ring_packets } => {
                let meter = LatencyMeter::new(self.wall, Some(pace), stages, truth);
                let has_queue = self.contender.queue.is_some();
                let meter = if has_queue { meter.with_stamps() } else { meter };
                let mut source = PacedSource::new(generator, self.wall, pace, ring_packets);
                // What is due after the load is told from its time.
                let never = AtomicBool::new(false);
                let mut served = self.drive(&mut source, &never, engine, meter, pace)?;
                served.flows_made = source.generator().flows_made();
                served.packets_made = source.generator().packets_made();
                served.dropped = source.dropped();
                served.busy_ns -= source.waited_ns();
                served.source_ns -= source.waited_ns();
                Ok(served)
            }
        }
    }

    fn drive(
        &self,
        source: &mut dyn Source,
        draining: &AtomicBool,
        mut engine: Engine,
        mut meter: LatencyMeter,
        pace: Pace,
    ) -> Result<ServedLoad, LoadError> {
        let wall = self.wall;
        let mut source = Timed::new(source, wall);
        let lanes = self.contender.lanes(wall, &meter.stamps);
        let mut lanes = lanes.map_err(LoadError::Thread)?;
        let end_ns = pace.wall_start_ns.saturating_add(pace.load_ns);
        let (mut loaded, mut table_flows) = (None, 0);
        let is_draining = Arc::clone(&meter.is_draining);
        let watch = &mut |batch: &Batch, worker: &mut Worker<'_>| {
            let engine = &*worker.engine;
            // The one empty batch is the end: what comes behind it are the flows still open.
            let over = batch.is_empty() || draining.load(Ordering::Relaxed);
            is_draining.store(over, Ordering::Relaxed);
            table_flows = table_flows.max(engine.table_len());
            let now_ns = wall();
            if loaded.is_none() && now_ns >= end_ns {
                self.stop.store(true, Ordering::Relaxed);
                loaded = Some(LoadOutcome::new(engine, now_ns - pace.wall_start_ns));
            }
            ControlFlow::Continue(())
        };
        let outcome = Worker {
            engine: &mut engine,
            lanes: &mut lanes,
            sink: &mut meter,
            wall: &mut || wall(),
            batch_frames: self.load.batch_frames,
            // The traffic stands for live traffic, which does not wait.
            when_full: WhenFull::Shed,
            flush_ns: u64::MAX,
        }
        .run(&mut source, watch)
        .expect("a meter never fails");
        if let Some(error) = outcome.damaged.into_iter().next() {
            return Err(LoadError::Source(error));
        }
        let wall_ns = wall() - pace.wall_start_ns;
        Ok(ServedLoad {
            meter,
            accounts: *engine.accounts(),
            flows_made: 0,
            packets_made: 0,
            dropped: 0,
            wall_ns,
            wall_without_source_ns: wall_ns - source.spent_ns,
            busy_ns: wall_ns,
            source_ns: source.spent_ns,
            loaded: loaded.unwrap_or_else(|| LoadOutcome::new(&engine, wall_ns)),
            table_flows,
            cpu_s: None,
            peak_rss_mb: None,
        })
    }
}

impl LoadOutcome {
    fn new(engine: &Engine, wall_ns: u64) -> Self {
        let accounts = engine.accounts();
        Self { flows: accounts.flows.seen, packets: accounts.packets.seen, wall_ns }
    }
}

impl ServedLoad {
    /// Takes another worker's part.
    fn add(&mut self, other: &Self) {
        self.meter.add(&other.meter);
        self.accounts.add(&other.accounts);
        self.flows_made += other.flows_made;
        self.packets_made += other.packets_made;
        self.dropped += other.dropped;
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.wall_without_source_ns = self.wall_without_source_ns.max(other.wall_without_source_ns);
        self.busy_ns += other.busy_ns;
        self.source_ns += other.source_ns;
        self.loaded.flows += other.loaded.flows;
        self.loaded.packets += other.loaded.packets;
        self.loaded.wall_ns = self.loaded.wall_ns.max(other.loaded.wall_ns);
        self.table_flows += other.table_flows;
    }

    /// Holds everything that was made against everything that was seen and told.
    fn check(&self) -> Result<(), LoadError> {
        let accounts = &self.accounts;
        let same = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(LoadError::Unaccounted { what, expected, found }),
        };
        let packets = &accounts.packets;
        let of_flows = packets.recorded + packets.ignored + packets.after_close;
        let placed = of_flows + accounts.rejected() + packets.filtered;
        same("packets seen, dropped = made", self.packets_made, packets.seen + self.dropped)?;
        same("recorded, ignored, after close, rejected, filtered = seen", packets.seen, placed)?;
        same("flows with a verdict = seen", accounts.flows.seen, accounts.verdicts())?;
        same("verdicts written = made", accounts.verdicts(), self.meter.verdicts)
    }
}
