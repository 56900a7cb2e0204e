//! Why a bundle or a model file is refused: what was expected, what was found, and where.

use crate::classes::ClassError;
use crate::options::UnknownStage;
use serveflow_core::engine::CascadeError;
use serveflow_core::rows::RowShape;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a bundle is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum BundleError {
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is no bundle.
    NoBundle {
        /// The path.
        path: PathBuf,
        /// What stands there, in words.
        found: &'static str,
    },
    /// `plan.toml` is no plan.
    Plan {
        /// The file.
        path: PathBuf,
        /// Where and why, as the TOML reader says it.
        message: String,
    },
    /// The plan is of another version.
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: String,
    },
    /// A file that the plan or the hash list names is not there.
    Missing {
        /// The file.
        path: PathBuf,
        /// Who names it.
        named_by: String,
    },
    /// A file of the bundle is none that is read: it leads out of the directory, is no regular
    /// file, or is too long.
    File {
        /// The file.
        path: PathBuf,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// What the plan says of a stage is refused.
    InPlan {
        /// The plan.
        path: PathBuf,
        /// Why.
        source: Box<BundleError>,
    },
    /// A file is not listed in `SHA256SUMS`.
    NotListed {
        /// The bundle.
        bundle: PathBuf,
        /// The file.
        file: String,
    },
    /// A line of `SHA256SUMS` is not `<64 hex digits>  <file>`.
    BadSums {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// A file's hash is not the one listed.
    WrongHash {
        /// The file.
        path: PathBuf,
        /// SHA-256 listed.
        expected: String,
        /// SHA-256 of the file.
        found: String,
    },
    /// A word in a stage is none of those known.
    Unknown {
        /// The stage.
        stage: String,
        /// The key.
        key: &'static str,
        /// The word found.
        found: String,
        /// The words known.
        expected: String,
    },
    /// A stage's `confidence` is no rising function.
    Confidence {
        /// The stage.
        stage: String,
        /// What is wrong.
        message: String,
    },
    /// A stage's gate is missing or contradicts itself.
    Gate {
        /// The stage.
        stage: String,
        /// What is wrong.
        message: String,
    },
    /// A model file is refused.
    Model {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The columns of a model are not those of its stage.
    Columns {
        /// The stage.
        stage: String,
        /// The file that names them.
        path: PathBuf,
        /// Which, and why.
        message: String,
    },
    /// The classes of a model are no labels of the plan.
    Label {
        /// The stage.
        stage: String,
        /// The model file.
        path: PathBuf,
        /// Which, and why.
        source: ClassError,
    },
    /// A model takes rows of another width than its stage encodes.
    Width {
        /// The stage.
        stage: String,
        /// The model file.
        path: PathBuf,
        /// Shape that the stage encodes.
        expected: RowShape,
        /// Shape that the model takes.
        found: RowShape,
    },
    /// A model has another number of classes than the plan has labels.
    Classes {
        /// The stage.
        stage: String,
        /// The model file.
        path: PathBuf,
        /// Labels of the plan.
        expected: usize,
        /// Classes of the model.
        found: usize,
    },
    /// A lane is chosen for a stage that is not there.
    Lanes {
        /// The plan.
        path: PathBuf,
        /// Which stage.
        source: UnknownStage,
    },
    /// The stages make no cascade.
    Cascade {
        /// The plan.
        path: PathBuf,
        /// Why.
        source: CascadeError,
    },
}

/// Where the classes of a model are named.
const CLASS_KEYS: &str = "`classes` of the stage's model, --classes of `bundle add`";

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NoBundle { path, found } => write!(
                f,
                "{}: expected a bundle, the directory with SHA256SUMS and plan.toml that \
                 `serveflow train` or `serveflow bundle add` writes, found {found}",
                path.display()
            ),
            Self::Plan { path, message } | Self::Model { path, message } => {
                write!(f, "{}: {message}", path.display())
            }
            Self::Version { path, found } => {
                let expected = super::plan::PLAN_FORMAT;
                write!(f, "{}: format: expected `{expected}`, found `{found}`", path.display())
            }
            Self::Missing { path, named_by } => {
                write!(f, "{}: no such file, named by {named_by}", path.display())
            }
            Self::File { path, expected, found } => {
                write!(f, "{}: expected {expected}, found {found}", path.display())
            }
            Self::InPlan { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NotListed { bundle, file } => {
                write!(f, "{}: SHA256SUMS does not list `{file}`", bundle.display())?;
                f.write_str("; if you added it yourself, `serveflow bundle pack` accepts it")
            }
            Self::BadSums { path, line } => {
                let path = path.display();
                write!(f, "{path}: line {line}: expected 64 hex digits, two spaces and a file name")
            }
            Self::WrongHash { path, expected, found } => {
                write!(f, "{}: SHA-256: expected {expected}, found {found}", path.display())?;
                f.write_str("; if you changed it yourself, `serveflow bundle pack` accepts it")
            }
            Self::Unknown { stage, key, found, expected } => {
                write!(f, "stage `{stage}`: {key}: expected one of {expected}, found `{found}`")
            }
            Self::Confidence { stage, message } => {
                write!(f, "stage `{stage}`: confidence: {message}")
            }
            Self::Gate { stage, message } => write!(f, "stage `{stage}`: gate: {message}"),
            Self::Columns { stage, path, message } => {
                write!(f, "{}: stage `{stage}`: {message}", path.display())
            }
            Self::Label { stage, path, source } => {
                write!(f, "{}: stage `{stage}`: {source} ({CLASS_KEYS})", path.display())
            }
            Self::Width { stage, path, expected, found } => write!(
                f,
                "{}: stage `{stage}` encodes rows of {}, the model takes {}",
                path.display(),
                shape(expected),
                shape(found)
            ),
            Self::Classes { stage, path, expected, found } => write!(
                f,
                "{}: stage `{stage}`: the plan has {expected} labels, the model {found} classes: \
                 name the labels that they are ({CLASS_KEYS})",
                path.display()
            ),
            Self::Lanes { path, source } => write!(f, "{}: lanes: {source}", path.display()),
            Self::Cascade { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

/// A row's shape in words.
fn shape(shape: &RowShape) -> String {
    format!("{} words and {} numbers", shape.words, shape.numbers)
}

impl BundleError {
    /// The same error with the plan's path before it, where it names a stage of the plan and no
    /// file.
    #[must_use]
    pub(super) fn in_plan(self, plan: &Path) -> Self {
        match self {
            Self::Unknown { .. } | Self::Confidence { .. } | Self::Gate { .. } => {
                Self::InPlan { path: plan.to_owned(), source: Box::new(self) }
            }
            other => other,
        }
    }

    /// The same error, told of another file: whoever makes a bundle knows the file that its own was
    /// made from.
    #[must_use]
    pub fn told_of(mut self, file: &Path, instead: &Path) -> Self {
        let path = match &mut self {
            Self::Model { path, .. }
            | Self::Columns { path, .. }
            | Self::Label { path, .. }
            | Self::Width { path, .. }
            | Self::Classes { path, .. } => path,
            _ => return self,
        };
        if path == file {
            instead.clone_into(path);
        }
        self
    }
}

impl std::error::Error for BundleError {}
