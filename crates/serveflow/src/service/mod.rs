//! The service around the workers: what is told of them while they serve, and what may be changed.
//!
//! One thread beside the workers answers requests, looks for signals and for a new bundle, and tells systemd
//! that the workers turn. It takes no lock that a worker waits for longer than it takes to copy a few counters.

mod board;
mod confine;
mod control;
mod drift;
mod exposition;
mod http;
pub mod log;
mod notify;
mod switch;
mod tally;

pub use board::{Board, Totals, WorkerState};
pub use confine::{Confinement, confine};
pub use control::{Control, Listeners, ask};
pub use drift::{DriftBoard, StageDrift};
pub use exposition::page;
pub use http::{Answer, answer};
pub use switch::{Loaded, Refused, Switch};
pub use tally::{BOUNDS, Histogram, Said, Tally, TallySink};

use crate::live::{Counted, InterfaceCount};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// All that is told and changed while workers serve.
#[derive(Debug)]
pub struct Service {
    /// The bundle that is served.
    pub switch: Switch,
    /// What workers tell.
    pub board: Board,
    /// Whether the traffic is still that of the calibration.
    pub drift: DriftBoard,
    /// What happened.
    pub events: Events,
    /// What the kernel counts, where packets come from interfaces.
    counted: Option<Counted>,
    stop: Arc<AtomicBool>,
}

/// Counts of what happened.
#[derive(Debug, Default)]
pub struct Events {
    refused: AtomicU64,
}

impl Events {
    /// Bundles that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Service {
    /// A service for so many workers that end once `stop` is set.
    #[must_use]
    pub fn new(
        switch: Switch,
        workers: usize,
        counted: Option<Counted>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            switch,
            board: Board::new(workers),
            drift: DriftBoard::new(workers),
            events: Events::default(),
            counted,
            stop,
        }
    }

    /// What the kernel counted so far.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceCount> {
        self.counted.as_ref().map_or_else(Vec::new, Counted::read)
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Has all workers come to their end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Serves a bundle from now on, and says so; `None` reads the present one's directory anew.
    ///
    /// # Errors
    /// When it is refused; the one before serves on.
    pub fn reload(&self, path: Option<&Path>) -> Result<Arc<Loaded>, Refused> {
        let loaded = self.switch.reload(path);
        match &loaded {
            Ok(loaded) => {
                tracing::info!(bundle = loaded.id, path = %loaded.path.display(), "bundle served");
            }
            Err(refused) => {
                self.events.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(path = %refused.path.display(), why = refused.why, "bundle refused");
            }
        }
        loaded
    }

    /// Serves the bundle before this one again; `None` where there was none.
    pub fn roll_back(&self) -> Option<Arc<Loaded>> {
        let loaded = self.switch.roll_back()?;
        tracing::info!(bundle = loaded.id, path = %loaded.path.display(), "bundle rolled back");
        Some(loaded)
    }
}
