//! Why a foreign model is refused.

use crate::forest::ForestError;
use std::fmt;

/// What is wrong with a place of a tree.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SplitFault {
    /// It splits by categories, in a format whose categories are not supported.
    Categorical,
    /// Its threshold is no number.
    Threshold(f64),
    /// It asks a column that the model does not have.
    Column(i64),
    /// A child is no place of the tree.
    Child(i64),
    /// Its leaf is missing or has the wrong number of values.
    Leaf,
    /// The tree leads back to where it was.
    Loop,
    /// It would take too many tests of bits and numbers.
    TooMany,
}

impl fmt::Display for SplitFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Categorical => {
                write!(f, "categorical splits of this format are not supported")
            }
            Self::Threshold(found) => write!(f, "expected a threshold, found {found}"),
            Self::Column(found) => write!(f, "column {found} is not one of the model's"),
            Self::Child(found) => write!(f, "child {found} is no place of the tree"),
            Self::Leaf => write!(f, "the leaf is missing or has the wrong number of values"),
            Self::Loop => write!(f, "the tree leads back to where it was"),
            Self::TooMany => write!(f, "its splits take too many tests of bits and numbers"),
        }
    }
}

/// Why bytes are not a model that can be bound.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// Not text in UTF-8.
    Text,
    /// Not a file of this format; says where.
    Format(String),
    /// A key is missing or its value does not read.
    Key {
        /// The tree, or none for the model's head.
        tree: Option<usize>,
        /// The key.
        key: &'static str,
    },
    /// The key asks for something that is not supported.
    Unsupported {
        /// The tree, or none for the model's head.
        tree: Option<usize>,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// The file does not add up: it was cut or changed.
    Damaged {
        /// Where.
        place: String,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The model takes another number of columns than are bound.
    Columns {
        /// Columns that are bound.
        expected: usize,
        /// Columns of the model.
        found: usize,
    },
    /// A place of a tree cannot be bound.
    Split {
        /// The tree.
        tree: usize,
        /// The place, as the file numbers it.
        node: usize,
        /// What is wrong.
        fault: SplitFault,
    },
    /// It reads, but is no forest.
    Forest(ForestError),
}

impl ImportError {
    /// A key of the model's head that asks for what is not supported.
    pub(super) fn unsupported(key: &'static str, found: &str, expected: &'static str) -> Self {
        Self::Unsupported { tree: None, key, found: found.to_owned(), expected }
    }

    /// A key of the model's head that is missing or does not read.
    pub(super) fn key(key: &'static str) -> Self {
        Self::Key { tree: None, key }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |tree: &Option<usize>| tree.map_or(String::new(), |t| format!("tree {t}: "));
        match self {
            Self::Text => write!(f, "expected text, found bytes that are not UTF-8"),
            Self::Format(error) => write!(f, "not a model of this format: {error}"),
            Self::Key { tree, key } => {
                write!(f, "{}`{key}` is missing or does not read", whose(tree))
            }
            Self::Unsupported { tree, key, found, expected } => {
                write!(f, "{}`{key}`: expected {expected}, found {found:?}", whose(tree))
            }
            Self::Damaged { place, expected, found } => {
                write!(
                    f,
                    "{place}: expected {expected}, found {found}: the file was cut or changed"
                )
            }
            Self::Columns { expected, found } => {
                write!(f, "the model takes {found} columns, the stage gives it {expected}")
            }
            Self::Split { tree, node, fault } => write!(f, "tree {tree}, node {node}: {fault}"),
            Self::Forest(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Forest(error) => Some(error),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for ImportError {
    fn from(error: serde_json::Error) -> Self {
        Self::Format(error.to_string())
    }
}

impl From<ForestError> for ImportError {
    fn from(error: ForestError) -> Self {
        Self::Forest(error)
    }
}
