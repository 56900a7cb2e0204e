//! The lanes that a bundle's stages may name.

mod batch;
mod counters;
mod give_up;
mod maker;
mod thread;

pub use batch::{BatchConfig, BatchLane};
pub use counters::{BatchCounters, BatchTotals, StageTally};
pub use give_up::GiveUp;
pub use maker::{LaneMaker, LaneSets};
pub use thread::ThreadLane;

use crate::clock;
use serveflow_core::engine::Stage;
use serveflow_core::lane::{InlineLane, Lane, Model, NoLane};
use serveflow_model::bundle::LANE_NAMES;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::Builder;

/// Wall time, nanoseconds from any fixed start.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a thread does.
pub type Task = Box<dyn FnOnce() + Send>;

/// Starts a thread, by its name: the system's, or one of a test that has none to give.
pub type Spawn = fn(&str, Task) -> io::Result<()>;

/// A thread of the system, left to itself: a lane knows by other means when its threads are done.
fn spawn(name: &str, task: Task) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(task).map(|_| ())
}

/// The lanes of a worker, by lane index.
pub type Lanes = Vec<Box<dyn Lane + Send>>;

/// What lanes are made of.
#[derive(Clone)]
pub struct LaneParts {
    /// The model of each stage, by stage index.
    pub models: Vec<Arc<dyn Model>>,
    /// Jobs that may wait in a lane.
    pub jobs: usize,
    /// Limits of the batch lane.
    pub batch: BatchConfig,
    /// By which it knows what is late.
    pub wall: WallClock,
    /// What it counts, shared with whoever tells of it.
    pub counters: Arc<BatchCounters>,
    /// Where packets can wait, when answers are waited for no longer. Such lanes have no deadline
    /// and no breaker: a capture file is as patient as the slowest model.
    pub give_up: Option<GiveUp>,
    /// Starts their threads.
    pub spawn: Spawn,
}

impl LaneParts {
    /// Lanes for these models that hold at most so many waiting jobs, with the default limits, the
    /// machine's clock and threads, and counters of their own.
    #[must_use]
    pub fn new(models: &[Arc<dyn Model>], jobs: usize) -> Self {
        Self {
            models: models.to_vec(),
            jobs,
            batch: BatchConfig::default(),
            wall: Arc::new(clock::now_ns),
            counters: Arc::new(BatchCounters::new(models.len())),
            give_up: None,
            spawn,
        }
    }

    /// Starts a thread of a lane.
    fn start(&self, lane: &str, task: Task) -> io::Result<()> {
        (self.spawn)(lane, task).map_err(|error| {
            let why = format!("lane `{lane}`: cannot start a thread: {error}");
            io::Error::new(error.kind(), why)
        })
    }
}

impl fmt::Debug for LaneParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { models, jobs, batch, counters, give_up, .. } = self;
        let mut parts = f.debug_struct("LaneParts");
        parts.field("models", models).field("jobs", jobs).field("batch", batch);
        parts.field("counters", counters).field("give_up", give_up).finish_non_exhaustive()
    }
}

/// Makes a lane, or says why the system does not have what it needs.
pub type BuildLane = fn(&LaneParts) -> io::Result<Box<dyn Lane + Send>>;

/// A lane that stages may name.
pub struct LaneEntry {
    /// Name in plans, the same as in `LANE_NAMES`.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Makes one.
    pub build: BuildLane,
}

/// All lanes, by lane index. A new one is one entry here and its name in `LANE_NAMES`.
pub const LANES: [LaneEntry; LANE_NAMES.len()] = [
    LaneEntry {
        name: "inline",
        doc: "scores on the worker's own thread, as soon as a batch is full",
        build: |parts| Ok(Box::new(InlineLane::new(parts.models.clone()))),
    },
    LaneEntry {
        name: "thread",
        doc: "scores on a separate thread behind a bounded queue; a full queue waits or sheds",
        build: |parts| Ok(Box::new(ThreadLane::new(parts)?)),
    },
    LaneEntry {
        name: "batch",
        doc: "batches jobs on separate threads, with a deadline and a circuit breaker, for slow \
              models",
        build: |parts| Ok(Box::new(BatchLane::new(parts)?)),
    },
];

/// Threads that compute in a lane, beside the worker's own.
#[must_use]
pub fn threads(lane: usize, batch: &BatchConfig) -> usize {
    match LANE_NAMES.get(lane) {
        Some(&"inline") => 0,
        Some(&"batch") => batch.threads,
        _ => 1,
    }
}

/// The lanes that these stages are scored in; in the place of the others stands one that takes
/// nothing.
///
/// # Errors
/// When the system gives a lane no thread.
pub fn build(parts: &LaneParts, stages: &[Stage]) -> io::Result<Lanes> {
    let is_used = |lane: usize| stages.iter().any(|stage| stage.lane == lane);
    let lane = |(index, entry): (usize, &LaneEntry)| match is_used(index) {
        true => (entry.build)(parts),
        false => Ok(Box::new(NoLane) as Box<dyn Lane + Send>),
    };
    LANES.iter().enumerate().map(lane).collect()
}

/// The same, as a worker takes them.
#[must_use]
pub fn boxed(lanes: Lanes) -> Vec<Box<dyn Lane>> {
    lanes.into_iter().map(|lane| lane as Box<dyn Lane>).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_the_bundle_has_an_entry_in_the_same_order() {
        assert_eq!(LANES.map(|entry| entry.name), LANE_NAMES);
        assert!(LANES.iter().all(|entry| !entry.doc.is_empty()));
    }
}
