//! One scikit-learn decision tree, its arrays written as JSON.
//!
//! ```text
//! {"feature": [3, -2, -2], "threshold": [0.5, -2, -2], "left": [1, -1, -1], "right": [2, -1, -1],
//!  "value": [[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]], "columns": 1024, "classes": ["dns", "tls"]}
//! ```
//!
//! These are the arrays of `tree_` (`children_left` is called `left`), with class shares as values.
//! `columns`, `names` and `classes` may be left out.

use super::convert::{FileTree, Part};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError, Sum};
use crate::model_file::FormatHead;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    value: Vec<Vec<f64>>,
    #[serde(default)]
    missing_go_to_left: Vec<u8>,
    columns: Option<usize>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    classes: Vec<String>,
}

/// Reads a decision tree; a row goes left when its value is at most the threshold.
///
/// # Errors
/// When the bytes are not such a tree, or ask for what is not supported; see [`ImportError`].
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let file: File = serde_json::from_slice(bytes)?;
    let len = file.feature.len();
    let missing = file.missing_go_to_left.len();
    let arrays = [
        ("threshold", file.threshold.len()),
        ("left", file.left.len()),
        ("right", file.right.len()),
        ("value", file.value.len()),
        ("missing_go_to_left", if missing == 0 { len } else { missing }),
    ];
    if let Some((key, _)) = arrays.iter().find(|(_, found)| *found != len || len == 0) {
        return Err(ImportError::key(key));
    }
    let part = |place: usize| {
        if file.left[place] < 0 && file.right[place] < 0 {
            return Part::Leaf(place);
        }
        let child = |child: i64| usize::try_from(child).unwrap_or(usize::MAX);
        // Where none is said, what is missing was never seen, and goes right.
        let left = file.missing_go_to_left.get(place).is_some_and(|left| *left != 0);
        Part::Split {
            column: file.feature[place],
            question: Question::new(Rule::AtMost(file.threshold[place]), Missing::Is(left)),
            yes: child(file.left[place]),
            no: child(file.right[place]),
        }
    };
    let classes = file.value[0].len();
    if file.value.iter().any(|values| values.len() != classes) {
        return Err(ImportError::key("value"));
    }
    let values = file.value.iter().flatten().map(|value| *value as f32).collect();
    let tree = FileTree { parts: (0..len).map(part).collect(), values };
    let head =
        FormatHead { columns: file.columns, names: file.names, classes, labels: file.classes };
    Ok(Foreign { head, sum: Sum::Mean, trees: vec![(0, tree)] })
}
