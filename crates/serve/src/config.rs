//! `serveflow.toml`: what the operator owns.
//!
//! Loading is two steps: what was typed (unknown keys are refused), then a [`Config`] with nothing
//! optional left. Flow rules that are not typed come from the bundle, because its models were
//! trained under them.

mod degradation;
mod input;
mod lanes;
mod live;
mod models;
mod origin;
mod output;
mod remote;
mod service;

pub use degradation::TypedDegradation;
pub use input::{Reorder, TypedInput, TypedLists};
pub use lanes::{LaneConfig, TypedBatch, TypedLanes};
pub use live::{LiveLimits, TypedLive};
pub use models::TypedModels;
pub use origin::Origin;
pub use output::{OutputConfig, TypedOutput};
pub use remote::{Address, RemoteConfig, Scheme, Servers, TokenPlace, TypedRemote};
pub use service::{ServiceLimits, TypedService};

use crate::service::DegradationLimits;
use serde::Deserialize;
use serveflow_core::engine::EngineConfig;
use serveflow_core::parse::{KeyRules, Tunnels};
use serveflow_core::select::Selection;
use serveflow_core::{FlowConfig, NO_WINDOW};
use serveflow_io::OrderRules;
use serveflow_model::bundle::Bundle;
use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A commented file with every key and its default.
pub const EXAMPLE: &str = include_str!("serveflow.toml");

const MILLISECOND: u64 = 1_000_000;

/// The file as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Typed {
    /// Which flows are served.
    pub input: TypedInput,
    /// The flow table.
    pub flows: TypedFlows,
    /// Limits of the engine.
    pub limits: TypedLimits,
    /// Interfaces to listen to.
    pub live: TypedLive,
    /// Where stages are scored.
    pub lanes: TypedLanes,
    /// What scores models.
    pub models: TypedModels,
    /// Where the servers of remote models stand.
    pub remote: TypedRemote,
    /// When gates are loosened under load.
    pub degradation: TypedDegradation,
    /// How a running service is looked at and changed.
    pub service: TypedService,
    /// Where verdicts go.
    pub output: TypedOutput,
    /// Where all of that stands.
    #[serde(skip)]
    pub origin: Origin,
}

/// `[flows]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedFlows {
    /// Most flows in the table.
    pub capacity: Option<usize>,
    /// Idle timeout, milliseconds.
    pub idle_ms: Option<u64>,
    /// Active timeout, milliseconds.
    pub active_ms: Option<u64>,
    /// How long a closed TCP flow keeps its entry, milliseconds.
    pub linger_ms: Option<u64>,
    /// Length of the windows that flows are cut into, milliseconds; 0 leaves them whole.
    pub window_ms: Option<u64>,
    /// Whether the VLAN id is part of the key.
    pub vlan_in_key: Option<bool>,
    /// Which packet of a tunnel flows are made of: `inner` or `outer`.
    pub tunnels: Option<String>,
    /// Seed of the table's hash.
    pub seed: Option<u64>,
}

/// `[limits]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedLimits {
    /// Most packets kept of all undecided flows together.
    pub record_packets: Option<usize>,
    /// Rows after which a job is handed to its lane at once.
    pub batch_rows: Option<usize>,
    /// Most frames taken from a source at once.
    pub batch_frames: Option<usize>,
    /// Jobs that may wait in a lane before it is full.
    pub queue_depth: Option<usize>,
    /// Workers that share the packets by flow; 0 is one per core where the input is large.
    pub workers: Option<usize>,
    /// Whether the memory for flows and packets is taken at the start.
    pub prefault: Option<bool>,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Limits of the engine.
    pub engine: EngineConfig,
    /// Which flows `serveflow run` serves; none where it serves all.
    pub selection: Option<Arc<Selection>>,
    /// How far packets of captures are put back in order.
    pub reorder: Reorder,
    /// Most frames taken from a source at once.
    pub batch_frames: usize,
    /// Jobs that may wait in a lane before it is full.
    pub queue_depth: usize,
    /// Interfaces to listen to.
    pub live: LiveLimits,
    /// Where stages are scored, and what a full lane means.
    pub lanes: LaneConfig,
    /// Where the servers of remote models stand.
    pub remote: RemoteConfig,
    /// When gates are loosened under load.
    pub degradation: DegradationLimits,
    /// How a running service is looked at and changed.
    pub service: ServiceLimits,
    /// Workers that share the packets by flow; 0 leaves it to the size of the input.
    pub workers: usize,
    /// Where verdicts go.
    pub output: OutputConfig,
}

/// Why a configuration is refused.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    Typed {
        /// File, line and column.
        place: String,
        /// The key, what was expected there, and what was found.
        message: String,
    },
    /// An error of a key whose place is known.
    At {
        /// File, line and column, or the option of the command line.
        place: String,
        /// The error.
        error: Box<Self>,
    },
    /// A limit of nothing.
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A limit that no machine has the memory for.
    TooLarge {
        /// The key.
        key: &'static str,
        /// The largest that is taken.
        most: usize,
        /// What was typed.
        found: usize,
    },
    /// Flows are to be left whole, and a stage of the bundle wants their windows.
    Window {
        /// The stage.
        stage: String,
    },
    /// A library that scores models cannot be used.
    Library {
        /// The key.
        key: &'static str,
        /// Where and why.
        message: String,
    },
    /// A value that cannot be meant.
    Wrong {
        /// The key.
        key: String,
        /// What was expected, and what was found.
        message: String,
    },
    /// No such sink, lane or stage.
    Unknown {
        /// The key.
        key: String,
        /// What was typed.
        found: String,
        /// The names known.
        expected: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Typed { place, message } => write!(f, "{place}: {message}"),
            Self::At { place, error } => write!(f, "{place}: {error}"),
            Self::Zero { key } => write!(f, "{key}: expected at least 1, found 0"),
            Self::TooLarge { key, most, found } => {
                write!(f, "{key}: expected at most {most}, found {found}")
            }
            Self::Window { stage } => write!(
                f,
                "flows.window_ms: expected a window, since the bundle's stage `{stage}` waits for \
                 its end, found 0"
            ),
            Self::Library { key, message } => write!(f, "{key}: {message}"),
            Self::Wrong { key, message } => write!(f, "{key}: {message}"),
            Self::Unknown { key, found, expected } => {
                write!(f, "{key}: expected one of {expected}, found `{found}`")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// The key that is wrong, if its place is not known yet.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Io { .. } | Self::Typed { .. } | Self::At { .. } => None,
            Self::Window { .. } => Some("flows.window_ms"),
            Self::Zero { key } | Self::TooLarge { key, .. } | Self::Library { key, .. } => {
                Some(key)
            }
            Self::Wrong { key, .. } | Self::Unknown { key, .. } => Some(key),
        }
    }
}

impl Typed {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is not what it should be.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        Self::read(path, text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn read(path: &Path, text: String) -> Result<Self, ConfigError> {
        let typed = toml::from_str(&text);
        let origin = Origin::of_file(path, text);
        let typed: Self = typed.map_err(|error| origin.refused(&error))?;
        Ok(Self { origin, ..typed })
    }

    /// Opens the libraries that score models: see [`TypedModels::open`].
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open_models(&self) -> Result<(), ConfigError> {
        self.models.open().map_err(|error| self.origin.located(error))
    }

    /// The servers of remote models.
    ///
    /// # Errors
    /// When an address or a limit makes no sense: see [`TypedRemote::check`].
    pub fn servers(&self) -> Result<RemoteConfig, ConfigError> {
        self.remote.check().map_err(|error| self.origin.located(error))
    }

    /// Fills what was not typed from the bundle's flow rules and the defaults, and checks it.
    ///
    /// # Errors
    /// When a limit is 0 or absurdly large, a sink or a lane is unknown, or a server is no server.
    pub fn check(&self, bundle: &FlowConfig) -> Result<Config, ConfigError> {
        self.checked(bundle).map_err(|error| self.origin.located(error))
    }

    fn checked(&self, bundle: &FlowConfig) -> Result<Config, ConfigError> {
        let limits = &self.limits;
        let engine = EngineConfig::default();
        let engine = EngineConfig {
            flows: self.flows.over(bundle)?,
            record_packets: limits.record_packets.unwrap_or(engine.record_packets),
            batch_rows: limits.batch_rows.unwrap_or(engine.batch_rows),
            prefault: limits.prefault.unwrap_or(engine.prefault),
            provisional: self.output.provisional.unwrap_or(engine.provisional),
            ..engine
        };
        let config = Config {
            engine,
            selection: self.input.check()?,
            reorder: self.input.reorder()?,
            batch_frames: limits.batch_frames.unwrap_or(1024),
            queue_depth: limits.queue_depth.unwrap_or(64),
            live: self.live.check()?,
            lanes: self.lanes.check()?,
            remote: self.remote.check()?,
            degradation: self.degradation.check()?,
            service: self.service.check()?,
            workers: limits.workers.unwrap_or(0),
            output: self.output.check()?,
        };
        config.checked()
    }
}

impl Typed {
    /// [`Typed::check`] for a bundle whose stages are served.
    ///
    /// # Errors
    /// Also when a stage wants the window and flows would be left whole, when flows would be cut
    /// into windows for models that were trained on whole ones, and when a stage is named that the
    /// bundle does not have.
    pub fn check_for(&self, bundle: &Bundle) -> Result<Config, ConfigError> {
        let located = |error| self.origin.located(error);
        let config = self.check(&bundle.flow_config())?;
        let is_cut = config.engine.flows.window_ns != NO_WINDOW;
        if is_cut && bundle.flow_config().window_ns == NO_WINDOW {
            let message = format!(
                "expected 0 or nothing, found {}: the bundle was trained on flows that were not \
                 cut into windows, so its models have never seen the later windows of a flow; \
                 train with --window-ms",
                config.engine.flows.window_ns / MILLISECOND
            );
            let key = "flows.window_ms".to_owned();
            return Err(located(ConfigError::Wrong { key, message }));
        }
        if let Some(stage) = bundle.plan.stages.iter().find(|stage| stage.window)
            && !is_cut
        {
            return Err(located(ConfigError::Window { stage: stage.name.clone() }));
        }
        config.lanes.places(bundle).map_err(located)?;
        Ok(config)
    }
}

impl TypedFlows {
    fn over(&self, bundle: &FlowConfig) -> Result<FlowConfig, ConfigError> {
        for (key, typed) in [("flows.idle_ms", self.idle_ms), ("flows.active_ms", self.active_ms)] {
            if typed == Some(0) {
                return Err(ConfigError::Zero { key });
            }
        }
        let ns = |typed: Option<u64>, default| {
            typed.map_or(default, |ms| ms.saturating_mul(MILLISECOND))
        };
        Ok(FlowConfig {
            capacity: self.capacity.unwrap_or(bundle.capacity),
            idle_ns: ns(self.idle_ms, bundle.idle_ns),
            active_ns: ns(self.active_ms, bundle.active_ns),
            linger_ns: ns(self.linger_ms, bundle.linger_ns),
            window_ns: match self.window_ms {
                Some(0) => NO_WINDOW,
                typed => ns(typed, bundle.window_ns),
            },
            key: KeyRules {
                vlan_in_key: self.vlan_in_key.unwrap_or(bundle.key.vlan_in_key),
                tunnels: self.tunnels()?.unwrap_or(bundle.key.tunnels),
            },
            seed: self.seed.unwrap_or(bundle.seed),
        })
    }

    fn tunnels(&self) -> Result<Option<Tunnels>, ConfigError> {
        let choice = |word: &String| {
            Tunnels::from_name(word).ok_or_else(|| ConfigError::Unknown {
                key: "flows.tunnels".to_owned(),
                found: word.clone(),
                expected: Tunnels::ALL.map(Tunnels::name).join(", "),
            })
        };
        self.tunnels.as_ref().map(choice).transpose()
    }
}

impl Config {
    /// How captures are read: by the order of time.
    #[must_use]
    pub fn order_rules(&self) -> OrderRules {
        let Reorder { reorder_ns, packets } = self.reorder;
        let rules = OrderRules::of_flows(&self.engine.flows);
        OrderRules { reorder_ns, reorder_packets: packets, ..rules }
    }

    /// Holds a limit to at least 1 and at most so much.
    fn within(key: &'static str, found: usize, most: usize) -> Result<(), ConfigError> {
        match found {
            0 => Err(ConfigError::Zero { key }),
            found if found > most => Err(ConfigError::TooLarge { key, most, found }),
            _ => Ok(()),
        }
    }

    /// Workers that listen to interfaces: one per core if nobody says.
    #[must_use]
    pub fn listeners(&self) -> usize {
        match self.workers {
            0 if self.live.xdp => 1,
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        // Flows and packets grow as they come, and are numbered with 32 bits. Room for jobs is
        // taken at the start.
        let limits = [
            ("flows.capacity", self.engine.flows.capacity, 1 << 31),
            ("limits.record_packets", self.engine.record_packets, 1 << 31),
            ("limits.batch_rows", self.engine.batch_rows, 1 << 16),
            ("limits.batch_frames", self.batch_frames, 1 << 20),
            ("limits.queue_depth", self.queue_depth, 1 << 20),
            // What is left open here is as good as one.
            ("limits.workers", self.workers.max(1), 1 << 10),
        ];
        limits.into_iter().try_for_each(|(key, found, most)| Self::within(key, found, most))?;
        if self.live.xdp && self.workers > 1 {
            let message = format!(
                "expected 1 with live.source = \"xdp\", found {}: a network card may give both \
                 directions of a flow to different queues, and a queue's frames reach no other \
                 worker's socket",
                self.workers
            );
            return Err(ConfigError::Wrong { key: "limits.workers".to_owned(), message });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let typed: Typed = toml::from_str(EXAMPLE).unwrap();
        let bundle = FlowConfig::default();
        assert_eq!(typed.check(&bundle).unwrap(), Typed::default().check(&bundle).unwrap());
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let typed: Typed = toml::from_str(&uncommented).unwrap();
        let config = typed.check(&bundle).unwrap();
        assert_eq!(config.lanes.batch, LaneConfig::default().batch);
        // A stage is named there to show how, and no default names one.
        let config = Config { lanes: LaneConfig::default(), ..config };
        assert_eq!(config, Typed::default().check(&bundle).unwrap());
        assert_ne!(typed, Typed::default(), "the example shows the keys");
    }

    /// Each duration of the example, by section and key, with the comment above it.
    fn durations() -> Vec<(String, String, String)> {
        let (mut section, mut comment, mut found) = (String::new(), String::new(), Vec::new());
        // Keys that stand together share the comment above them.
        let mut is_over = false;
        for line in EXAMPLE.lines() {
            let text = line.strip_prefix("# ").unwrap_or(line);
            let key = text.split_once(" = ").map(|(key, _)| key).filter(|key| !key.contains(' '));
            match key {
                Some(key) => {
                    is_over = true;
                    if ["_ms", "_us", "_s"].iter().any(|unit| key.ends_with(unit)) {
                        found.push((section.clone(), key.to_owned(), comment.clone()));
                    }
                }
                None if line.starts_with('[') => line.clone_into(&mut section),
                None => {
                    if std::mem::take(&mut is_over) {
                        comment.clear();
                    }
                    comment.push_str(text);
                    comment.push(' ');
                }
            }
        }
        found
    }

    /// A duration of nothing is refused, or the example says what it means.
    #[test]
    fn every_duration_refuses_0_or_says_what_it_means() {
        let mut durations = durations();
        assert!(durations.len() > 12, "{durations:?}");
        let block = ("[live]\nrx_mode = \"block\"", "block_ms", "");
        let named = ("[remote.models.x]\nendpoints = [\"http://[::1]\"]", "timeout_ms", "");
        for (section, key, comment) in [block, named, (named.0, "health_ms", "")] {
            durations.push((section.to_owned(), key.to_owned(), comment.to_owned()));
        }
        for (section, key, comment) in durations {
            let typed: Typed = toml::from_str(&format!("{section}\n{key} = 0")).unwrap();
            match typed.check(&FlowConfig::default()) {
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains(&key) && error.contains("found 0"), "{error}");
                }
                Ok(_) => {
                    let words = comment.split(|c: char| !c.is_alphanumeric());
                    let says = words.filter(|word| *word == "0").count() > 0;
                    assert!(says, "{section} {key}: what does 0 mean?");
                }
            }
        }
    }

    #[test]
    fn what_is_typed_wins_and_nonsense_is_refused() {
        let bundle = FlowConfig { idle_ns: 7 * MILLISECOND, ..FlowConfig::default() };
        let typed: Typed = toml::from_str("[flows]\nactive_ms = 5").unwrap();
        let config = typed.check(&bundle).unwrap();
        assert_eq!(config.engine.flows.active_ns, 5 * MILLISECOND);
        assert_eq!(config.engine.flows.idle_ns, 7 * MILLISECOND);
        assert!(toml::from_str::<Typed>("[flows]\nidle = 5").is_err());
        let zero: Typed = toml::from_str("[limits]\nbatch_frames = 0").unwrap();
        assert!(zero.check(&bundle).unwrap_err().to_string().contains("limits.batch_frames"));
        for key in ["batch_rows", "batch_frames", "queue_depth", "record_packets"] {
            let huge: Typed = toml::from_str(&format!("[limits]\n{key} = 9000000000")).unwrap();
            let message = huge.check(&bundle).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("9000000000"), "{message}");
        }
        let two = "[limits]\nworkers = 2\n[live]\nsource = \"xdp\"";
        let message = toml::from_str::<Typed>(two).unwrap().check(&bundle).unwrap_err().to_string();
        let named =
            if cfg!(feature = "xdp") { "limits.workers: expected 1" } else { "live.source" };
        assert!(message.starts_with(named), "{message}");
        let format: Typed = toml::from_str("[output]\nformat = \"xml\"").unwrap();
        let message = format.check(&bundle).unwrap_err().to_string();
        assert!(message.contains("xml") && message.contains("json"), "{message}");
    }
}
