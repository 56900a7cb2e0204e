//! The bundle: a directory with a plan, its models, and their hashes.
//!
//! ```text
//! bundle/plan.toml      stages, gates, labels, encoder specs, measured costs, provenance
//! bundle/models/*       one file per stage
//! bundle/drift.json     what the calibration flows looked like, if the plan names it
//! bundle/SHA256SUMS     hashes of all of them, as `sha256sum -c` reads them
//! ```
//!
//! Loading is two steps: the [`Plan`] as it is written, then a checked [`Bundle`] with everything
//! bound. A bundle that does not fit is refused with a sentence that says what and where.

mod error;
mod gate;
mod plan;
mod read;
mod sums;

pub use error::BundleError;
pub use plan::{
    CalibrationPlan, CostPlan, DegradationPlan, DriftPlan, FlowPlan, GatePlan, GuaranteePlan,
    HeadPlan, LEARNED, LanePlan, ModelPlan, PLAN_FORMAT, Plan, Provenance, StagePlan, UnknownPlan,
};
pub use read::{MOST_BUNDLE_BYTES, MOST_PLAN_BYTES, MOST_SUMS_BYTES, model_file};
pub use sums::{SUMS, sha256};

use crate::binding::{Binding, MAX_COLUMNS};
use crate::classes::as_labels;
use crate::drift::Watch;
use crate::formats;
use crate::logits::{as_probabilities, checked};
use gate::{checked_gate, relieved};
use serveflow_core::deferral::facts_shape;
use serveflow_core::engine::{Cascade, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{EncoderError, FeatureSpec, Features, Mask};
use serveflow_core::gate::{Gate, Uncertainty};
use serveflow_core::lane::Model;
use serveflow_core::open_set::{OpenSet, UNKNOWN};
use serveflow_core::parse::{Header, KeyRules};
use serveflow_core::{FlowConfig, NO_WINDOW};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the plan in a bundle.
const PLAN: &str = "plan.toml";
/// Where a bundle stands until it is whole.
const PART: &str = ".part";
/// The lanes that a stage may name, by lane index.
pub const LANE_NAMES: [&str; 3] = ["inline", "thread", "batch"];
const MILLISECOND: u64 = 1_000_000;

/// Files of a bundle, by their names in it.
pub type Files = BTreeMap<String, Vec<u8>>;

fn not_listed(dir: &Path, name: &str) -> BundleError {
    BundleError::NotListed { bundle: dir.to_owned(), file: name.to_owned() }
}

/// The plan of a bundle and the files that it names, read without holding them to their hashes: for
/// whoever is about to write them anew.
///
/// # Errors
/// When a file is missing, or the plan does not read.
pub fn read_unsigned(dir: &Path) -> Result<(Plan, Files), BundleError> {
    let path = dir.join(PLAN);
    let plan = read_plan(&path, &read::file(dir, PLAN, MOST_PLAN_BYTES, "every bundle")?)?;
    let mut files = Files::new();
    let mut left = MOST_BUNDLE_BYTES;
    for name in names(&plan) {
        if !sums::is_inside(name) {
            let message = format!("expected files inside of the bundle, found `{name}`");
            return Err(BundleError::Plan { path, message });
        }
        if files.contains_key(name) {
            continue;
        }
        let bytes = read::file(dir, name, left, PLAN)?;
        left -= bytes.len() as u64;
        files.insert(name.clone(), bytes);
    }
    Ok((plan, files))
}

/// The files that a plan names.
pub fn names(plan: &Plan) -> impl Iterator<Item = &String> {
    let models = plan.stages.iter().flat_map(|stage| {
        let heads = stage.gate.iter().flat_map(|gate| &gate.heads).map(|head| &head.model);
        heads.chain([&stage.model])
    });
    let models = models.flat_map(|model| model.columns.iter().chain([&model.file]));
    models.chain(plan.drift.iter().map(|drift| &drift.file))
}

/// A checked bundle, ready to serve.
#[derive(Debug)]
pub struct Bundle {
    /// The plan as it was written.
    pub plan: Plan,
    /// The stages.
    pub cascade: Arc<Cascade>,
    /// The model of each stage, by stage index.
    pub models: Vec<Arc<dyn Model>>,
    /// What drift is told by, if the plan names it.
    pub drift: Option<Arc<Watch>>,
    /// Hash of the bundle: SHA-256 of its hash list.
    pub id: String,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`.
    ///
    /// # Errors
    /// See [`BundleError`]: each names the file and what was expected of it.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let (files, id) = sums::read(dir)?;
        let listed = files.get(PLAN).ok_or_else(|| not_listed(dir, PLAN))?;
        let plan = read_plan(&dir.join(PLAN), listed)?;
        Self::assemble(dir, plan, &files, id)
    }

    /// The id of the bundle that a directory holds, by its hash list alone; `None` where there is
    /// no such list.
    #[must_use]
    pub fn id_at(dir: &Path) -> Option<String> {
        let list = read::file(dir, SUMS, MOST_SUMS_BYTES, "every bundle");
        list.ok().map(|list| sha256(&list))
    }

    /// Checks and binds a plan with its files, by name; `dir` is where they are said to stand.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn assemble(
        dir: &Path,
        plan: Plan,
        files: &Files,
        id: String,
    ) -> Result<Self, BundleError> {
        let listed = |name: &str| files.get(name).ok_or_else(|| not_listed(dir, name));
        let path = dir.join(PLAN);
        names_are_unique(&path, &plan)?;
        windows_are_cut(&path, &plan)?;
        unknown_is_no_label(&path, &plan)?;
        let mut models = Vec::new();
        let mut stages = Vec::new();
        // Heads are forests of this project, whose columns nobody binds.
        let facts = Binding::all(&[], facts_shape(plan.labels.len()));
        let head = |stage: &StagePlan, model: &ModelPlan| {
            load_model(&dir.join(&model.file), stage, model, listed(&model.file)?, &facts)
        };
        let stage_of = |index: usize, written: &StagePlan| {
            let gate = checked_gate(&plan, index, &head)?;
            let degradation = relieved(&plan, index, &gate)?;
            Ok(Stage { degradation, ..checked_stage(written, gate)? })
        };
        for (index, written) in plan.stages.iter().enumerate() {
            let stage = stage_of(index, written).map_err(|e: BundleError| e.in_plan(&path))?;
            let names = written.model.columns.as_deref();
            let names = names.map(|name| Ok((dir.join(name), listed(name)?))).transpose()?;
            let bytes = listed(&written.model.file)?;
            let model = own_model(dir, &plan, written, &stage, names, bytes);
            let model = model.map_err(|error| error.in_plan(&path))?;
            fits(&plan, written, dir, &stage, model.as_ref())?;
            models.push(model);
            stages.push(stage);
        }
        let drift = plan.drift.as_ref().map(|drift| {
            let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
            let refused = |message| BundleError::Model { path: dir.join(&drift.file), message };
            Watch::read(listed(&drift.file)?, &names).map(Arc::new).map_err(refused)
        });
        let drift = drift.transpose()?;
        let cascade = Cascade::new(stages, plan.labels.clone());
        let cascade = Arc::new(cascade.map_err(|source| BundleError::Cascade { path, source })?);
        Ok(Self { plan, cascade, models, drift, id })
    }

    /// Puts the stages into other lanes than the plan says, by lane index: where models are scored
    /// is the operator's choice, and changes no answer.
    ///
    /// # Panics
    /// When there is not one lane for each stage.
    pub fn place(&mut self, lanes: &[usize]) {
        assert_eq!(lanes.len(), self.plan.stages.len(), "each stage has its lane");
        let placed = |(stage, &lane): (&Stage, &usize)| Stage { lane, ..stage.clone() };
        let stages = self.cascade.stages().iter().zip(lanes).map(placed).collect();
        let cascade = Cascade::new(stages, self.plan.labels.clone());
        self.cascade = Arc::new(cascade.expect("the plan was checked when it was read"));
    }

    /// The flow rules under which the models were trained, with the default limits.
    #[must_use]
    pub fn flow_config(&self) -> FlowConfig {
        self.plan.flows.config()
    }
}

impl FlowPlan {
    /// The flow rules of a config.
    #[must_use]
    pub fn from_config(config: &FlowConfig) -> Self {
        Self {
            idle_ms: config.idle_ns / MILLISECOND,
            active_ms: config.active_ns / MILLISECOND,
            linger_ms: config.linger_ns / MILLISECOND,
            window_ms: (config.window_ns != NO_WINDOW)
                .then_some(config.window_ns.div_ceil(MILLISECOND)),
            vlan_in_key: config.key.vlan_in_key,
            tunnels: config.key.tunnels,
        }
    }

    /// A config with these flow rules and the default limits.
    #[must_use]
    pub fn config(&self) -> FlowConfig {
        FlowConfig {
            idle_ns: self.idle_ms.saturating_mul(MILLISECOND),
            active_ns: self.active_ms.saturating_mul(MILLISECOND),
            linger_ns: self.linger_ms.saturating_mul(MILLISECOND),
            window_ns: match self.window_ms {
                None | Some(0) => NO_WINDOW,
                Some(ms) => ms.saturating_mul(MILLISECOND),
            },
            key: KeyRules { vlan_in_key: self.vlan_in_key, tunnels: self.tunnels },
            ..FlowConfig::default()
        }
    }
}

/// Writes a bundle: the plan, the model files it names, and their hashes.
///
/// # Errors
/// When a file cannot be written, or the bundle does not load again.
pub fn write(dir: &Path, plan: &Plan, models: Files) -> Result<Bundle, BundleError> {
    let path = dir.join(PLAN);
    let unwritable =
        |error: toml::ser::Error| BundleError::Plan { path, message: error.to_string() };
    let text = toml::to_string(plan).map_err(unwritable)?;
    let mut files = models;
    files.insert(PLAN.to_owned(), text.into_bytes());
    let sums = sums::write(&files).into_bytes();
    let before = sums::listed(dir);
    // Written and checked beside what is there, and moved when it is whole: what does not load
    // replaces nothing.
    let part = dir.join(PART);
    let _ = std::fs::remove_dir_all(&part);
    let moved = stage_files(&part, &files, &sums).and_then(|()| {
        // The hashes come last: until then the old ones refuse what is half moved.
        let names = files.keys().map(String::as_str).chain([SUMS]);
        names.into_iter().try_for_each(|name| move_file(&part.join(name), &dir.join(name)))
    });
    let _ = std::fs::remove_dir_all(&part);
    moved?;
    // What only the bundle before had is not left behind.
    let stale = before.iter().filter(|name| !files.contains_key(*name));
    stale.for_each(|name| drop(std::fs::remove_file(dir.join(name))));
    Bundle::load(dir)
}

/// Writes the files of a bundle, and checks that it loads.
fn stage_files(
    part: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    sums: &[u8],
) -> Result<(), BundleError> {
    for (name, bytes) in files {
        write_file(&part.join(name), bytes)?;
    }
    write_file(&part.join(SUMS), sums)?;
    Bundle::load(part).map(drop)
}

fn move_file(from: &Path, to: &Path) -> Result<(), BundleError> {
    let io = |source| BundleError::Io { path: to.to_owned(), source };
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    std::fs::rename(from, to).map_err(io)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    std::fs::write(path, bytes).map_err(io)
}

fn read_plan(path: &Path, bytes: &[u8]) -> Result<Plan, BundleError> {
    let refused = |message: String| BundleError::Plan { path: path.to_owned(), message };
    let text = std::str::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    // The version comes first: a plan of another version may have other keys.
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| refused(e.to_string()))?;
    let format = table.get("format").and_then(toml::Value::as_str).unwrap_or_default();
    if format != PLAN_FORMAT {
        return Err(BundleError::Version { path: path.to_owned(), found: format.to_owned() });
    }
    toml::from_str(text).map_err(|error| refused(error.to_string()))
}

/// Outputs name labels and stages, and thresholds stand under their label's name.
fn names_are_unique(path: &Path, plan: &Plan) -> Result<(), BundleError> {
    let labels = plan.labels.iter().map(|label| ("label", label));
    let stages = plan.stages.iter().map(|stage| ("stage", &stage.name));
    let mut seen = BTreeSet::new();
    match labels.chain(stages).find(|&entry| !seen.insert(entry)) {
        None => Ok(()),
        Some((what, name)) => {
            let message = format!("expected each {what} once, found `{name}` twice");
            Err(BundleError::Plan { path: path.to_owned(), message })
        }
    }
}

/// A stage that wants the window needs flows that are cut into windows.
fn windows_are_cut(path: &Path, plan: &Plan) -> Result<(), BundleError> {
    let is_cut = plan.flows.config().window_ns != NO_WINDOW;
    match plan.stages.iter().find(|stage| stage.window) {
        Some(stage) if !is_cut => {
            let message = format!(
                "stage `{}` runs at the end of a window: expected flows.window_ms above 0, found \
                 none",
                stage.name
            );
            Err(BundleError::Plan { path: path.to_owned(), message })
        }
        _ => Ok(()),
    }
}

/// Outputs say [`UNKNOWN`] in place of a label, which must not be the name of one.
fn unknown_is_no_label(path: &Path, plan: &Plan) -> Result<(), BundleError> {
    match plan.stages.iter().find(|stage| stage.unknown.is_some()) {
        Some(stage) if plan.labels.iter().any(|label| label == UNKNOWN) => {
            let message = format!(
                "stage `{}` has an open-set rule: expected no label `{UNKNOWN}`, found one",
                stage.name
            );
            Err(BundleError::Plan { path: path.to_owned(), message })
        }
        _ => Ok(()),
    }
}

/// The open-set rule of a stage.
fn checked_open_set(written: &StagePlan) -> Result<Option<OpenSet>, BundleError> {
    let Some(rule) = &written.unknown else { return Ok(None) };
    let known = Uncertainty::ALL.map(Uncertainty::name);
    let score = Uncertainty::from_name(&rule.score)
        .ok_or_else(|| unknown(written, "unknown.score", &rule.score, &known))?;
    if !rule.threshold.is_finite() {
        let found = rule.threshold.to_string();
        return Err(unknown(written, "unknown.threshold", &found, &["the numbers"]));
    }
    Ok(Some(OpenSet { score, threshold: rule.threshold }))
}

/// The model of a stage, with the plan's labels as its classes. `names` is the file of its columns.
fn own_model(
    dir: &Path,
    plan: &Plan,
    written: &StagePlan,
    stage: &Stage,
    names: Option<(PathBuf, &Vec<u8>)>,
    bytes: &[u8],
) -> Result<Arc<dyn Model>, BundleError> {
    let path = dir.join(&written.model.file);
    let shape = stage.features.shape();
    let binding = match names {
        None if written.model.format == formats::FOREST => Binding::all(&[], shape),
        None => Binding::all(&stage.features.columns(), shape),
        Some((path, names)) => {
            let names = read_names(names);
            let bound = names.and_then(|names| {
                Binding::named(&stage.features.columns(), shape, &names).map_err(|e| e.to_string())
            });
            let stage = written.name.clone();
            bound.map_err(|message| BundleError::Columns { stage, path, message })?
        }
    };
    let binding = binding.with_missing(checked_missing(written)?);
    let mut model = load_model(&path, written, &written.model, bytes, &binding)?;
    if written.model.logits {
        model = as_probabilities(model);
    } else if !formats::is_forest(&written.model.format, bytes) {
        model = checked(model);
    }
    if written.model.classes.is_empty() {
        return Ok(model);
    }
    let labelled = as_labels(model, &written.model.classes, &plan.labels);
    let stage = written.name.clone();
    labelled.map_err(|source| BundleError::Label { stage, path, source })
}

/// The value that is missing to a stage's model.
fn checked_missing(written: &StagePlan) -> Result<Option<f32>, BundleError> {
    match written.model.missing {
        Some(value) if !value.is_finite() => {
            Err(unknown(written, "model.missing", &value.to_string(), &["the finite numbers"]))
        }
        missing => Ok(missing),
    }
}

/// Names of columns, one a line.
fn read_names(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "expected text in UTF-8".to_owned())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn load_model(
    path: &Path,
    stage: &StagePlan,
    model: &ModelPlan,
    bytes: &[u8],
    columns: &Binding,
) -> Result<Arc<dyn Model>, BundleError> {
    let entry = formats::FORMATS.iter().find(|entry| entry.name == model.format);
    let Some(entry) = entry else {
        let known: Vec<&str> = formats::FORMATS.iter().map(|entry| entry.name).collect();
        return Err(unknown(stage, "model.format", &model.format, &known));
    };
    (entry.load)(bytes, columns).map_err(|message| {
        let message = format!("stage `{}`: {message}", stage.name);
        BundleError::Model { path: path.to_owned(), message }
    })
}

fn fits(
    plan: &Plan,
    written: &StagePlan,
    dir: &Path,
    stage: &Stage,
    model: &dyn Model,
) -> Result<(), BundleError> {
    let path = dir.join(&written.model.file);
    let name = written.name.clone();
    let expected = stage.features.shape();
    if model.shape() != expected {
        return Err(BundleError::Width { stage: name, path, expected, found: model.shape() });
    }
    let (expected, found) = (plan.labels.len(), model.classes());
    if found != expected {
        return Err(BundleError::Classes { stage: name, path, expected, found });
    }
    Ok(())
}

fn unknown(stage: &StagePlan, key: &'static str, found: &str, known: &[&str]) -> BundleError {
    BundleError::Unknown {
        stage: stage.name.clone(),
        key,
        found: found.to_owned(),
        expected: known.join(", "),
    }
}

fn checked_stage(written: &StagePlan, gate: Gate) -> Result<Stage, BundleError> {
    let features = features(written)?;
    let shape = features.shape();
    // Each word of a row is 32 columns.
    let columns = shape.words.saturating_mul(32).saturating_add(shape.numbers);
    if columns > MAX_COLUMNS {
        let found = format!("{} (rows of {columns} columns)", written.packets);
        let expected = format!("so few that a row has at most {MAX_COLUMNS} columns");
        return Err(unknown(written, "packets", &found, &[&expected]));
    }
    let lane = LANE_NAMES.iter().position(|&name| name == written.lane);
    let lane = lane.ok_or_else(|| unknown(written, "lane", &written.lane, &LANE_NAMES))?;
    let wait_ns = written.wait_ms.saturating_mul(MILLISECOND);
    let confidence = written
        .calibration()
        .map_err(|message| BundleError::Confidence { stage: written.name.clone(), message })?;
    let unknown = checked_open_set(written)?;
    let stage = Stage::new(&written.name, features, gate, wait_ns);
    Ok(Stage { confidence, unknown, lane, ..stage.at_window_end(written.window) })
}

/// The features of a stage as it is written.
///
/// # Errors
/// When it names encoders, headers or masks that are not known.
pub fn features(written: &StagePlan) -> Result<Features, BundleError> {
    Features::new(&feature_spec(written)?).map_err(|error| match error {
        EncoderError::Unknown(found) => unknown(written, "features", &found, &encoder_names()),
        EncoderError::Twice(found) => {
            unknown(written, "features", &format!("{found} twice"), &["each name once"])
        }
    })
}

fn encoder_names() -> Vec<&'static str> {
    serveflow_core::features::ENCODERS.iter().map(|entry| entry.name).collect()
}

fn feature_spec(stage: &StagePlan) -> Result<FeatureSpec, BundleError> {
    let masks = stage.masks.iter().map(|name| {
        let known = || Mask::ALL.map(Mask::name);
        Mask::from_name(name).ok_or_else(|| unknown(stage, "masks", name, &known()))
    });
    let headers = stage.headers.iter().map(|name| {
        let known = || Header::ALL.map(Header::name);
        Header::from_name(name).ok_or_else(|| unknown(stage, "headers", name, &known()))
    });
    Ok(FeatureSpec {
        encoders: stage.features.clone(),
        packets: stage.packets,
        layout: HeaderLayout::new(&headers.collect::<Result<Vec<_>, _>>()?),
        masks: masks.collect::<Result<_, _>>()?,
    })
}
