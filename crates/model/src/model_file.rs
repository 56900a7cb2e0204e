//! What readers of model files give: a model, what a file says of itself, or why it is refused.

use serveflow_core::lane::Model;
use std::fmt;
use std::sync::Arc;

/// A model, or where and why its file is refused.
pub type LoadedModel = Result<Arc<dyn Model>, FormatError>;

/// Why a model file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormatError {
    /// Where in the file, what was expected and what was found, in one sentence.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {}

impl From<String> for FormatError {
    fn from(message: String) -> Self {
        Self { message }
    }
}

impl From<&str> for FormatError {
    fn from(message: &str) -> Self {
        Self { message: message.to_owned() }
    }
}

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
