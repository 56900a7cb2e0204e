//! `[models]`: what scores models.

use super::ConfigError;
use serde::Deserialize;
use serveflow_model::net::OnnxRuntime;
use std::path::PathBuf;

/// `[models]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedModels {
    /// The library of ONNX Runtime, which is to score nets.
    pub onnxruntime: Option<PathBuf>,
}

impl TypedModels {
    /// Opens the library that is named, for the bundles that are loaded with it.
    ///
    /// # Errors
    /// When a library is none, or the program was built without the feature that uses it.
    pub fn open(&self) -> Result<Option<OnnxRuntime>, ConfigError> {
        let Some(path) = &self.onnxruntime else { return Ok(None) };
        let refused = |message| ConfigError::Library { key: "models.onnxruntime", message };
        OnnxRuntime::open(path).map(Some).map_err(|error| refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Typed;

    #[test]
    fn what_is_no_library_is_refused_in_words() {
        let typed = |text: &str| toml::from_str::<Typed>(text).unwrap().models;
        assert!(typed("").open().unwrap().is_none());
        let error = typed("[models]\nonnxruntime = \"no/such.so\"").open().unwrap_err().to_string();
        assert!(error.starts_with("models.onnxruntime: no/such.so: expected"), "{error}");
        // Without the feature it is the feature that is missing, whatever the file is.
        assert_eq!(error.contains("feature `ort`"), !cfg!(feature = "ort"), "{error}");
        assert!(toml::from_str::<Typed>("[models]\nort = \"x\"").is_err());
    }
}
