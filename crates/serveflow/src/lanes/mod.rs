//! The lanes that a bundle's stages may name.

mod batch;
mod counters;
mod thread;

pub use batch::{BatchConfig, BatchLane};
pub use counters::{BatchCounters, StageTally};
pub use thread::ThreadLane;

use crate::clock;
use serveflow_core::lane::{InlineLane, Lane, Model};
use serveflow_model::bundle::LANE_NAMES;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Wall time, nanoseconds from any fixed start.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

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
}

impl LaneParts {
    /// Lanes for these models that hold at most so many waiting jobs, with the default limits, the
    /// machine's clock, and counters of their own.
    #[must_use]
    pub fn new(models: &[Arc<dyn Model>], jobs: usize) -> Self {
        Self {
            models: models.to_vec(),
            jobs,
            batch: BatchConfig::default(),
            wall: Arc::new(clock::now_ns),
            counters: Arc::new(BatchCounters::new(models.len())),
        }
    }
}

impl fmt::Debug for LaneParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { models, jobs, batch, counters, .. } = self;
        let mut parts = f.debug_struct("LaneParts");
        parts.field("models", models).field("jobs", jobs).field("batch", batch);
        parts.field("counters", counters).finish_non_exhaustive()
    }
}

/// Makes a lane.
pub type BuildLane = fn(&LaneParts) -> Box<dyn Lane>;

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
        build: |parts| Box::new(InlineLane::new(parts.models.clone())),
    },
    LaneEntry {
        name: "thread",
        doc: "scores on a thread of its own behind a bounded queue; a full queue waits or sheds",
        build: |parts| Box::new(ThreadLane::new(parts.models.clone(), parts.jobs)),
    },
    LaneEntry {
        name: "batch",
        doc: "joins jobs on threads of its own, with a deadline and a circuit breaker, for slow models",
        build: |parts| Box::new(BatchLane::new(parts)),
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

/// One lane of each kind.
#[must_use]
pub fn build(parts: &LaneParts) -> Vec<Box<dyn Lane>> {
    LANES.iter().map(|entry| (entry.build)(parts)).collect()
}

/// Whether a call of a model went well. A model that panics fails like any other: its job must come
/// back, or its flows would be waited for without end.
fn went_well(call: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(false)
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
