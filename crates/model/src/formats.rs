//! The model formats that a stage may name.

use crate::binding::Binding;
use crate::forest::import::{self, Foreign};
use crate::forest::{BoundForest, Forest};
use crate::missing::with_missing;
use crate::{net, remote};
use serveflow_core::lane::Model;
use std::fmt::Display;
use std::sync::{Arc, OnceLock};

/// A model, or where and why its file is refused, in words.
pub type LoadedModel = Result<Arc<dyn Model>, String>;

/// A model format: its name, what it is, and how to read it.
#[derive(Debug)]
pub struct FormatEntry {
    /// Name in plans.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Reads a file whose columns are bound so; the error says where and why in words.
    pub load: fn(&[u8], &Binding) -> LoadedModel,
    /// Reads what a file says of itself; the error says where and why in words.
    pub head: fn(&[u8]) -> Result<FormatHead, String>,
}

/// The clock of [`measure_with`].
static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();

/// From now on, models that are read measure how they are scored fastest on this machine. This
/// crate reads no clock: the program hands one in, which counts nanoseconds. Only the first counts.
/// What is measured changes no score.
pub fn measure_with(clock: fn() -> u64) {
    CLOCK.get_or_init(|| clock);
}

/// The name of this project's own forests.
pub const FOREST: &str = "forest";

/// What a model file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatHead {
    /// Columns that it takes, if it says so.
    pub columns: Option<usize>,
    /// Names of the columns, if it knows them.
    pub names: Vec<String>,
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, if it knows them.
    pub labels: Vec<String>,
}

/// The name of models that answer elsewhere.
pub const REMOTE: &str = "remote";

/// All formats. A new one is one file and one line here.
pub const FORMATS: &[FormatEntry] = &[
    FormatEntry {
        name: FOREST,
        doc: "this project's own forests: decision trees, random forests and boosted trees on bits",
        load: own_forest,
        head: |_| Ok(FormatHead::default()),
    },
    FormatEntry {
        name: "lightgbm",
        doc: "LightGBM text models",
        load: |bytes, columns| bind(import::lightgbm(bytes).and_then(|m| m.bind(columns)), columns),
        head: |bytes| head(import::lightgbm(bytes)),
    },
    FormatEntry {
        name: "lightgbm-json",
        doc: "LightGBM JSON dumps",
        load: |bytes, columns| {
            bind(import::lightgbm_json(bytes).and_then(|m| m.bind(columns)), columns)
        },
        head: |bytes| head(import::lightgbm_json(bytes)),
    },
    FormatEntry {
        name: "xgboost",
        doc: "XGBoost JSON models",
        load: |bytes, columns| bind(import::xgboost(bytes).and_then(|m| m.bind(columns)), columns),
        head: |bytes| head(import::xgboost(bytes)),
    },
    FormatEntry {
        name: "xgboost-ubj",
        doc: "XGBoost UBJSON models",
        load: |bytes, columns| {
            bind(import::xgboost_ubjson(bytes).and_then(|m| m.bind(columns)), columns)
        },
        head: |bytes| head(import::xgboost_ubjson(bytes)),
    },
    FormatEntry {
        name: "catboost",
        doc: "CatBoost JSON models on numbers",
        load: |bytes, columns| bind(import::catboost(bytes).and_then(|m| m.bind(columns)), columns),
        head: |bytes| head(import::catboost(bytes)),
    },
    FormatEntry {
        name: "sklearn-tree",
        doc: "one scikit-learn decision tree as JSON",
        load: |bytes, columns| bind(import::sklearn(bytes).and_then(|m| m.bind(columns)), columns),
        head: |bytes| head(import::sklearn(bytes)),
    },
    FormatEntry {
        name: "onnx",
        doc: "ONNX: tree ensembles as scikit-learn's are exported, and neural networks of one \
              input of floats [N, columns] and one output [N, classes]",
        load: |bytes, columns| match import::onnx_is_forest(bytes) {
            true => bind(import::onnx(bytes).and_then(|m| m.bind(columns)), columns),
            false if columns.missing().is_some() => Err(NO_MISSING.to_owned()),
            false => net::load(bytes, columns),
        },
        head: |bytes| match import::onnx_is_forest(bytes) {
            true => head(import::onnx(bytes)),
            false => Ok(FormatHead::default()),
        },
    },
    FormatEntry {
        name: REMOTE,
        doc: "a model on a server that speaks the Open Inference Protocol; the file names it",
        load: |bytes, columns| match columns.missing() {
            Some(_) => Err(NO_MISSING.to_owned()),
            None => remote::load(bytes, columns),
        },
        head: |_| Ok(FormatHead::default()),
    },
];

/// Whether a file of a format holds trees, which cost little and never fail.
#[must_use]
pub fn is_forest(format: &str, bytes: &[u8]) -> bool {
    match format {
        "onnx" => import::onnx_is_forest(bytes),
        other => other != REMOTE,
    }
}

/// Bytes from the start of a file that say what it is.
const TELLING: usize = 1 << 16;

/// The name of the format that bytes are most likely of; `extension` is that of the file's name.
#[must_use]
pub fn guess(bytes: &[u8], extension: &str) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(TELLING)];
    let has = |word: &str| start.windows(word.len()).any(|part| part == word.as_bytes());
    Some(match (start, extension) {
        ([b't', b'r', b'e', b'e', b'\n' | b'\r', ..], _) => "lightgbm",
        // A length stands behind the brace of UBJSON, a quote or white space behind that of JSON.
        ([b'{', b'L' | b'l' | b'i' | b'U' | b'I' | b'#' | b'$', ..], _) => "xgboost-ubj",
        ([b'{', ..], _) if has("\"serveflow-forest\"") => FOREST,
        ([b'{', ..], _) if has("\"learner\"") => "xgboost",
        ([b'{', ..], _) if has("\"num_tree_per_iteration\"") => "lightgbm-json",
        ([b'{', ..], _) if has("\"features_info\"") || has("\"oblivious_trees\"") => "catboost",
        ([b'{', ..], _) if has("\"feature\"") && has("\"threshold\"") => "sklearn-tree",
        (_, "onnx") => "onnx",
        (_, "toml") => REMOTE,
        _ => return None,
    })
}

fn head<E: Display>(model: Result<Foreign, E>) -> Result<FormatHead, String> {
    model.map(|model| model.head().clone()).map_err(|error| error.to_string())
}

/// Rows of a stage are as wide as they are, and a forest that names another width is refused before
/// anything is laid out for it.
fn own_forest(bytes: &[u8], columns: &Binding) -> LoadedModel {
    let forest = Forest::from_json(bytes).map_err(|error| error.to_string())?;
    if columns.missing().is_some() {
        return Err(NO_MISSING.to_owned());
    }
    let (expected, found) = (columns.shape(), forest.shape());
    if expected != found {
        return Err(format!(
            "expected rows of {} words and {} numbers, as the stage encodes them, found {} words \
             and {} numbers",
            expected.words, expected.numbers, found.words, found.numbers
        ));
    }
    bind(Ok::<_, String>(forest), columns)
}

/// Why a value cannot be missing to some models.
const NO_MISSING: &str = "`missing`: expected trees of another library, which know missing values, \
                          found a model that does not";

fn bind<E: Display>(forest: Result<Forest, E>, columns: &Binding) -> LoadedModel {
    let forest = forest.map_err(|error| error.to_string())?;
    let mut bound = BoundForest::new(&forest);
    if let Some(clock) = CLOCK.get() {
        bound.tune(&mut || clock());
    }
    let bound: Arc<dyn Model> = Arc::new(bound);
    Ok(match columns.missing() {
        Some(missing) => with_missing(bound, missing),
        None => bound,
    })
}
