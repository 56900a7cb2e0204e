//! Lanes for all workers, made before any of them needs them.
//!
//! A lane may need threads, and the system may have none. So whoever changes the bundle makes the
//! lanes of all workers first, and changes nothing where that fails; a worker then only takes its
//! own.

use super::{BatchConfig, BatchCounters, GiveUp, LaneParts, Lanes, Spawn, build, spawn};
use crate::config::Config;
use serveflow_model::bundle::Bundle;
use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Makes the lanes of workers.
#[derive(Clone, Debug)]
pub struct LaneMaker {
    workers: usize,
    jobs: usize,
    batch: BatchConfig,
    wall: fn() -> u64,
    give_up: Option<GiveUp>,
    spawn: Spawn,
}

impl LaneMaker {
    /// Lanes for so many workers as a configuration says. Those of live traffic give up on what is
    /// late; those of captures wait until `stop` is set, and then as long as an end may take
    /// (`service.shutdown_timeout_ms`).
    #[must_use]
    pub fn new(
        config: &Config,
        workers: usize,
        is_live: bool,
        wall: fn() -> u64,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        // Before whoever keeps the time of the end ends the process.
        let grace = Duration::from_millis(config.service.shutdown_timeout_ms as u64 / 4 * 3);
        let give_up = (!is_live).then(|| GiveUp::new(Arc::clone(stop), grace));
        let (jobs, batch) = (config.queue_depth, config.lanes.batch);
        Self { workers, jobs, batch, wall, give_up, spawn }
    }

    /// The same, but with threads from elsewhere.
    #[must_use]
    pub fn spawning_by(self, spawn: Spawn) -> Self {
        Self { spawn, ..self }
    }

    /// The lanes of one worker for a bundle's stages.
    ///
    /// # Errors
    /// When the system gives a lane no thread.
    pub fn lanes(&self, bundle: &Bundle, counters: &Arc<BatchCounters>) -> io::Result<Lanes> {
        let parts = LaneParts {
            batch: self.batch,
            wall: Arc::new(self.wall),
            counters: Arc::clone(counters),
            give_up: self.give_up.clone(),
            spawn: self.spawn,
            ..LaneParts::new(&bundle.models, self.jobs)
        };
        build(&parts, bundle.cascade.stages())
    }

    /// The lanes of all workers, or of none.
    ///
    /// # Errors
    /// When the system gives a lane no thread.
    pub fn all(&self, bundle: &Bundle, counters: &Arc<BatchCounters>) -> io::Result<Vec<Lanes>> {
        (0..self.workers).map(|_| self.lanes(bundle, counters)).collect()
    }
}

/// The lanes of a bundle that wait for their workers.
#[derive(Default)]
pub struct LaneSets(Mutex<Vec<Option<Lanes>>>);

impl LaneSets {
    fn sets(&self) -> MutexGuard<'_, Vec<Option<Lanes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these wait, by worker, in the place of what waited before.
    pub fn put(&self, lanes: Vec<Lanes>) {
        let before = std::mem::replace(&mut *self.sets(), lanes.into_iter().map(Some).collect());
        // Threads end here, where nobody waits for the lock.
        drop(before);
    }

    /// Takes a worker's; `None` where they were taken.
    #[must_use]
    pub fn take(&self, worker: usize) -> Option<Lanes> {
        self.sets().get_mut(worker).and_then(Option::take)
    }
}

impl fmt::Debug for LaneSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.sets().iter().flatten().count();
        f.debug_struct("LaneSets").field("waiting", &waiting).finish()
    }
}
