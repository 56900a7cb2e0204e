//! How long answers are waited for where packets can wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Without end, as long as the run goes on: a capture file is as patient as the slowest model. Once
/// the run is stopped, for so long: a model that hangs must not hold up the end.
#[derive(Clone, Debug)]
pub struct GiveUp {
    stop: Arc<AtomicBool>,
    grace: Duration,
    /// When the stop was first seen.
    stopped_at: Arc<OnceLock<Instant>>,
}

impl GiveUp {
    /// Answers are given up so long after `stop` is set.
    #[must_use]
    pub fn new(stop: Arc<AtomicBool>, grace: Duration) -> Self {
        Self { stop, grace, stopped_at: Arc::default() }
    }

    /// Whether answers are waited for no longer. Asked often by whoever waits, so that a stop is
    /// seen soon.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
            && self.stopped_at.get_or_init(Instant::now).elapsed() >= self.grace
    }
}
