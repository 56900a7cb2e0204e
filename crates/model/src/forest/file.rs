//! The `serveflow-forest` file, version 1: one JSON object, each tree a few parallel arrays.
//!
//! A node's entry in `tests` says what it asks: `word * 32 + bit` for a bit, `-1 - index` for a
//! number, whose threshold is the next of the tree's `thresholds`. `left` and `right` are children
//! as in [`Node`]. `missing` lists the nodes that send a missing number to the right. Numbers are
//! written in their shortest form that reads back to the same bits.

use super::{Forest, ForestError, ForestKind, Link, Node, Test, Tree};
use serde::{Deserialize, Serialize};
use serveflow_core::rows::{BitAt, RowShape};
use std::fmt;

const FORMAT: &str = "serveflow-forest";
const VERSION: u32 = 1;
const BOOSTED: &str = "boosted";
const LOGISTIC: &str = "boosted-logistic";
const AVERAGED: &str = "averaged";

/// What every version of the file starts with.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    words: usize,
    numbers: usize,
    classes: usize,
    kind: String,
    base: Vec<f32>,
    trees: Vec<FileTree>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTree {
    tests: Vec<i64>,
    thresholds: Vec<f32>,
    left: Vec<i32>,
    right: Vec<i32>,
    leaves: Vec<f32>,
    /// The nodes whose tests pass when the number is missing, rising.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<usize>,
}

/// Why bytes are not a forest.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Not JSON, or not with the keys and types of the format; says where.
    Json(serde_json::Error),
    /// Another format.
    Format {
        /// What the file calls itself.
        found: String,
    },
    /// Another version of the format.
    Version {
        /// The file's version.
        found: u32,
    },
    /// None of `boosted`, `boosted-logistic` and `averaged`, or an averaged forest with base
    /// scores.
    Kind {
        /// The file's kind.
        found: String,
    },
    /// The arrays of a tree do not belong together.
    Arrays {
        /// The tree.
        tree: usize,
        /// Number of tests.
        tests: usize,
        /// Number of left children.
        left: usize,
        /// Number of right children.
        right: usize,
    },
    /// A tree has more or fewer thresholds than tests of numbers.
    Thresholds {
        /// The tree.
        tree: usize,
        /// Number of thresholds.
        found: usize,
    },
    /// A node that sends what is missing to the right asks no number, or stands in the wrong order.
    Missing {
        /// The tree.
        tree: usize,
        /// The node as written.
        found: usize,
    },
    /// A test names no bit or number.
    Test {
        /// The tree.
        tree: usize,
        /// The node.
        node: usize,
        /// The test as written.
        found: i64,
    },
    /// It reads, but is no forest.
    Forest(ForestError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a forest file: {error}"),
            Self::Format { found } => write!(f, "format {found:?}, expected {FORMAT:?}"),
            Self::Version { found } => write!(f, "version {found}, expected {VERSION}"),
            Self::Kind { found } => {
                write!(
                    f,
                    "kind {found:?}, expected {BOOSTED:?}, {LOGISTIC:?}, or {AVERAGED:?} with an \
                     empty base"
                )
            }
            Self::Arrays { tree, tests, left, right } => {
                write!(f, "tree {tree}: {tests} tests, {left} left and {right} right children")
            }
            Self::Thresholds { tree, found } => {
                write!(f, "tree {tree}: {found} thresholds are not one for each number test")
            }
            Self::Test { tree, node, found } => {
                write!(f, "tree {tree}, node {node}: test {found} is no bit or number")
            }
            Self::Missing { tree, found } => {
                write!(f, "tree {tree}: missing: node {found} tests no number, or is out of order")
            }
            Self::Forest(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Forest(error) => Some(error),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<ForestError> for ReadError {
    fn from(error: ForestError) -> Self {
        Self::Forest(error)
    }
}

impl Forest {
    /// Reads a `serveflow-forest` file. What it allocates is bounded by the length of `json`.
    ///
    /// # Errors
    /// When the bytes are not such a file, or what they say is no forest.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        let head: Head = serde_json::from_slice(json)?;
        if head.format != FORMAT {
            return Err(ReadError::Format { found: head.format });
        }
        if head.version != VERSION {
            return Err(ReadError::Version { found: head.version });
        }
        let file: File = serde_json::from_slice(json)?;
        let kind = match file.kind.as_str() {
            BOOSTED => ForestKind::softmax(file.base),
            LOGISTIC => ForestKind::Boosted { base: file.base, link: Link::Logistic },
            AVERAGED if file.base.is_empty() => ForestKind::Averaged,
            _ => return Err(ReadError::Kind { found: file.kind }),
        };
        let trees = file.trees.into_iter().enumerate().map(|(t, tree)| read_tree(t, tree));
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        let shape = RowShape { words: file.words, numbers: file.numbers };
        Ok(Self::new(shape, file.classes, kind, trees)?)
    }

    /// Writes the forest as a `serveflow-forest` file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (kind, base) = match self.kind() {
            ForestKind::Boosted { base, link: Link::Softmax } => (BOOSTED, base.clone()),
            ForestKind::Boosted { base, link: Link::Logistic } => (LOGISTIC, base.clone()),
            ForestKind::Averaged => (AVERAGED, Vec::new()),
        };
        let file = File {
            format: FORMAT.into(),
            version: VERSION,
            words: self.shape().words,
            numbers: self.shape().numbers,
            classes: self.classes(),
            kind: kind.into(),
            base,
            trees: self.trees().iter().map(write_tree).collect(),
        };
        serde_json::to_vec(&file).expect("strings, integers and finite numbers always serialise")
    }
}

fn read_tree(t: usize, file: FileTree) -> Result<Tree, ReadError> {
    let (tests, left, right) = (file.tests.len(), file.left.len(), file.right.len());
    if tests != left || tests != right {
        return Err(ReadError::Arrays { tree: t, tests, left, right });
    }
    let numbers = file.tests.iter().filter(|test| **test < 0).count();
    if numbers != file.thresholds.len() {
        return Err(ReadError::Thresholds { tree: t, found: file.thresholds.len() });
    }
    let mut thresholds = file.thresholds.into_iter();
    let mut nodes = Vec::with_capacity(tests);
    for (n, &found) in file.tests.iter().enumerate() {
        let place = u32::try_from(if found < 0 { !found } else { found >> 5 })
            .map_err(|_| ReadError::Test { tree: t, node: n, found })?;
        let test = match (found < 0).then(|| thresholds.next()).flatten() {
            Some(threshold) => Test::above(place, threshold),
            None => Test::Bit(BitAt { word: place, bit: (found & 31) as u8 }),
        };
        nodes.push(Node { test, left: file.left[n], right: file.right[n] });
    }
    let mut next = 0;
    for found in file.missing {
        match nodes.get_mut(found).map(|node: &mut Node| &mut node.test) {
            Some(Test::Number { missing, .. }) if found >= next => *missing = true,
            _ => return Err(ReadError::Missing { tree: t, found }),
        }
        next = found + 1;
    }
    Ok(Tree { nodes, leaves: file.leaves })
}

fn write_tree(tree: &Tree) -> FileTree {
    let tests = tree.nodes.iter().map(|node| match node.test {
        Test::Bit(at) => i64::from(at.word) << 5 | i64::from(at.bit),
        Test::Number { index, .. } => !i64::from(index),
    });
    let thresholds = tree.nodes.iter().filter_map(|node| match node.test {
        Test::Bit(_) => None,
        Test::Number { threshold, .. } => Some(threshold),
    });
    let passes_missing = |node: &Node| matches!(node.test, Test::Number { missing: true, .. });
    let missing = tree.nodes.iter().enumerate().filter(|(_, node)| passes_missing(node));
    FileTree {
        missing: missing.map(|(n, _)| n).collect(),
        tests: tests.collect(),
        thresholds: thresholds.collect(),
        left: tree.nodes.iter().map(|node| node.left).collect(),
        right: tree.nodes.iter().map(|node| node.right).collect(),
        leaves: tree.leaves.clone(),
    }
}
