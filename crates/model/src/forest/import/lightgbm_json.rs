//! LightGBM's JSON dump (`Booster.dump_model`).

use super::convert::{FileTree, Part};
use super::lightgbm::{Names, finish, missing, no_pandas};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    objective: String,
    num_tree_per_iteration: usize,
    max_feature_idx: usize,
    #[serde(default)]
    average_output: bool,
    #[serde(default)]
    feature_names: Vec<String>,
    tree_info: Vec<TreeInfo>,
    #[serde(default)]
    pandas_categorical: serde_json::Value,
}

#[derive(Deserialize)]
struct TreeInfo {
    tree_structure: Place,
}

/// A split or a leaf; what belongs to the other is missing.
#[derive(Deserialize)]
struct Place {
    split_feature: Option<i64>,
    threshold: Option<Threshold>,
    #[serde(default)]
    decision_type: String,
    #[serde(default)]
    default_left: bool,
    #[serde(default)]
    missing_type: String,
    left_child: Option<Box<Place>>,
    right_child: Option<Box<Place>>,
    leaf_value: Option<f64>,
    leaf_coeff: Option<Vec<f64>>,
}

/// A number, or the categories that go left with bars between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Threshold {
    Number(f64),
    Categories(String),
}

/// Reads a JSON dump.
///
/// # Errors
/// When the bytes are not such a dump, or ask for what is not supported; see [`ImportError`]. Trees
/// deeper than some sixty levels are more than the JSON reader nests.
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let file: File = serde_json::from_slice(bytes)?;
    no_pandas(&file.pandas_categorical.to_string())?;
    let columns = file.max_feature_idx.saturating_add(1);
    if !file.feature_names.is_empty() && file.feature_names.len() != columns {
        return Err(ImportError::key("feature_names"));
    }
    let mut trees = Vec::with_capacity(file.tree_info.len());
    for (number, info) in file.tree_info.iter().enumerate() {
        let mut tree = FileTree::default();
        read_place(number, &info.tree_structure, &mut tree)?;
        trees.push(tree);
    }
    let names = Names { columns, names: file.feature_names };
    finish(&file.objective, file.num_tree_per_iteration, file.average_output, trees, names)
}

/// Adds a place and all below it; where it stands.
fn read_place(number: usize, place: &Place, tree: &mut FileTree) -> Result<usize, ImportError> {
    let bad = |key| ImportError::Key { tree: Some(number), key };
    let at = tree.parts.len();
    let Some(column) = place.split_feature else {
        if place.leaf_coeff.is_some() {
            let (found, expected) = ("linear leaves".to_owned(), "constant leaves");
            let tree = Some(number);
            return Err(ImportError::Unsupported { tree, key: "leaf_coeff", found, expected });
        }
        tree.parts.push(Part::Leaf(tree.values.len()));
        tree.values.push(place.leaf_value.ok_or(bad("leaf_value"))? as f32);
        return Ok(at);
    };
    let question = match (place.decision_type.as_str(), &place.threshold) {
        ("<=", Some(Threshold::Number(threshold))) => {
            let kind = match place.missing_type.as_str() {
                "Zero" => 1,
                "NaN" => 2,
                "None" | "" => 0,
                _ => return Err(bad("missing_type")),
            };
            Question::new(Rule::AtMost(*threshold), missing(kind, place.default_left))
        }
        ("==", Some(Threshold::Categories(text))) => {
            Question::new(Rule::OneOf(set(text).ok_or(bad("threshold"))?), Missing::Is(false))
        }
        _ => return Err(bad("decision_type")),
    };
    // The place is filled in once it is known where its children stand.
    tree.parts.push(Part::Leaf(0));
    let child = |child: &Option<Box<Place>>, key, tree: &mut FileTree| {
        read_place(number, child.as_deref().ok_or(bad(key))?, tree)
    };
    let yes = child(&place.left_child, "left_child", tree)?;
    let no = child(&place.right_child, "right_child", tree)?;
    tree.parts[at] = Part::Split { column, question, yes, no };
    Ok(at)
}

/// The set of the categories that a text lists.
fn set(text: &str) -> Option<Vec<u32>> {
    let mut set = text.split("||").map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
    set.sort_unstable();
    Some(set)
}
