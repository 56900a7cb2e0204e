//! Why labels are refused.

use serveflow_io::SourceError;
use std::fmt;
use std::path::PathBuf;

/// Why labels are refused.
#[derive(Debug)]
#[non_exhaustive]
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
    /// The label table lacks columns.
    MissingColumns {
        /// The table.
        path: PathBuf,
        /// The columns.
        missing: Vec<&'static str>,
        /// The columns that it has.
        found: Vec<String>,
        /// What to do where the table is of a known kind, in words.
        hint: Option<String>,
    },
    /// A flow has another label or split than an earlier line gives it.
    Contradiction {
        /// The table.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// Its label and split.
        found: String,
        /// The earlier line.
        earlier: u64,
        /// The label and split there.
        expected: String,
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
            Self::MissingColumns { path, missing, found, hint } => {
                let (columns, found) = (quoted(missing), quoted(found));
                let which = if missing.len() == 1 { "the column" } else { "the columns" };
                let found = if found.is_empty() { "none".to_owned() } else { found };
                write!(f, "{}: line 1: expected {which} {columns}, found {found}", path.display())?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Self::Contradiction { path, line, found, earlier, expected } => write!(
                f,
                "{}: line {line}: label: expected the label and split of this flow in line \
                 {earlier}, {expected}, found {found}",
                path.display()
            ),
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

fn quoted<T: fmt::Display>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
