//! Why a training gave no bundle.

use crate::evaluate::EvaluateError;
use crate::pipeline::PipelineError;
use serveflow_model::bundle::BundleError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a training gave no bundle.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// An option contradicts another one, or the candidates.
    Option {
        /// The option, as the command line spells it, with its value if that matters.
        option: String,
        /// What was expected, and what was found.
        message: String,
    },
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no candidates.
    Pool {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        message: String,
    },
    /// The candidates could not be made or composed.
    Pipeline(PipelineError),
    /// The bundle, or one of --external-bundle, is none.
    Bundle(BundleError),
    /// The bundle could not be run.
    Evaluate(EvaluateError),
}

impl SessionError {
    pub(super) fn option(option: &str, message: impl Into<String>) -> Self {
        Self::Option { option: option.to_owned(), message: message.into() }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { option, message } => write!(f, "{option}: {message}"),
            Self::Read { path, .. } => write!(f, "{}: cannot read", path.display()),
            Self::Write { path, .. } => write!(f, "{}: cannot write", path.display()),
            Self::Pool { path, message } => write!(f, "{}: {message}", path.display()),
            Self::Pipeline(error) => error.fmt(f),
            Self::Bundle(error) => error.fmt(f),
            Self::Evaluate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            // These are told in full above: what is next is what caused them.
            Self::Pipeline(error) => error.source(),
            Self::Bundle(error) => error.source(),
            Self::Evaluate(error) => error.source(),
            Self::Option { .. } | Self::Pool { .. } => None,
        }
    }
}

impl From<PipelineError> for SessionError {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

impl From<BundleError> for SessionError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

impl From<EvaluateError> for SessionError {
    fn from(error: EvaluateError) -> Self {
        Self::Evaluate(error)
    }
}
