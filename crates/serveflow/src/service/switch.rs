//! The bundle that is served, and how it is changed under running traffic.
//!
//! A bundle is read, checked and tried before any worker sees it. Then its version is told; each worker
//! sends its new flows through it as soon as it looks, between two batches. The one before is kept.

use crate::config::{Config, Typed};
use crate::lanes::BatchCounters;
use serveflow_core::FlowConfig;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::Bundle;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A bundle, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The cascade and its models, with stages in their lanes.
    pub bundle: Bundle,
    /// Its hash.
    pub id: String,
    /// Where it was read.
    pub path: PathBuf,
    /// What its batch lanes count, all workers together.
    pub counters: Arc<BatchCounters>,
}

/// Why a bundle is not taken; the one before serves on.
#[derive(Debug)]
pub struct Refused {
    /// The bundle.
    pub path: PathBuf,
    /// Why, in one sentence.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Refused {}

/// The bundle that new flows go by.
#[derive(Debug)]
pub struct Switch {
    typed: Typed,
    config: Config,
    version: AtomicU64,
    roll_backs: AtomicU64,
    bundles: Mutex<Bundles>,
}

#[derive(Debug)]
struct Bundles {
    serving: Arc<Loaded>,
    previous: Option<Arc<Loaded>>,
}

impl Loaded {
    /// A bundle as it was read, its stages put into the lanes that the configuration says.
    ///
    /// # Errors
    /// When the configuration names stages that the bundle does not have.
    pub fn new(mut bundle: Bundle, path: &Path, config: &Config) -> Result<Self, Refused> {
        let refused = |why: String| Refused { path: path.to_owned(), why };
        let places = config.lanes.places(&bundle).map_err(|error| refused(error.to_string()))?;
        bundle.place(&places);
        let id = bundle.id.clone();
        let counters = Arc::new(BatchCounters::new(bundle.models.len()));
        Ok(Self { bundle, id, path: path.to_owned(), counters })
    }

    /// Has each model answer for a row of nothing: one that cannot should not meet traffic.
    ///
    /// # Errors
    /// When one cannot.
    pub fn tried(self) -> Result<Self, Refused> {
        for (stage, model) in self.bundle.cascade.stages().iter().zip(&self.bundle.models) {
            let mut rows = Rows::with_capacity(model.shape(), 1);
            rows.push();
            let answer = model.score(&rows, &mut Scores::default());
            answer.map_err(|error| Refused {
                path: self.path.clone(),
                why: format!("stage `{}` cannot answer: {}", stage.name, error.message),
            })?;
        }
        Ok(self)
    }
}

/// The rules that make flows of packets.
fn rules_of(config: &Config) -> FlowConfig {
    FlowConfig { capacity: 0, seed: 0, ..config.engine.flows }
}

impl Switch {
    /// Serves a bundle as version 0, by a configuration and what was typed of it.
    #[must_use]
    pub fn new(loaded: Loaded, config: Config, typed: Typed) -> Self {
        let bundles = Bundles { serving: Arc::new(loaded), previous: None };
        Self {
            typed,
            config,
            version: AtomicU64::new(0),
            roll_backs: AtomicU64::new(0),
            bundles: Mutex::new(bundles),
        }
    }

    fn bundles(&self) -> MutexGuard<'_, Bundles> {
        self.bundles.lock().expect("nobody panics at the switch")
    }

    /// The version that new flows should go by.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The bundle that new flows should go by, and its version.
    #[must_use]
    pub fn serving(&self) -> (Arc<Loaded>, u64) {
        let bundles = self.bundles();
        (Arc::clone(&bundles.serving), self.version())
    }

    /// The bundle before it.
    #[must_use]
    pub fn previous(&self) -> Option<Arc<Loaded>> {
        self.bundles().previous.clone()
    }

    /// Reads a bundle and serves it from now on: the one of that directory, or the same directory anew. If it is
    /// the one that is served, nothing changes, and the one before is still the one before.
    ///
    /// # Errors
    /// When it is broken, its flow rules are others, or a model cannot answer. Then nothing changes.
    pub fn reload(&self, path: Option<&Path>) -> Result<Arc<Loaded>, Refused> {
        let path = path.map_or_else(|| self.bundles().serving.path.clone(), Path::to_owned);
        let loaded = self.read(&path)?;
        let (serving, _) = self.serving();
        let is_same = loaded.id == serving.id && loaded.path == serving.path;
        Ok(if is_same { serving } else { self.serve(loaded) })
    }

    /// Reads and checks a bundle.
    ///
    /// # Errors
    /// Those of [`Switch::reload`].
    pub fn read(&self, path: &Path) -> Result<Loaded, Refused> {
        let refused = |why: String| Refused { path: path.to_owned(), why };
        let bundle = Bundle::load(path).map_err(|error| refused(error.to_string()))?;
        let rules = self.typed.check_for(&bundle).map_err(|error| refused(error.to_string()))?;
        if rules_of(&rules) != rules_of(&self.config) {
            return Err(refused(
                "expected the flow rules (timeouts, window, key) of the bundle that is served, found others: \
                 flows that are under way cannot change theirs, so it takes a restart"
                    .to_owned(),
            ));
        }
        Loaded::new(bundle, path, &self.config)?.tried()
    }

    /// Serves what was read, from now on.
    pub fn serve(&self, loaded: impl Into<Arc<Loaded>>) -> Arc<Loaded> {
        let loaded = loaded.into();
        let mut bundles = self.bundles();
        let before = std::mem::replace(&mut bundles.serving, Arc::clone(&loaded));
        // The same one from elsewhere is none to go back to.
        if before.id != loaded.id {
            bundles.previous = Some(before);
        }
        self.version.fetch_add(1, Ordering::Release);
        loaded
    }

    /// Serves the bundle before this one again; `None` where there was none.
    pub fn roll_back(&self) -> Option<Arc<Loaded>> {
        let previous = self.bundles().previous.clone()?;
        self.roll_backs.fetch_add(1, Ordering::Relaxed);
        Some(self.serve(previous))
    }

    /// How often an earlier bundle was taken back.
    #[must_use]
    pub fn roll_backs(&self) -> u64 {
        self.roll_backs.load(Ordering::Relaxed)
    }
}
