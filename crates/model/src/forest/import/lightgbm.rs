//! LightGBM's text model.

use super::convert::{FileTree, Part};
use super::lightgbm_parts::{Parts, parts};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError, Sum, zeros};
use crate::forest::Link;
use crate::model_file::FormatHead;
use std::collections::HashMap;
use std::str::FromStr;

/// The keys of the head, as versions 3 and 4 of the text write them.
const HEAD_KEYS: &[&str] = &[
    "tree",
    "version",
    "num_class",
    "num_tree_per_iteration",
    "label_index",
    "max_feature_idx",
    "objective",
    "average_output",
    "feature_names",
    "monotone_constraints",
    "feature_infos",
    "tree_sizes",
];

/// The keys of a tree.
const TREE_KEYS: &[&str] = &[
    "Tree",
    "num_leaves",
    "num_cat",
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "leaf_const",
    "num_features",
    "leaf_features",
    "leaf_coeff",
    "shrinkage",
];

/// A section of the file: lines `key=value` up to an empty line.
struct Section<'a> {
    tree: Option<usize>,
    values: HashMap<&'a str, &'a str>,
}

impl<'a> Section<'a> {
    /// Reads the lines of a section, all of whose keys are known: of a line that is not understood
    /// nobody knows what it changes.
    fn read(text: &'a str, tree: Option<usize>) -> Result<Self, ImportError> {
        let known = if tree.is_none() { HEAD_KEYS } else { TREE_KEYS };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut values = HashMap::new();
        for (key, value) in lines.map(|line| line.split_once('=').unwrap_or((line, ""))) {
            if !known.contains(&key) || values.insert(key, value).is_some() {
                let place = tree.map_or("the head".to_owned(), |tree| format!("tree {tree}"));
                let found: String = key.chars().take(60).collect();
                let (expected, found) = ("a known key, once".to_owned(), format!("`{found}`"));
                return Err(ImportError::Damaged { place, expected, found });
            }
        }
        Ok(Self { tree, values })
    }

    fn text(&self, key: &'static str) -> Result<&'a str, ImportError> {
        self.values.get(key).copied().ok_or(ImportError::Key { tree: self.tree, key })
    }

    fn one<T: FromStr>(&self, key: &'static str) -> Result<T, ImportError> {
        self.text(key)?.parse().map_err(|_| ImportError::Key { tree: self.tree, key })
    }

    /// Exactly `len` values.
    fn list<T: FromStr>(&self, key: &'static str, len: usize) -> Result<Vec<T>, ImportError> {
        let bad = ImportError::Key { tree: self.tree, key };
        let text = if len == 0 { self.text(key).unwrap_or("") } else { self.text(key)? };
        match text.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<T>, _>>() {
            Ok(values) if values.len() == len => Ok(values),
            _ => Err(bad),
        }
    }

    /// Refuses what is not supported.
    fn expect(
        &self,
        key: &'static str,
        expected: &'static str,
        is_so: impl Fn(&str) -> bool,
    ) -> Result<(), ImportError> {
        let found = self.values.get(key).copied().unwrap_or_default();
        if is_so(found) {
            return Ok(());
        }
        Err(ImportError::Unsupported { tree: self.tree, key, found: found.into(), expected })
    }
}

/// Reads a LightGBM text model. Its values are `f64`; leaves are kept as `f32`.
///
/// # Errors
/// When the bytes are not such a model, or ask for what is not supported; see [`ImportError`].
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ImportError::Text)?;
    let first = text.lines().next().unwrap_or_default();
    if first.trim() != "tree" {
        let found: String = first.chars().take(60).collect();
        return Err(ImportError::unsupported("tree", &found, "a LightGBM text model"));
    }
    let Parts { head, trees: texts, pandas } = parts(text)?;
    let head = Section::read(head, None)?;
    head.expect("version", "v3 or v4", |v| ["v3", "v4"].contains(&v))?;
    let objective = head.values.get("objective").copied().unwrap_or_default();
    let per_round: usize = head.one("num_tree_per_iteration")?;
    let columns = head.one::<usize>("max_feature_idx")?.saturating_add(1);
    let names: Vec<String> = match head.values.get("feature_names") {
        Some(names) => names.split(' ').map(str::to_owned).collect(),
        None => Vec::new(),
    };
    if !names.is_empty() && names.len() != columns {
        return Err(ImportError::key("feature_names"));
    }
    no_pandas(pandas.unwrap_or("null"))?;
    let mut trees = Vec::with_capacity(texts.len());
    for (number, text) in texts.into_iter().enumerate() {
        let section = Section::read(text, Some(number))?;
        // By them Python tells which of a data frame's categories a number stands for.
        if pandas.is_none() && section.values.get("num_cat").is_some_and(|count| *count != "0") {
            let (place, expected) = ("the last line".to_owned(), EXPECT_PANDAS.to_owned());
            return Err(ImportError::Damaged { place, expected, found: "none".to_owned() });
        }
        trees.push(read_tree(&section, number)?);
    }
    let averaged = head.values.contains_key("average_output");
    finish(objective, per_round, averaged, trees, Names { columns, names })
}

/// What a model with categorical splits must say of data frames, since a cut would hide it.
const EXPECT_PANDAS: &str = "`pandas_categorical:null` of a model that splits by categories";

/// Categories of a data frame are numbered by the order in which they are listed, and features are
/// not.
pub(super) fn no_pandas(listed: &str) -> Result<(), ImportError> {
    if ["null", "[]"].contains(&listed.trim()) {
        return Ok(());
    }
    const EXPECTED: &str = "columns of numbers, without categories of pandas";
    let found: String = listed.trim().chars().take(60).collect();
    Err(ImportError::unsupported("pandas_categorical", &found, EXPECTED))
}

/// The columns of a model.
pub(super) struct Names {
    pub(super) columns: usize,
    pub(super) names: Vec<String>,
}

/// Puts the trees of a model together, as its objective says.
pub(super) fn finish(
    objective: &str,
    per_round: usize,
    averaged: bool,
    mut trees: Vec<FileTree>,
    Names { columns, names }: Names,
) -> Result<Foreign, ImportError> {
    let mut words = objective.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let mut values: HashMap<&str, f64> = HashMap::new();
    for word in words {
        let known = |(key, _): &(&str, &str)| ["num_class", "sigmoid"].contains(key);
        let (key, value) = word.split_once(':').filter(known).ok_or_else(|| {
            ImportError::unsupported("objective", objective, "`num_class:` and `sigmoid:` alone")
        })?;
        values.insert(key, value.parse().map_err(|_| ImportError::key("objective"))?);
    }
    let classes = match name {
        "multiclass" | "multiclassova" => values.get("num_class").map_or(0, |n| *n as usize),
        "binary" | "cross_entropy" => 2,
        _ => {
            const KNOWN: &str = "binary, cross_entropy, multiclass or multiclassova";
            return Err(ImportError::unsupported("objective", objective, KNOWN));
        }
    };
    let base = zeros(classes)?;
    let expected = if ["binary", "cross_entropy"].contains(&name) { 1 } else { classes };
    if per_round != expected {
        return Err(ImportError::key("num_tree_per_iteration"));
    }
    if trees.is_empty() || !trees.len().is_multiple_of(per_round) {
        let (trees, classes) = (trees.len(), per_round);
        return Err(crate::forest::ForestError::Rounds { trees, classes }.into());
    }
    let sum = match name {
        "multiclass" => Sum::Classes { base, link: Link::Softmax },
        "multiclassova" => Sum::Classes { base, link: Link::Logistic },
        _ => Sum::Binary(0.0),
    };
    // Raw scores are stretched before the logistic function, and averaged in a random forest.
    let mut factor =
        if name == "multiclass" { 1.0 } else { *values.get("sigmoid").unwrap_or(&1.0) };
    if averaged {
        factor /= (trees.len() / per_round).max(1) as f64;
    }
    if factor != 1.0 {
        let all = trees.iter_mut().flat_map(|tree| &mut tree.values);
        all.for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    let trees = trees.into_iter().enumerate().map(|(t, tree)| (t % per_round, tree)).collect();
    let head = FormatHead { columns: Some(columns), names, classes, labels: Vec::new() };
    Ok(Foreign { head, sum, trees })
}

fn read_tree(section: &Section<'_>, tree: usize) -> Result<FileTree, ImportError> {
    section.expect("Tree", "the next tree", |n| n.parse() == Ok(tree))?;
    section.expect("is_linear", "constant leaves", |linear| ["", "0"].contains(&linear))?;
    let bad = |key| ImportError::Key { tree: Some(tree), key };
    let leaves: usize = section.one("num_leaves")?;
    let values: Vec<f64> = section.list("leaf_value", leaves)?;
    let nodes = leaves.checked_sub(1).ok_or(bad("num_leaves"))?;
    let features: Vec<i64> = section.list("split_feature", nodes)?;
    let thresholds: Vec<f64> = section.list("threshold", nodes)?;
    let decisions: Vec<u32> = section.list("decision_type", nodes)?;
    let left: Vec<i64> = section.list("left_child", nodes)?;
    let right: Vec<i64> = section.list("right_child", nodes)?;
    let categories = Categories::read(section)?;
    // Nodes are 0 to `nodes - 1`, leaf `l` stands behind them at `nodes + l`.
    let child = |node, child: i64| {
        let place = if child < 0 { (!child).saturating_add(nodes as i64) } else { child };
        let inside = child < nodes as i64 && place < (nodes + leaves) as i64;
        let fault = super::SplitFault::Child(child);
        inside.then_some(place as usize).ok_or(ImportError::Split { tree, node, fault })
    };
    let mut parts = Vec::with_capacity(nodes + leaves);
    for node in 0..nodes {
        let (decision, threshold) = (decisions[node], thresholds[node]);
        let question = if decision & CATEGORICAL != 0 {
            let set = categories.set(threshold).ok_or(bad("cat_threshold"))?;
            // What is missing is in no set.
            Question::new(Rule::OneOf(set), Missing::Is(false))
        } else {
            Question::new(Rule::AtMost(threshold), missing(decision >> 2 & 3, decision & 2 != 0))
        };
        let (yes, no) = (child(node, left[node])?, child(node, right[node])?);
        parts.push(Part::Split { column: features[node], question, yes, no });
    }
    parts.extend((0..leaves).map(Part::Leaf));
    Ok(FileTree { parts, values: values.iter().map(|value| *value as f32).collect() })
}

/// Bit of a decision that says that it is by categories.
const CATEGORICAL: u32 = 1;

/// What is missing, of the two bits that say so: 0 nothing, 1 zeros too, 2 not-a-number.
pub(super) fn missing(kind: u32, left: bool) -> Missing {
    match kind {
        1 => Missing::AndZero(left),
        2 => Missing::Is(left),
        _ => Missing::Zero,
    }
}

/// The sets of categories of a tree, one behind the other.
struct Categories {
    ends: Vec<usize>,
    words: Vec<u32>,
}

impl Categories {
    fn read(section: &Section<'_>) -> Result<Self, ImportError> {
        let count: usize =
            if section.values.contains_key("num_cat") { section.one("num_cat")? } else { 0 };
        if count == 0 {
            return Ok(Self { ends: Vec::new(), words: Vec::new() });
        }
        let ends: Vec<usize> = section.list("cat_boundaries", count.saturating_add(1))?;
        let words = section.list("cat_threshold", ends.last().copied().unwrap_or(0))?;
        Ok(Self { ends, words })
    }

    /// The categories of the set that a categorical split names instead of a threshold: bit
    /// `c % 32` of word `c / 32` says whether category `c` is in it.
    fn set(&self, number: f64) -> Option<Vec<u32>> {
        let at = (number >= 0.0 && number.fract() == 0.0).then_some(number as usize)?;
        let (start, end) = (*self.ends.get(at)?, *self.ends.get(at + 1)?);
        let words = self.words.get(start..end)?;
        let has = |c: &u32| words[*c as usize / 32] >> (c % 32) & 1 == 1;
        Some((0..u32::try_from(words.len() * 32).ok()?).filter(has).collect())
    }
}
