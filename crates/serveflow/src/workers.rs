//! Workers: each a thread with a source, an engine, lanes and a sink of its own.

use crate::config::Config;
use crate::lanes::{self, BatchCounters, LaneParts, StageTally};
use serveflow_core::accounts::Accounts;
use serveflow_core::engine::Engine;
use serveflow_core::select::Selection;
use serveflow_io::drive::{Outcome, Worker};
use serveflow_io::{Sink, Source};
use serveflow_model::bundle::Bundle;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
}

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
    let counters = Arc::new(BatchCounters::new(crew.bundle.models.len()));
    let work = |engine, post| work(crew, post, engine, &failed, &counters);
    let mut all = Vec::new();
    // All engines before any thread: each looks for how much memory there is to set aside, and must
    // not find what another is about to use.
    let engine = |(index, post)| {
        let limits = crew.config.engine.of_shard(index, count);
        let engine = Engine::new(Arc::clone(&crew.bundle.cascade), limits);
        (engine.selecting(crew.selection.clone()), post)
    };
    let mut posts = posts.into_iter().enumerate().map(engine).collect::<Vec<_>>().into_iter();
    let own = posts.next();
    std::thread::scope(|scope| {
        let start = |(engine, post)| {
            let thread = Builder::new().spawn_scoped(scope, move || work(engine, post));
            thread.inspect_err(|_| failed.store(true, Ordering::Relaxed))
        };
        let threads: Vec<_> = posts.map(start).collect();
        all.extend(own.map(|(engine, post)| work(engine, post)));
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

fn work(
    crew: &Crew<'_>,
    mut post: Post,
    mut engine: Engine,
    failed: &AtomicBool,
    counters: &Arc<BatchCounters>,
) -> Served {
    let Crew { bundle, config, .. } = crew;
    engine.prefault();
    let mut lanes = lanes::build(&LaneParts {
        batch: config.lanes.batch,
        wall: Arc::new(crew.wall),
        counters: Arc::clone(counters),
        ..LaneParts::new(&bundle.models, config.lane_jobs)
    });
    let mut wall = crew.wall;
    let mut worker = Worker {
        engine: &mut engine,
        lanes: &mut lanes,
        sink: post.sink.as_mut(),
        wall: &mut wall,
        batch_frames: config.batch_frames,
        // Whatever is read here can wait: captures, and pipes by their writers.
        when_full: config.lanes.when_full(true),
    };
    let is_over = || crew.stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let outcome = worker.run(post.source.as_mut(), &mut |_, _| match is_over() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    if outcome.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    Served::new(*engine.accounts(), outcome)
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
