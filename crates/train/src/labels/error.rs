//! Why labels are refused.

use serveflow_io::SourceError;
use std::fmt;
use std::path::PathBuf;

/// Why labels are refused.
#[derive(Debug)]
pub enum LabelError {
    /// A file could not be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A capture could not be read.
    Capture(SourceError),
    /// The label table lacks a column.
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A field of the label table is not what its column says.
    BadField {
        /// The table.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What the column holds.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// There are more labels than a cascade takes.
    TooMany {
        /// Where the labels are from.
        path: PathBuf,
        /// The most labels.
        most: usize,
        /// Labels found.
        found: usize,
    },
    /// There is no labelled flow, or no labelled capture.
    Nothing {
        /// Where labels were looked for.
        path: PathBuf,
        /// What would have been a label.
        expected: &'static str,
    },
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, message } => write!(f, "{}: {message}", path.display()),
            Self::Capture(error) => error.fmt(f),
            Self::MissingColumn { path, column } => {
                write!(f, "{}: line 1: expected a column `{column}`, found none", path.display())
            }
            Self::BadField { path, line, column, expected, found } => {
                let path = path.display();
                write!(f, "{path}: line {line}: {column}: expected {expected}, found `{found}`")
            }
            Self::TooMany { path, most, found } => {
                write!(f, "{}: expected at most {most} labels, found {found}", path.display())
            }
            Self::Nothing { path, expected } => {
                write!(f, "{}: no labels: expected {expected}", path.display())
            }
        }
    }
}

impl std::error::Error for LabelError {}

impl From<SourceError> for LabelError {
    fn from(error: SourceError) -> Self {
        Self::Capture(error)
    }
}
