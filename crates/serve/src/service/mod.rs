//! The service around the workers: what is told of them while they serve, and what may be changed.
//!
//! One thread beside the workers answers requests, looks for signals and for a new bundle, and
//! tells systemd that the workers turn. It takes no lock that a worker waits for longer than it
//! takes to copy a few counters.

mod attaching;
mod bundle_swap;
mod bundle_watch;
mod connections;
mod control;
mod degradation;
mod drift;
mod ending;
mod http;
mod link_log;
mod loader;
pub mod log;
mod metrics;
mod needs;
mod output_log;
pub mod preflight;
mod readiness;
mod sandbox;
mod shadow;
mod systemd;
mod verdict_stats;
mod worker_state;

pub use attaching::Attaching;
pub use bundle_swap::{BundleSwap, LoadedBundle, Refused};
pub use control::{Control, Listeners, ask};
pub use degradation::{DegradationControl, DegradationLimits, LaneLoad};
pub use drift::{DriftMonitor, StageDrift};
pub use http::{DeferredAnswer, HttpAnswer, Reply, reply};
pub use loader::{BundleLoad, Loader, NotLoaded, Pending};
pub use metrics::page;
pub use needs::MemoryBound;
pub use readiness::NotReady;
pub use sandbox::{Sandbox, confine, confine_capturing, keep_capabilities, would_write};
pub use shadow::{Comparison, Shadow, ShadowPlan, ShadowVerdict};
pub use verdict_stats::{BOUNDS, Histogram, StatsSink, VerdictCounts, VerdictStats};
pub(crate) use worker_state::locked;
pub use worker_state::{Totals, WorkerState, WorkerStates};

use crate::live::{Counted, InterfaceCount};
use serveflow_output::{Output, OutputStatus};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Says of which thread it is that the system does not give it.
pub fn no_thread(name: &str) -> impl FnOnce(std::io::Error) -> std::io::Error {
    move |error| {
        let limits = match error.kind() {
            // All limits of threads say the same.
            std::io::ErrorKind::WouldBlock => {
                "; `ulimit -u` and `ulimit -v`, a unit's TasksMax and \
                pids.max of a control group limit threads"
            }
            _ => "",
        };
        let what = format!("cannot start the thread {name}: {error}{limits}");
        std::io::Error::new(error.kind(), what)
    }
}

/// The exit code of a run that did its work and lost something on the way, which is counted.
pub const EXIT_LOST: i32 = 4;

/// All that is told and changed while workers serve.
#[derive(Debug)]
pub struct Service {
    /// The bundle that is served.
    pub switch: BundleSwap,
    /// What workers tell.
    pub board: WorkerStates,
    /// Whether the traffic is still that of the calibration.
    pub drift: DriftMonitor,
    /// What happened.
    pub events: Events,
    /// Reads bundles.
    pub loader: Loader,
    /// What the kernel counts, where packets come from interfaces.
    counted: Option<Counted>,
    /// Where verdicts go, if anywhere.
    output: Option<Output>,
    /// The bundle in the shadow of the one that is served.
    shadow: Mutex<Option<ShadowPlan>>,
    /// How often that was changed.
    shadow_version: AtomicU64,
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
        switch: BundleSwap,
        workers: usize,
        counted: Option<Counted>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            switch,
            board: WorkerStates::new(workers),
            drift: DriftMonitor::new(workers),
            events: Events::default(),
            loader: Loader::default(),
            counted,
            output: None,
            shadow: Mutex::default(),
            shadow_version: AtomicU64::new(0),
            stop,
        }
    }

    /// The same, with verdicts going to this output.
    #[must_use]
    pub fn writing_to(self, output: Option<Output>) -> Self {
        Self { output, ..self }
    }

    /// How the output is.
    #[must_use]
    pub fn output(&self) -> OutputStatus {
        self.output.as_ref().map(Output::status).unwrap_or_default()
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
    pub fn reload(&self, path: Option<&Path>) -> Result<Arc<LoadedBundle>, Refused> {
        self.reload_while(path, &|| true)
    }

    /// [`Service::reload`], if it is still wanted when the bundle is read.
    fn reload_while(
        &self,
        path: Option<&Path>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Arc<LoadedBundle>, Refused> {
        let before = self.switch.version();
        let loaded = self.switch.reload(path, is_wanted);
        match &loaded {
            Ok(loaded) => {
                let is_new = self.switch.version() != before;
                let what = if is_new { "bundle served" } else { "bundle served as before" };
                tracing::info!(bundle = loaded.id, path = %loaded.path.display(), "{what}");
            }
            Err(refused) => self.refuse(refused),
        }
        loaded
    }

    fn refuse(&self, refused: &Refused) {
        self.events.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(path = %refused.path.display(), why = refused.why, "bundle refused");
    }

    /// Serves the bundle before this one again; `None` where there was none. A bundle that is being
    /// read is then not served.
    ///
    /// # Errors
    /// When the system does not have what its lanes need; the one that is served serves on.
    pub fn roll_back(&self) -> Result<Option<Arc<LoadedBundle>>, Refused> {
        self.loader.give_up();
        let loaded = self.switch.roll_back().inspect_err(|refused| self.refuse(refused))?;
        if let Some(LoadedBundle { id, path, .. }) = loaded.as_deref() {
            tracing::info!(bundle = id, path = %path.display(), "bundle rolled back");
        }
        Ok(loaded)
    }

    /// The bundle in the shadow, and how often that was changed.
    #[must_use]
    pub fn shadow(&self) -> (Option<ShadowPlan>, u64) {
        let shadow = locked(&self.shadow);
        (shadow.clone(), self.shadow_version())
    }

    /// How often the bundle in the shadow was changed.
    #[must_use]
    pub fn shadow_version(&self) -> u64 {
        self.shadow_version.load(Ordering::Acquire)
    }

    fn put_shadow(&self, plan: Option<ShadowPlan>) {
        let mut shadow = locked(&self.shadow);
        *shadow = plan;
        self.shadow_version.fetch_add(1, Ordering::Release);
    }

    /// Puts a bundle into the shadow of the one that is served, on a share of the flows.
    ///
    /// # Errors
    /// When it is refused.
    pub fn begin_shadow(&self, path: &Path, share: f64) -> Result<Arc<LoadedBundle>, Refused> {
        self.begin_shadow_while(path, share, &|| true)
    }

    /// [`Service::begin_shadow`], if it is still wanted when the bundle is read.
    fn begin_shadow_while(
        &self,
        path: &Path,
        share: f64,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Arc<LoadedBundle>, Refused> {
        let loaded = self.switch.read_while(path, is_wanted);
        let loaded = Arc::new(loaded.inspect_err(|refused| self.refuse(refused))?);
        self.switch.make_shadow_lanes(&loaded).inspect_err(|refused| self.refuse(refused))?;
        let path = loaded.path.display();
        tracing::info!(bundle = loaded.id, %path, share, "bundle in the shadow");
        self.put_shadow(Some(ShadowPlan { loaded: Arc::clone(&loaded), share }));
        Ok(loaded)
    }

    /// Ends the shadow; its bundle, if there was one.
    pub fn end_shadow(&self) -> Option<Arc<LoadedBundle>> {
        let (plan, _) = self.shadow();
        let loaded = plan?.loaded;
        self.put_shadow(None);
        tracing::info!(bundle = loaded.id, "shadow ended");
        Some(loaded)
    }

    /// Serves the bundle of the shadow from now on, and ends the shadow; `None` where there is
    /// none.
    ///
    /// # Errors
    /// When the system does not have what its lanes need; the one that is served serves on.
    pub fn promote(&self) -> Result<Option<Arc<LoadedBundle>>, Refused> {
        let Some(loaded) = self.end_shadow() else { return Ok(None) };
        let loaded = self.switch.serve(loaded).inspect_err(|refused| self.refuse(refused))?;
        tracing::info!(bundle = loaded.id, path = %loaded.path.display(), "bundle promoted");
        Ok(Some(loaded))
    }
}
