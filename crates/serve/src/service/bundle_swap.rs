//! The bundle that is served, and how it is changed under running traffic.
//!
//! A bundle is read, checked and tried before any worker sees it. Then its version is told; each
//! worker sends its new flows through it as soon as it looks, between two batches. The one before
//! is kept.

use super::locked;
use crate::config::{Config, Typed};
use crate::lanes::{BatchCounters, BatchTotals, LaneMaker, LaneSets, Lanes, StageTally};
use serveflow_core::FlowConfig;
use serveflow_core::parse::KeyRules;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::{Bundle, BundleError};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

const MILLISECOND: u64 = 1_000_000;

/// A bundle, and where it came from.
#[derive(Debug)]
pub struct LoadedBundle {
    /// The cascade and its models, with stages in their lanes.
    pub bundle: Bundle,
    /// Its hash.
    pub id: String,
    /// Where it was read.
    pub path: PathBuf,
    /// What its batch lanes count, all workers together.
    pub counters: Arc<BatchCounters>,
    /// Its lanes, until their workers take them.
    lanes: LaneSets,
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
pub struct BundleSwap {
    typed: Typed,
    config: Config,
    version: AtomicU64,
    roll_backs: AtomicU64,
    bundles: Mutex<Bundles>,
    load: ReadBundle,
    maker: LaneMaker,
    batches: BatchTotals,
}

#[derive(Debug)]
struct Bundles {
    serving: Arc<LoadedBundle>,
    previous: Option<Arc<LoadedBundle>>,
}

impl LoadedBundle {
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
        let lanes = LaneSets::default();
        Ok(Self { bundle, id, path: path.to_owned(), counters, lanes })
    }

    /// Makes the lanes of all workers, before any of them is sent to this bundle.
    ///
    /// # Errors
    /// When the system does not have the threads for them.
    fn make_lanes(&self, maker: &LaneMaker, counters: &Arc<BatchCounters>) -> Result<(), Refused> {
        let lanes = maker.all(&self.bundle, counters);
        let why = |error: std::io::Error| Refused {
            path: self.path.clone(),
            why: format!("its lanes cannot be made: {error}"),
        };
        lanes.map(|lanes| self.lanes.put(lanes)).map_err(why)
    }

    /// Takes the lanes that were made for a worker.
    #[must_use]
    pub fn take_lanes(&self, worker: usize) -> Option<Lanes> {
        self.lanes.take(worker)
    }

    fn stage_names(&self) -> Vec<String> {
        self.bundle.cascade.stages().iter().map(|stage| stage.name.clone()).collect()
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
                why: format!("stage `{}` cannot infer: {}", stage.name, error.message),
            })?;
        }
        Ok(self)
    }
}

/// Holds the rules that make flows of packets against those that are served; the difference, in
/// words.
fn same_rules(served: &FlowConfig, found: &FlowConfig) -> Result<(), String> {
    let ms = |ns: u64| match ns {
        u64::MAX => "none".to_owned(),
        ns => (ns / MILLISECOND).to_string(),
    };
    // Named one by one, so that a rule that is added must be placed here.
    let rules = |config: &FlowConfig| {
        let FlowConfig { capacity: _, idle_ns, active_ns, linger_ns, window_ns, key, seed: _ } =
            *config;
        let KeyRules { vlan_in_key, tunnels } = key;
        [
            ("idle_ms", ms(idle_ns)),
            ("active_ms", ms(active_ns)),
            ("linger_ms", ms(linger_ns)),
            ("window_ms", ms(window_ns)),
            ("vlan_in_key", vlan_in_key.to_string()),
            ("tunnels", tunnels.name().to_owned()),
        ]
    };
    let pairs = rules(served).into_iter().zip(rules(found));
    let others = pairs.filter(|((_, served), (_, found))| served != found);
    let others: Vec<String> = others
        .map(|((key, served), (_, found))| format!("{key} = {served}, found {found}"))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(format!(
        "expected the flow rules of the bundle that is served: {}. Flows that are under way \
         cannot change theirs: restart the service to serve this bundle, or set the rule in \
         [flows] of its configuration",
        others.join("; ")
    ))
}

/// Reads a bundle of a directory.
type ReadBundle = fn(&Path) -> Result<Bundle, BundleError>;

impl BundleSwap {
    /// Serves a bundle as version 0, by a configuration and what was typed of it; later ones in
    /// lanes that `maker` makes.
    #[must_use]
    pub fn new(loaded: LoadedBundle, config: Config, typed: Typed, maker: LaneMaker) -> Self {
        let batches = BatchTotals::default();
        batches.count(loaded.stage_names(), &loaded.counters);
        let bundles = Bundles { serving: Arc::new(loaded), previous: None };
        Self {
            typed,
            config,
            version: AtomicU64::new(0),
            roll_backs: AtomicU64::new(0),
            bundles: Mutex::new(bundles),
            load: Bundle::load,
            maker,
            batches,
        }
    }

    /// The same, but later bundles are read by this: by one that is slow, say.
    #[must_use]
    pub fn reading_by(self, load: ReadBundle) -> Self {
        Self { load, ..self }
    }

    fn bundles(&self) -> MutexGuard<'_, Bundles> {
        // No bundle is changed but by whole assignments.
        locked(&self.bundles)
    }

    /// The version that new flows should go by.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The bundle that new flows should go by, and its version.
    #[must_use]
    pub fn serving(&self) -> (Arc<LoadedBundle>, u64) {
        let bundles = self.bundles();
        (Arc::clone(&bundles.serving), self.version())
    }

    /// The bundle before it.
    #[must_use]
    pub fn previous(&self) -> Option<Arc<LoadedBundle>> {
        self.bundles().previous.clone()
    }

    /// Reads a bundle and serves it from now on: the one of that directory, or the same directory
    /// anew. If it is the one that is served, nothing changes, and the one before is still the one
    /// before.
    ///
    /// # Errors
    /// When it is broken, its flow rules are others, a model cannot answer, or it is not wanted any
    /// more once it is read. Then nothing changes.
    pub fn reload(
        &self,
        path: Option<&Path>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Arc<LoadedBundle>, Refused> {
        let path = path.map_or_else(|| self.bundles().serving.path.clone(), Path::to_owned);
        let loaded = self.read_while(&path, is_wanted)?;
        let (serving, _) = self.serving();
        let is_same = loaded.id == serving.id && loaded.path == serving.path;
        if is_same { Ok(serving) } else { self.serve(loaded) }
    }

    /// Reads and checks a bundle.
    ///
    /// # Errors
    /// Those of [`BundleSwap::reload`].
    pub fn read(&self, path: &Path) -> Result<LoadedBundle, Refused> {
        let refused = |why: String| Refused { path: path.to_owned(), why };
        let bundle = (self.load)(path).map_err(|error| refused(error.to_string()))?;
        let rules = self.typed.check_for(&bundle).map_err(|error| refused(error.to_string()))?;
        let [served, found] = [&self.config, &rules].map(|config| config.engine.flows);
        same_rules(&served, &found).map_err(refused)?;
        LoadedBundle::new(bundle, path, &self.config)?.tried()
    }

    /// [`BundleSwap::read`], refused if it is not wanted any more when it is read.
    ///
    /// # Errors
    /// Those of [`BundleSwap::reload`].
    pub fn read_while(
        &self,
        path: &Path,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<LoadedBundle, Refused> {
        let loaded = self.read(path)?;
        if is_wanted() {
            return Ok(loaded);
        }
        let why = "it was given up while it was read".to_owned();
        Err(Refused { path: path.to_owned(), why })
    }

    /// Makes all that workers need for a bundle, before they are sent to it.
    fn prepare(&self, loaded: &LoadedBundle) -> Result<(), Refused> {
        loaded.make_lanes(&self.maker, &loaded.counters)?;
        self.batches.count(loaded.stage_names(), &loaded.counters);
        Ok(())
    }

    /// Serves what was read, from now on.
    ///
    /// # Errors
    /// When the system does not have what its lanes need. Then nothing changes.
    pub fn serve(
        &self,
        loaded: impl Into<Arc<LoadedBundle>>,
    ) -> Result<Arc<LoadedBundle>, Refused> {
        let loaded = loaded.into();
        self.prepare(&loaded)?;
        let mut bundles = self.bundles();
        let before = std::mem::replace(&mut bundles.serving, Arc::clone(&loaded));
        // The same one from elsewhere is none to go back to.
        if before.id != loaded.id {
            bundles.previous = Some(before);
        }
        self.version.fetch_add(1, Ordering::Release);
        Ok(loaded)
    }

    /// Makes the lanes of all workers for a bundle that is looked at beside the served one. What
    /// they count is nobody's.
    ///
    /// # Errors
    /// When the system does not have what they need.
    pub fn make_shadow_lanes(&self, loaded: &LoadedBundle) -> Result<(), Refused> {
        let counters = BatchCounters::new(loaded.bundle.models.len());
        loaded.make_lanes(&self.maker, &Arc::new(counters))
    }

    /// What batch lanes did so far, of all bundles that were served, by stage.
    #[must_use]
    pub fn batches(&self) -> BTreeMap<String, StageTally> {
        self.batches.tally()
    }

    /// Serves the bundle before this one again; `None` where there was none. There is none before
    /// it then: a second call does not come back to the bundle that was left.
    ///
    /// # Errors
    /// When the system does not have what its lanes need. Then nothing changes.
    pub fn roll_back(&self) -> Result<Option<Arc<LoadedBundle>>, Refused> {
        let Some(previous) = self.bundles().previous.clone() else { return Ok(None) };
        self.prepare(&previous)?;
        let mut bundles = self.bundles();
        (bundles.serving, bundles.previous) = (Arc::clone(&previous), None);
        self.roll_backs.fetch_add(1, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
        Ok(Some(previous))
    }

    /// How often an earlier bundle was taken back.
    #[must_use]
    pub fn roll_backs(&self) -> u64 {
        self.roll_backs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::parse::Tunnels;

    /// Whichever rule differs, it is named with both values, and no other one is.
    #[test]
    fn each_flow_rule_that_differs_is_named_with_both_values() {
        let served = FlowConfig::default();
        assert_eq!(same_rules(&served, &FlowConfig { capacity: 7, seed: 8, ..served }), Ok(()));
        let other_tunnels = match served.key.tunnels {
            Tunnels::Inner => Tunnels::Outer,
            Tunnels::Outer => Tunnels::Inner,
        };
        let tagged = KeyRules { vlan_in_key: !served.key.vlan_in_key, ..served.key };
        let by_tunnels = KeyRules { tunnels: other_tunnels, ..served.key };
        let others = [
            ("idle_ms = 120000, found 7", FlowConfig { idle_ns: 7_000_000, ..served }),
            ("active_ms = 1800000, found 7", FlowConfig { active_ns: 7_000_000, ..served }),
            ("linger_ms = 5000, found none", FlowConfig { linger_ns: u64::MAX, ..served }),
            ("window_ms = none, found 7", FlowConfig { window_ns: 7_000_000, ..served }),
            ("vlan_in_key = false, found true", FlowConfig { key: tagged, ..served }),
            ("tunnels = ", FlowConfig { key: by_tunnels, ..served }),
        ];
        for (said, other) in others {
            let error = same_rules(&served, &other).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert_eq!(error.matches(", found ").count(), 1, "{error}");
        }
        let both = FlowConfig { idle_ns: 7_000_000, active_ns: 7_000_000, ..served };
        let error = same_rules(&served, &both).unwrap_err();
        assert!(error.contains("idle_ms") && error.contains("; active_ms"), "{error}");
    }
}
