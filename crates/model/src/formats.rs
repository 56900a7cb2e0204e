//! The model formats that a stage may name.

use crate::binding::Binding;
use crate::forest::import::{from_lightgbm, from_sklearn, from_xgboost};
use crate::forest::{BoundForest, Forest};
use crate::remote;
use serveflow_core::lane::Model;
use std::fmt::Display;
use std::sync::{Arc, OnceLock};

/// A model, or where and why its file is refused, in words.
pub type Loaded = Result<Arc<dyn Model>, String>;

/// A model format: its name, what it is, and how to read it.
#[derive(Debug)]
pub struct FormatEntry {
    /// Name in plans.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Reads a file whose columns are bound so; the error says where and why in words.
    pub load: fn(&[u8], &Binding) -> Loaded,
}

/// The clock of [`measure_with`].
static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();

/// From now on, models that are read measure how they are scored fastest on this machine. This crate
/// reads no clock: the program hands one in, which counts nanoseconds. Only the first counts. What
/// is measured changes no score.
pub fn measure_with(clock: fn() -> u64) {
    CLOCK.get_or_init(|| clock);
}

/// The name of this project's own forests.
pub const FOREST: &str = "forest";

/// The name of models that answer elsewhere.
pub const REMOTE: &str = "remote";

/// All formats. A new one is one file and one line here.
pub const FORMATS: &[FormatEntry] = &[
    FormatEntry {
        name: FOREST,
        doc: "this project's own forests: decision trees, random forests and boosted trees on bits",
        load: |bytes, _| bind(Forest::from_json(bytes)),
    },
    FormatEntry {
        name: "lightgbm",
        doc: "LightGBM text models, multiclass, on columns of 0 and 1 in row order",
        load: |bytes, _| bind(from_lightgbm(bytes)),
    },
    FormatEntry {
        name: "xgboost",
        doc: "XGBoost JSON models, multi:softprob, on columns of 0 and 1 in row order",
        load: |bytes, _| bind(from_xgboost(bytes)),
    },
    FormatEntry {
        name: "sklearn-tree",
        doc: "one scikit-learn decision tree as JSON, on columns of 0 and 1 in row order",
        load: |bytes, _| bind(from_sklearn(bytes)),
    },
    FormatEntry {
        name: REMOTE,
        doc: "a model on a server that speaks the Open Inference Protocol; the file says which",
        load: remote::load,
    },
];

fn bind<E: Display>(forest: Result<Forest, E>) -> Loaded {
    let forest = forest.map_err(|error| error.to_string())?;
    let mut bound = BoundForest::new(&forest);
    if let Some(clock) = CLOCK.get() {
        bound.tune(&mut || clock());
    }
    Ok(Arc::new(bound))
}
