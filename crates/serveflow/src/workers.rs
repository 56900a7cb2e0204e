//! Workers: each a thread with a source, an engine, lanes and a sink of its own.

use crate::clock;
use crate::config::Config;
use crate::lanes::{self, BatchCounters, LaneParts, StageTally};
use crate::service::{
    Comparison, DriftBoard, Histogram, Load, Served as Verdicted, Service, Shadow, ShadowPlan,
    Tally, TallySink, Valve, ValveLimits, lanes_of,
};
use serveflow_core::accounts::Accounts;
use serveflow_core::engine::Engine;
use serveflow_core::lane::Lane;
use serveflow_core::select::Selection;
use serveflow_io::drive::{Outcome, Worker};
use serveflow_io::{Batch, Null, Sink, Source};
use serveflow_model::bundle::Bundle;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, ScopedJoinHandle};

/// What all workers have in common.
pub struct Crew<'a> {
    /// The cascade and its models.
    pub bundle: &'a Bundle,
    /// Limits; those of flows and packets are for all workers together.
    pub config: &'a Config,
    /// Which flows are served; all where there is none.
    pub selection: Option<Arc<Selection>>,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: fn() -> u64,
    /// Set from outside to end the run: every open flow then gets its verdict.
    pub stop: &'a AtomicBool,
    /// Whether packets come by themselves: then they do not wait, sources end by themselves when they are
    /// stopped, and verdicts are written soon.
    pub is_live: bool,
    /// What is told and changed meanwhile, where it is a service.
    pub service: Option<&'a Service>,
    /// Where drift is told, if it is watched.
    pub drift: Option<&'a DriftBoard>,
}

/// Longest that a verdict on live traffic waits to be written while more of it waits, nanoseconds.
const LIVE_FLUSH_NS: u64 = 20_000_000;

/// A worker's own: what it reads and where its verdicts go.
pub struct Post {
    /// Brings the packets of this worker's flows and no others'.
    pub source: Box<dyn Source>,
    /// Takes the verdicts.
    pub sink: Box<dyn Sink>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Served {
    /// Where packets and flows went, all workers together.
    pub accounts: Accounts,
    /// What batch lanes did, by stage index, all workers together.
    pub batches: Vec<StageTally>,
    /// How it ended; an error when a sink failed, which ends all workers.
    pub outcome: io::Result<Outcome>,
}

impl Served {
    /// What came of a worker: what its lanes counted is told for all workers together.
    fn new(accounts: Accounts, outcome: io::Result<Outcome>) -> Self {
        Self { accounts, batches: Vec::new(), outcome }
    }
}

/// Serves each source to its end on a thread of its own; a single one on the caller's.
///
/// # Panics
/// When a worker does.
#[must_use]
pub fn serve(crew: &Crew<'_>, mut posts: Vec<Post>) -> Served {
    let count = posts.len();
    // A heading stands before the lines of all workers, whoever writes first.
    if let Some(Err(error)) = posts.first_mut().map(|post| post.sink.flush()) {
        return Served::new(Accounts::default(), Err(error));
    }
    let failed = AtomicBool::new(false);
    let counters = match crew.service {
        Some(service) => Arc::clone(&service.switch.serving().0.counters),
        None => Arc::new(BatchCounters::new(crew.bundle.models.len())),
    };
    let common = Common { crew, failed: &failed, counters: &counters };
    let work = |index, engine, post| common.work(index, post, engine);
    let mut all = Vec::new();
    // All engines before any thread: each looks for how much memory there is to set aside, and must
    // not find what another is about to use.
    let engine = |(index, post)| {
        let limits = crew.config.engine.of_shard(index, count);
        let engine = Engine::new(Arc::clone(&crew.bundle.cascade), limits);
        (index, engine.selecting(crew.selection.clone()), post)
    };
    let mut posts = posts.into_iter().enumerate().map(engine).collect::<Vec<_>>().into_iter();
    let own = posts.next();
    std::thread::scope(|scope| {
        let start = |(index, engine, post)| {
            let thread = Builder::new().spawn_scoped(scope, move || work(index, engine, post));
            thread.inspect_err(|_| failed.store(true, Ordering::Relaxed))
        };
        let threads: Vec<_> = posts.map(start).collect();
        all.extend(own.map(|(index, engine, post)| work(index, engine, post)));
        let end = |thread: io::Result<ScopedJoinHandle<'_, Served>>| match thread {
            Ok(thread) => thread.join().expect("no worker panics"),
            Err(error) => {
                let outcome = Err(io::Error::new(error.kind(), format!("a worker: {error}")));
                Served::new(Accounts::default(), outcome)
            }
        };
        all.extend(threads.into_iter().map(end));
    });
    Served { batches: counters.tally(), ..together(all) }
}

/// Bytes of input from which more than one worker is worth while.
const LARGE_INPUT: u64 = 16 << 20;

/// Workers for captures when nobody says how many: one per core, or a single one, which tells verdicts
/// in the same order each time, where the captures are small or nobody knows how large they are.
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
    crew: &'a Crew<'a>,
    /// Set when one of them cannot write.
    failed: &'a AtomicBool,
    counters: &'a Arc<BatchCounters>,
}

impl Common<'_> {
    /// A worker's whole life.
    fn work(&self, index: usize, post: Post, mut engine: Engine) -> Served {
        let Crew { bundle, config, is_live, .. } = *self.crew;
        engine.prefault();
        let mut lanes = self.lanes(index, bundle, self.counters);
        let mut wall = self.crew.wall;
        let (mut source, mut sink) = (post.source, post.sink);
        let mut desk = self.crew.service.map(|service| {
            let (counting, tally) = counted(sink_of(&mut sink), bundle, is_live);
            service.board.count_by(index, &tally);
            sink = counting;
            Desk::new(index, service, tally, config.relief)
        });
        let mut worker = Worker {
            engine: &mut engine,
            lanes: &mut lanes,
            sink: sink.as_mut(),
            wall: &mut wall,
            batch_frames: config.batch_frames,
            // Captures can wait, and pipes by their writers.
            when_full: config.lanes.when_full(!is_live),
            flush_ns: if is_live { LIVE_FLUSH_NS } else { u64::MAX },
        };
        let outcome = worker.run(source.as_mut(), &mut |batch, worker| {
            if let Some(desk) = &mut desk {
                desk.turn(self, batch, worker);
            }
            // A live source that is stopped still brings what came before.
            let stops = self.crew.stop.load(Ordering::Relaxed) && (!is_live || batch.is_over());
            match stops || self.failed.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        if let Some(desk) = &mut desk {
            desk.post(&engine);
            desk.service.board.done(index);
        }
        Served::new(*engine.accounts(), outcome)
    }

    /// The lanes of a worker for a bundle.
    fn lanes(
        &self,
        index: usize,
        bundle: &Bundle,
        counters: &Arc<BatchCounters>,
    ) -> Vec<Box<dyn Lane>> {
        let config = self.crew.config;
        let lanes = lanes::build(&LaneParts {
            batch: config.lanes.batch,
            wall: Arc::new(self.crew.wall),
            counters: Arc::clone(counters),
            ..LaneParts::new(&bundle.models, config.lane_jobs)
        });
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
) -> (Box<dyn Sink>, Arc<Mutex<Tally>>) {
    let stages: Vec<String> =
        bundle.cascade.stages().iter().map(|stage| stage.name.clone()).collect();
    let tally = Tally::new(bundle.cascade.labels(), &stages);
    let (sink, tally) =
        TallySink::new(inner, tally, is_live.then_some(clock::epoch_ns as fn() -> u64));
    (Box::new(sink), tally)
}

/// Where a worker tells of itself, and looks for a new bundle.
struct Desk<'a> {
    index: usize,
    service: &'a Service,
    tally: Arc<Mutex<Tally>>,
    turns: u64,
    version: u64,
    /// When it last told, wall time.
    posted_at: Option<u64>,
    shadow: Option<Shadow>,
    shadow_version: u64,
    /// What was served of late, for the shadow.
    served: Vec<Verdicted>,
    valve: Valve,
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

impl<'a> Desk<'a> {
    fn new(
        index: usize,
        service: &'a Service,
        tally: Arc<Mutex<Tally>>,
        limits: ValveLimits,
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
            valve: Valve::new(limits),
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
            if worker.engine.free_plan().is_some() {
                let lanes = common.lanes(self.index, &loaded.bundle, &loaded.counters);
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
        // The last state before the end holds every packet, and so each flow that is to get a verdict.
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
        let load = Load {
            jobs: worker.engine.jobs_out() as u64,
            room: config.lane_jobs as u64,
            is_behind: self.full_batches >= FULL_BATCHES,
            p99_ns: self.p99_ns,
        };
        let most = worker.engine.cascade().relief_levels();
        if self.valve.look(&load, most, now) {
            let level = self.valve.level();
            worker.engine.set_relief(level);
            let lane = load.jobs as f64 / load.room as f64;
            tracing::warn!(worker = self.index, level, lane, behind = load.is_behind, "relief");
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
                Shadow::new(
                    plan,
                    limits,
                    crew.selection.clone(),
                    lanes_of(&plan.loaded, crew.config.lane_jobs),
                )
            };
            self.shadow = plan.as_ref().map(begin);
            self.shadow_version = version;
            self.tally().keep_none();
            self.service.board.compare(self.index, &Comparison::default());
        }
        let Some(shadow) = &mut self.shadow else { return };
        self.tally.lock().expect("nobody panics who counts").take_kept(&mut self.served);
        shadow.look(batch, &self.served, &mut *worker.wall);
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("nobody panics who counts")
    }

    fn post(&self, engine: &Engine) {
        if let Some(shadow) = &self.shadow {
            self.service.board.compare(self.index, shadow.comparison());
        }
        self.service.board.post(self.index, engine, &self.tally, self.turns, self.version);
    }
}

/// One account of all workers; the first error stands for all.
fn together(all: Vec<Served>) -> Served {
    let mut accounts = Accounts::default();
    // Workers that share a source go by one clock: each has counted the same restarts.
    let clock_restarts = all.iter().map(|served| served.accounts.clock_restarts).max();
    let mut outcome = Ok(Outcome { damaged: Vec::new(), stopped: false });
    for served in all {
        accounts.add(&served.accounts);
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
    Served::new(accounts, outcome)
}
