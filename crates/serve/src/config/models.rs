//! `[models]`: what scores models.

use super::ConfigError;
use serde::Deserialize;
use serveflow_model::net;
use std::path::PathBuf;

/// `[models]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedModels {
    /// The library of ONNX Runtime, which is to score nets.
    pub onnxruntime: Option<PathBuf>,
}

impl TypedModels {
    /// Opens what is named, for the whole process. This comes before the first bundle is loaded,
    /// since a model stays with the runtime that it was loaded for.
    ///
    /// # Errors
    /// When a library is none, or the program was built without the feature that uses it.
    pub fn open(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.onnxruntime else { return Ok(()) };
        let refused = |message| ConfigError::Library { key: "models.onnxruntime", message };
        net::use_onnxruntime(path).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Typed;

    #[test]
    fn what_is_no_library_is_refused_in_words() {
        let typed = |text: &str| toml::from_str::<Typed>(text).unwrap().models;
        assert!(typed("").open().is_ok());
        let error = typed("[models]\nonnxruntime = \"no/such.so\"").open().unwrap_err().to_string();
        assert!(error.starts_with("models.onnxruntime: no/such.so: expected"), "{error}");
        // Without the feature it is the feature that is missing, whatever the file is.
        assert_eq!(error.contains("feature `ort`"), !cfg!(feature = "ort"), "{error}");
        assert!(toml::from_str::<Typed>("[models]\nort = \"x\"").is_err());
    }
}
