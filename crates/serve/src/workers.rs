//! Workers: each a thread with a source, an engine, lanes and a sink of its own.

use crate::clock;
use crate::config::Config;
use crate::lanes::{self, BatchCounters, LaneMaker, Lanes, StageTally};
use crate::panics;
use crate::service::{
    Comparison, DegradationControl, DegradationLimits, DriftMonitor, Histogram, LaneLoad,
    LoadedBundle, Service, Shadow, ShadowPlan, ShadowVerdict as Verdicted, StatsSink, VerdictStats,
    locked,
};
use serveflow_core::counters::Counters;
use serveflow_core::engine::Engine;
use serveflow_core::lane::Lane;
use serveflow_core::select::Selection;
use serveflow_io::worker_loop::{Outcome, Worker};
use serveflow_io::{Batch, Null, Sink, Source};
use serveflow_model::bundle::Bundle;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, ScopedJoinHandle};

/// What all workers have in common.
pub struct WorkerSetup<'a> {
    /// The cascade and its models.
    pub bundle: &'a Bundle,
    /// Limits; those of flows and packets are for all workers together.
    pub config: &'a Config,
    /// Which flows are served; all where there is none.
    pub selection: Option<Arc<Selection>>,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: fn() -> u64,
    /// Set from outside to end the run: every open flow then gets its verdict.
    pub stop: &'a Arc<AtomicBool>,
    /// Whether packets come by themselves: then they do not wait, and verdicts are written soon.
    pub is_live: bool,
    /// Whether sources end by themselves when they are stopped, and bring what came before.
    pub drains: bool,
    /// What is told and changed meanwhile, where it is a service.
    pub service: Option<&'a Service>,
    /// Where drift is told, if it is watched.
    pub drift: Option<&'a DriftMonitor>,
}

/// Longest that a verdict on live traffic waits to be written while more of it waits, nanoseconds.
const LIVE_FLUSH_NS: u64 = 20_000_000;

/// A worker's own: what it reads and where its verdicts go.
pub struct WorkerIo {
    /// Brings the packets of this worker's flows and no others'.
    pub source: Box<dyn Source>,
    /// Takes the verdicts.
    pub sink: Box<dyn Sink>,
}

/// What came of a run.
#[derive(Debug)]
pub struct WorkerOutcome {
    /// Where packets and flows went, all workers together.
    pub accounts: Counters,
    /// What batch lanes did, by stage, all workers and bundles together.
    pub batches: BTreeMap<String, StageTally>,
    /// Workers that panicked; the others served on.
    pub failures: Vec<Failure>,
    /// How it ended.
    pub outcome: Result<Outcome, ServeError>,
}

impl WorkerOutcome {
    /// What came of a worker: what its lanes counted is told for all workers together.
    fn new(accounts: &Counters, outcome: Result<Outcome, ServeError>) -> Self {
        Self { accounts: *accounts, batches: BTreeMap::new(), failures: Vec::new(), outcome }
    }
}

/// Why workers could not serve to the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The system does not have what they need, and none of them has taken a packet.
    Start(io::Error),
    /// A sink failed, which ends all workers.
    Output(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start: {error}"),
            Self::Output(error) => write!(f, "cannot write verdicts: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// A worker that panicked. Its part of the accounts ends with its last whole batch; what became of
/// the packets that came to it since then is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number, from 0.
    pub worker: usize,
    /// What the panic said.
    pub why: String,
    /// Flows that were open at its last whole batch, and have no verdict.
    pub open_flows: u64,
}

/// Serves each source to its end on a thread of its own; a single one on the caller's.
#[must_use]
pub fn serve(crew: &WorkerSetup<'_>, mut posts: Vec<WorkerIo>) -> WorkerOutcome {
    let count = posts.len();
    // A heading stands before the lines of all workers, whoever writes first.
    if let Some(Err(error)) = posts.first_mut().map(|post| post.sink.flush()) {
        return WorkerOutcome::new(&Counters::default(), Err(ServeError::Output(error)));
    }
    let failed = AtomicBool::new(false);
    let counters = match crew.service {
        Some(service) => Arc::clone(&service.switch.serving().0.counters),
        None => Arc::new(BatchCounters::new(crew.bundle.models.len())),
    };
    let maker = LaneMaker::new(crew.config, count, crew.is_live, crew.wall, crew.stop);
    let workers = match equip(crew, &maker, &counters, posts) {
        Ok(workers) => workers,
        Err(error) => {
            return WorkerOutcome::new(&Counters::default(), Err(ServeError::Start(error)));
        }
    };
    let common = Common { crew, failed: &failed, maker: &maker };
    let mut all = Vec::new();
    let mut workers = workers.into_iter();
    let own = workers.next();
    std::thread::scope(|scope| {
        let start = |equipped: Equipped| {
            let index = equipped.index;
            let builder = Builder::new().name(format!("worker {index}"));
            let thread = builder.spawn_scoped(scope, move || common.work(equipped));
            (index, thread.inspect_err(|_| failed.store(true, Ordering::Relaxed)))
        };
        let threads: Vec<_> = workers.map(start).collect();
        all.extend(own.map(|equipped| common.work(equipped)));
        let end = |(index, thread): (usize, io::Result<ScopedJoinHandle<'_, WorkerOutcome>>)| {
            match thread {
                Ok(thread) => thread.join().unwrap_or_else(|payload| {
                    // All that a worker does is caught; this is the end of the catching.
                    common.fail(index, &panics::message(&*payload), &Counters::default())
                }),
                Err(error) => {
                    let why = format!("worker {index}: cannot start a thread: {error}");
                    let error = io::Error::new(error.kind(), why);
                    WorkerOutcome::new(&Counters::default(), Err(ServeError::Start(error)))
                }
            }
        };
        all.extend(threads.into_iter().map(end));
    });
    let batches = match crew.service {
        Some(service) => service.switch.batches(),
        None => {
            let stages = crew.bundle.cascade.stages().iter();
            stages.map(|stage| stage.name.clone()).zip(counters.tally()).collect()
        }
    };
    WorkerOutcome { batches, ..together(all) }
}

/// What a worker begins with.
struct Equipped {
    index: usize,
    engine: Engine,
    lanes: Lanes,
    post: WorkerIo,
}

/// Address space that must be left beside the limits, for models, batches and outputs.
const LEFT_BYTES: usize = 64 << 20;

/// Makes all that workers need before any of them starts, so that a lack of it is a sentence now
/// and not a panic later: lanes with their threads first, which need room for their stacks, then
/// engines with all the memory that their limits may ever come to.
fn equip(
    crew: &WorkerSetup<'_>,
    maker: &LaneMaker,
    counters: &Arc<BatchCounters>,
    posts: Vec<WorkerIo>,
) -> io::Result<Vec<Equipped>> {
    let count = posts.len();
    let lanes = maker.all(crew.bundle, counters)?;
    let equip = |((index, post), lanes)| {
        let limits = crew.config.engine.of_shard(index, count);
        let engine = Engine::new(Arc::clone(&crew.bundle.cascade), limits);
        let mut engine = engine.selecting(crew.selection.clone());
        engine.reserve().map_err(|shortage| no_memory(&shortage.to_string()))?;
        Ok(Equipped { index, engine, lanes, post })
    };
    let workers = posts.into_iter().enumerate().zip(lanes).map(equip);
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    if Vec::<u8>::new().try_reserve_exact(LEFT_BYTES).is_err() {
        let mib = LEFT_BYTES >> 20;
        let what = format!("expected {mib} MiB of address space beside the limits, found less");
        return Err(no_memory(&what));
    }
    Ok(workers)
}

fn no_memory(what: &str) -> io::Error {
    let advice = "lower flows.capacity and limits.record_packets, or raise the limit on memory";
    io::Error::new(io::ErrorKind::OutOfMemory, format!("{what}: {advice}"))
}

/// Bytes of input from which more than one worker is worth while.
const LARGE_INPUT: u64 = 16 << 20;

/// Workers for captures when nobody says how many: one per core, or a single one, which tells
/// verdicts in the same order each time, where the captures are small or nobody knows how large
/// they are.
#[must_use]
pub fn worth_while(captures: &[PathBuf]) -> usize {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |data| data.len());
    let is_large = captures.iter().map(size).sum::<u64>() >= LARGE_INPUT;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if is_large { cores() } else { 1 }
}

/// What the workers of a run share.
#[derive(Clone, Copy)]
struct Common<'a> {
    crew: &'a WorkerSetup<'a>,
    /// Set when one of them cannot write.
    failed: &'a AtomicBool,
    maker: &'a LaneMaker,
}

/// What a worker had when its last whole batch was served, and what outlives a panic of it.
struct Own {
    engine: Engine,
    sink: Box<dyn Sink>,
    whole: Counters,
}

impl Common<'_> {
    /// A worker's whole life. A panic ends it and none of the others.
    fn work(&self, equipped: Equipped) -> WorkerOutcome {
        let Equipped { index, engine, lanes, post } = equipped;
        let WorkerIo { source, sink } = post;
        let mut own = Own { engine, sink, whole: Counters::default() };
        // Sound: of what a panic leaves behind, only accounts that were whole are read, and the
        // sink is flushed, under a guard of its own.
        let life = AssertUnwindSafe(|| self.serve(index, &mut own, source, lanes));
        catch_unwind(life).unwrap_or_else(|payload| {
            let flush = AssertUnwindSafe(|| own.sink.flush());
            // What it wrote is whole lines; where they cannot be written, the others find out.
            let _ = catch_unwind(flush);
            self.fail(index, &panics::message(&*payload), &own.whole)
        })
    }

    /// Says that a worker panicked. It is counted up to its last whole batch.
    fn fail(&self, worker: usize, why: &str, whole: &Counters) -> WorkerOutcome {
        let open_flows = whole.flows.collecting + whole.flows.in_inference;
        tracing::error!(worker, why, open_flows, "a worker failed, the others serve on");
        if let Some(service) = self.crew.service {
            service.board.fail(worker, why);
        }
        let failure = Failure { worker, why: why.to_owned(), open_flows };
        let outcome = Ok(Outcome { damaged: Vec::new(), stopped: false });
        WorkerOutcome { failures: vec![failure], ..WorkerOutcome::new(whole, outcome) }
    }

    fn serve(
        &self,
        index: usize,
        own: &mut Own,
        mut source: Box<dyn Source>,
        lanes: Lanes,
    ) -> WorkerOutcome {
        let WorkerSetup { bundle, config, is_live, .. } = *self.crew;
        let Own { engine, sink, whole } = own;
        engine.prefault();
        let mut lanes = self.watched(index, bundle, lanes);
        let mut wall = self.crew.wall;
        let mut desk = self.crew.service.map(|service| {
            let (counting, tally) = counted(sink_of(sink), bundle, is_live);
            service.board.count_by(index, &tally);
            *sink = counting;
            ServiceHooks::new(index, service, tally, config.degradation)
        });
        let mut worker = Worker {
            engine: &mut *engine,
            lanes: &mut lanes,
            sink: sink.as_mut(),
            wall: &mut wall,
            batch_frames: config.batch_frames,
            // Captures can wait, and pipes by their writers.
            when_full: config.lanes.when_full(!is_live),
            flush_ns: if is_live { LIVE_FLUSH_NS } else { u64::MAX },
        };
        let outcome = worker.run(source.as_mut(), &mut |batch, worker| {
            *whole = *worker.engine.accounts();
            if let Some(desk) = &mut desk {
                desk.turn(self, batch, worker);
            }
            let is_at_end = !self.crew.drains || batch.is_over();
            let stops = self.crew.stop.load(Ordering::Relaxed) && is_at_end;
            match stops || self.failed.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        if let Some(desk) = &mut desk {
            desk.post(engine);
            desk.service.board.done(index);
        }
        WorkerOutcome::new(engine.accounts(), outcome.map_err(ServeError::Output))
    }

    /// The lanes of a later bundle, which were made before it was served. Where another version of
    /// the same bundle had them, new ones; `None` where the system does not have what they need.
    fn lanes_of(&self, index: usize, loaded: &LoadedBundle) -> Option<Lanes> {
        let made = loaded.take_lanes(index);
        made.or_else(|| self.maker.lanes(&loaded.bundle, &loaded.counters).ok())
    }

    /// A worker's lanes, with whoever watches their answers in front of them.
    fn watched(&self, index: usize, bundle: &Bundle, lanes: Lanes) -> Vec<Box<dyn Lane>> {
        let lanes = lanes::boxed(lanes);
        match self.crew.drift {
            Some(board) => board.watch(index, bundle.drift.as_ref(), lanes),
            None => lanes,
        }
    }
}

/// Takes a sink out, to put another one in front of it.
fn sink_of(sink: &mut Box<dyn Sink>) -> Box<dyn Sink> {
    std::mem::replace(sink, Box::new(Null::default()))
}

/// A sink that counts in front of another one.
fn counted(
    inner: Box<dyn Sink>,
    bundle: &Bundle,
    is_live: bool,
) -> (Box<dyn Sink>, Arc<Mutex<VerdictStats>>) {
    let stages: Vec<String> =
        bundle.cascade.stages().iter().map(|stage| stage.name.clone()).collect();
    let tally = VerdictStats::new(bundle.cascade.labels(), &stages);
    let (sink, tally) =
        StatsSink::new(inner, tally, is_live.then_some(clock::epoch_ns as fn() -> u64));
    (Box::new(sink), tally)
}

/// Where a worker tells of itself, and looks for a new bundle.
struct ServiceHooks<'a> {
    index: usize,
    service: &'a Service,
    tally: Arc<Mutex<VerdictStats>>,
    turns: u64,
    version: u64,
    /// When it last told, wall time.
    posted_at: Option<u64>,
    shadow: Option<Shadow>,
    shadow_version: u64,
    /// What was served of late, for the shadow.
    served: Vec<Verdicted>,
    valve: DegradationControl,
    /// Batches in a row that were full.
    full_batches: u32,
    /// Ages of verdicts at the last look, when that was, and what it told.
    age: Histogram,
    aged_at: u64,
    p99_ns: Option<u64>,
}

/// Full batches in a row that show that a worker is behind its source.
const FULL_BATCHES: u32 = 8;
/// Time between two looks at the age of verdicts, nanoseconds.
const AGE_NS: u64 = 100_000_000;

/// Time between two states that a worker tells, nanoseconds.
const POST_NS: u64 = 50_000_000;

impl<'a> ServiceHooks<'a> {
    fn new(
        index: usize,
        service: &'a Service,
        tally: Arc<Mutex<VerdictStats>>,
        limits: DegradationLimits,
    ) -> Self {
        Self {
            index,
            service,
            tally,
            turns: 0,
            version: 0,
            posted_at: None,
            shadow: None,
            shadow_version: 0,
            served: Vec::new(),
            valve: DegradationControl::new(limits),
            full_batches: 0,
            age: Histogram::default(),
            aged_at: 0,
            p99_ns: None,
        }
    }

    /// Between two batches.
    fn turn(&mut self, common: &Common<'_>, batch: &Batch, worker: &mut Worker<'_>) {
        self.turns += 1;
        if self.service.switch.version() != self.version {
            let (loaded, version) = self.service.switch.serving();
            // While flows go by as many bundles as there may be, the new one waits.
            if worker.engine.free_plan().is_some()
                && let Some(lanes) = common.lanes_of(self.index, &loaded)
            {
                let lanes = common.watched(self.index, &loaded.bundle, lanes);
                worker.adopt(&loaded.bundle.cascade, lanes);
                self.version = version;
                self.posted_at = None;
            }
        }
        self.shadow(common, batch, worker);
        let now = (worker.wall)();
        if common.crew.is_live {
            self.relieve(common, batch, worker, now);
        }
        let is_due = self.posted_at.is_none_or(|at| now.saturating_sub(at) >= POST_NS);
        // The last state before the end holds every packet, and so each flow that is to get a
        // verdict.
        if is_due || batch.quiet_until().is_some() || batch.is_over() {
            self.posted_at = Some(now);
            self.post(worker.engine);
        }
    }

    /// Loosens the gates while the worker cannot keep up, and tightens them again.
    fn relieve(&mut self, common: &Common<'_>, batch: &Batch, worker: &mut Worker<'_>, now: u64) {
        let config = common.crew.config;
        self.full_batches =
            if batch.len() >= worker.batch_frames { self.full_batches + 1 } else { 0 };
        if now.saturating_sub(self.aged_at) >= AGE_NS {
            let age = self.tally().age.clone();
            let since = age.since(&self.age);
            // A hundred verdicts tell what one in a hundred does.
            self.p99_ns =
                (since.count() >= 100).then(|| since.quantile_ns(0.99).unwrap_or(u64::MAX));
            (self.age, self.aged_at) = (age, now);
        }
        let load = LaneLoad {
            jobs: worker.engine.jobs_out() as u64,
            room: config.queue_depth as u64,
            is_behind: self.full_batches >= FULL_BATCHES,
            p99_ns: self.p99_ns,
        };
        let most = worker.engine.cascade().degradation_levels();
        if self.valve.look(&load, most, now) {
            let level = self.valve.level();
            worker.engine.set_degradation(level);
            let lane = load.jobs as f64 / load.room as f64;
            tracing::warn!(
                worker = self.index,
                level,
                lane,
                behind = load.is_behind,
                "degradation"
            );
            self.service.board.relieve(self.index, &self.valve);
        }
    }

    /// Lets the shadow look, and puts another one in its place where that is wanted.
    fn shadow(&mut self, common: &Common<'_>, batch: &Batch, worker: &mut Worker<'_>) {
        if self.service.shadow_version() != self.shadow_version {
            let (plan, version) = self.service.shadow();
            let crew = common.crew;
            let limits = crew.config.engine.of_shard(self.index, crew.config.workers.max(1));
            let begin = |plan: &ShadowPlan| {
                let lanes = lanes::boxed(common.lanes_of(self.index, &plan.loaded)?);
                Some(Shadow::new(plan, limits, crew.selection.clone(), lanes))
            };
            self.shadow = plan.as_ref().and_then(begin);
            self.shadow_version = version;
            self.tally().keep_none();
            self.service.board.compare(self.index, &Comparison::default());
        }
        let Some(shadow) = &mut self.shadow else { return };
        locked(&self.tally).take_kept(&mut self.served);
        shadow.look(batch, &self.served, &mut *worker.wall);
    }

    fn tally(&self) -> MutexGuard<'_, VerdictStats> {
        locked(&self.tally)
    }

    fn post(&self, engine: &Engine) {
        if let Some(shadow) = &self.shadow {
            self.service.board.compare(self.index, shadow.comparison());
        }
        self.service.board.post(self.index, engine, &self.tally, self.turns, self.version);
    }
}

/// One account of all workers; the first error stands for all.
fn together(all: Vec<WorkerOutcome>) -> WorkerOutcome {
    let mut accounts = Counters::default();
    // Workers that share a source go by one clock: each has counted the same restarts.
    let clock_restarts = all.iter().map(|served| served.accounts.clock_restarts).max();
    let mut outcome = Ok(Outcome { damaged: Vec::new(), stopped: false });
    let mut failures = Vec::new();
    for served in all {
        accounts.add(&served.accounts);
        failures.extend(served.failures);
        outcome = match (outcome, served.outcome) {
            (Ok(mut sum), Ok(own)) => {
                sum.damaged.extend(own.damaged);
                sum.stopped |= own.stopped;
                Ok(sum)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    accounts.clock_restarts = clock_restarts.unwrap_or(0);
    WorkerOutcome { failures, ..WorkerOutcome::new(&accounts, outcome) }
}
