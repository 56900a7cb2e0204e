//! One scikit-learn decision tree, its arrays written as JSON.
//!
//! ```text
//! {"feature": [3, -2, -2], "threshold": [0.5, -2, -2], "left": [1, -1, -1], "right": [2, -1, -1],
//!  "value": [[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]], "columns": 1024}
//! ```
//!
//! These are the arrays of `tree_` (`children_left` is called `left`), with class shares as values.
//! Without `columns`, rows end with the word of the last column that is asked.

use super::{ImportError, Part, SplitFault, grow, shape};
use crate::forest::{Forest, Kind};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    value: Vec<Vec<f64>>,
    columns: Option<usize>,
}

/// Reads a decision tree; a row goes left when its value is at most the threshold.
///
/// # Errors
/// When the bytes are not such a tree, or ask for what is not supported; see [`ImportError`].
pub fn from_sklearn(bytes: &[u8]) -> Result<Forest, ImportError> {
    let File { feature, threshold, left, right, value, columns } = serde_json::from_slice(bytes)?;
    let len = feature.len();
    let arrays = [
        ("threshold", threshold.len()),
        ("left", left.len()),
        ("right", right.len()),
        ("value", value.len()),
    ];
    if let Some((key, _)) = arrays.iter().find(|(_, found)| *found != len || len == 0) {
        return Err(ImportError::Key { tree: None, key });
    }
    let asked = feature.iter().filter_map(|column| usize::try_from(*column).ok()).max();
    let columns = columns.unwrap_or_else(|| asked.map_or(1, |last| last.saturating_add(1)));
    let classes = value[0].len();
    let part = |place: usize| {
        if left[place] < 0 && right[place] < 0 {
            return Ok(Part::Leaf(place));
        }
        let refused = |fault| ImportError::Split { tree: 0, node: place, fault };
        let child = |child: i64| {
            let place = usize::try_from(child).ok().filter(|child| *child < len);
            place.ok_or(refused(SplitFault::Child(child)))
        };
        if !(0.0..1.0).contains(&threshold[place]) {
            return Err(refused(SplitFault::Threshold(threshold[place])));
        }
        let column = usize::try_from(feature[place]).ok().filter(|column| *column < columns);
        let column = column.ok_or(refused(SplitFault::Column(feature[place])))?;
        Ok(Part::Split { column, zero: child(left[place])?, one: child(right[place])? })
    };
    let values = |leaf: usize| Some(value[leaf].iter().map(|v| *v as f32).collect());
    let shape = shape(columns)?;
    let tree = grow(0, 0, len, classes.max(1), part, values)?;
    Ok(Forest::new(shape, classes, Kind::Averaged, vec![tree])?)
}
