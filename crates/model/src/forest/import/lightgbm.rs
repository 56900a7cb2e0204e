//! LightGBM's text model: multiclass with softmax, numerical splits.

use super::{ImportError, Part, SplitFault, grow, shape};
use crate::forest::{Forest, Kind, Tree};
use std::collections::HashMap;
use std::str::FromStr;

/// A section of the file: lines `key=value` up to an empty line.
struct Section<'a> {
    tree: Option<usize>,
    values: HashMap<&'a str, &'a str>,
}

impl<'a> Section<'a> {
    fn read(lines: &mut impl Iterator<Item = &'a str>, tree: Option<usize>) -> Self {
        let filled = lines.by_ref().skip_while(|line| line.trim().is_empty());
        let lines = filled.take_while(|line| !line.trim().is_empty());
        let values = lines.map(|line| line.trim().split_once('=').unwrap_or((line.trim(), "")));
        Self { tree, values: values.collect() }
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
pub fn from_lightgbm(bytes: &[u8]) -> Result<Forest, ImportError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ImportError::Text)?;
    let mut lines = text.lines().take_while(|line| line.trim() != "end of trees");
    let head = Section::read(&mut lines, None);
    head.expect("tree", "a LightGBM text model", |_| head.values.contains_key("tree"))?;
    head.expect("version", "v3 or v4", |v| ["v3", "v4"].contains(&v))?;
    head.expect("objective", "multiclass", |o| o.starts_with("multiclass num_class"))?;
    head.expect("average_output", "no averaging", |_| !head.values.contains_key("average_output"))?;
    let classes: usize = head.one("num_class")?;
    head.expect("num_tree_per_iteration", "a tree per class", |n| n.parse() == Ok(classes))?;
    let columns = head.one::<usize>("max_feature_idx")?.saturating_add(1);
    let shape = shape(columns)?;
    let mut trees = Vec::new();
    loop {
        let section = Section::read(&mut lines, Some(trees.len()));
        if section.values.is_empty() {
            break;
        }
        trees.push(read_tree(&section, trees.len(), columns)?);
    }
    // A lone last round that is cut short is found by the forest's own check.
    let base = vec![0.0; classes.min(crate::forest::MAX_CLASSES)];
    Ok(Forest::new(shape, classes, Kind::Boosted { base }, trees)?)
}

fn read_tree(section: &Section<'_>, tree: usize, columns: usize) -> Result<Tree, ImportError> {
    section.expect("Tree", "the next tree", |n| n.parse() == Ok(tree))?;
    section.expect("is_linear", "constant leaves", |linear| ["", "0"].contains(&linear))?;
    let leaves: usize = section.one("num_leaves")?;
    let values: Vec<f64> = section.list("leaf_value", leaves)?;
    let nodes =
        leaves.checked_sub(1).ok_or(ImportError::Key { tree: section.tree, key: "num_leaves" })?;
    let features: Vec<i64> = section.list("split_feature", nodes)?;
    let thresholds: Vec<f64> = section.list("threshold", nodes)?;
    let decisions: Vec<u32> = section.list("decision_type", nodes)?;
    let left: Vec<i64> = section.list("left_child", nodes)?;
    let right: Vec<i64> = section.list("right_child", nodes)?;
    // Nodes are 0 to `nodes - 1`, leaf `l` stands behind them at `nodes + l`.
    let child = |node, child: i64| {
        let place = if child < 0 { nodes as i64 + !child } else { child };
        let inside = child < nodes as i64 && place < (nodes + leaves) as i64;
        let fault = SplitFault::Child(child);
        inside.then_some(place as usize).ok_or(ImportError::Split { tree, node, fault })
    };
    let part = |place: usize| {
        if place >= nodes {
            return Ok(Part::Leaf(place - nodes));
        }
        let fault = fault_of(decisions[place], thresholds[place], features[place], columns);
        if let Some(fault) = fault {
            return Err(ImportError::Split { tree, node: place, fault });
        }
        let (zero, one) = (child(place, left[place])?, child(place, right[place])?);
        Ok(Part::Split { column: features[place] as usize, zero, one })
    };
    grow(tree, 0, nodes + leaves, 1, part, |leaf| values.get(leaf).map(|v| vec![*v as f32]))
}

/// What keeps a split from being a bit test, if anything. The bits of a decision are: 1 categorical,
/// 2 default left, 4 zero is missing, 8 not-a-number is missing. Bits are never missing, so the last
/// and the default do not matter.
fn fault_of(decision: u32, threshold: f64, column: i64, columns: usize) -> Option<SplitFault> {
    if decision & 1 != 0 {
        Some(SplitFault::Categorical)
    } else if decision & 4 != 0 {
        Some(SplitFault::ZeroIsMissing)
    } else if !(0.0..1.0).contains(&threshold) {
        Some(SplitFault::Threshold(threshold))
    } else if usize::try_from(column).is_ok_and(|column| column < columns) {
        None
    } else {
        Some(SplitFault::Column(column))
    }
}
