//! XGBoost's JSON model, and the same in UBJSON: `gbtree` and `dart`.
//!
//! Of a model that was stopped early, the trees up to its best iteration count, as `XGBClassifier`
//! has it.

use super::convert::{FileTree, Part};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError, SplitFault, Sum, ubjson};
use crate::forest::{ForestError, Link, MAX_CLASSES};
use crate::model_file::FormatHead;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct File {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    feature_names: Vec<String>,
    gradient_booster: Booster,
    learner_model_param: Param,
    objective: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Param {
    base_score: String,
    num_class: String,
    num_feature: String,
    #[serde(default)]
    num_target: Option<String>,
}

/// `gbtree` has a model; `dart` has a `gbtree` and a weight for each tree.
#[derive(Deserialize)]
struct Booster {
    name: String,
    model: Option<Model>,
    gbtree: Option<Box<Booster>>,
    #[serde(default)]
    weight_drop: Vec<f64>,
}

#[derive(Deserialize)]
struct Model {
    trees: Vec<FileTrees>,
    tree_info: Vec<usize>,
    #[serde(default)]
    iteration_indptr: Vec<usize>,
}

#[derive(Deserialize)]
struct FileTrees {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_conditions: Vec<f64>,
    split_indices: Vec<i64>,
    #[serde(default)]
    tree_param: TreeParam,
    #[serde(default)]
    default_left: Vec<u8>,
    #[serde(default)]
    split_type: Vec<u8>,
}

#[derive(Default, Deserialize)]
struct TreeParam {
    #[serde(default)]
    size_leaf_vector: String,
}

/// Reads an XGBoost JSON model.
///
/// # Errors
/// When the bytes are not such a model, or ask for what is not supported; see [`ImportError`].
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    foreign(serde_json::from_slice(bytes)?)
}

/// Reads an XGBoost UBJSON model.
///
/// # Errors
/// As [`read`].
pub fn read_ubjson(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let value = ubjson::value(bytes).map_err(ImportError::Format)?;
    foreign(serde_json::from_value(value)?)
}

fn foreign(file: File) -> Result<Foreign, ImportError> {
    let Learner { gradient_booster, learner_model_param: param, objective, .. } = &file.learner;
    let (booster, weights) = match (gradient_booster.name.as_str(), &gradient_booster.gbtree) {
        ("gbtree", _) => (gradient_booster, &[][..]),
        ("dart", Some(inner)) => (&**inner, &gradient_booster.weight_drop[..]),
        (name, _) => {
            return Err(ImportError::unsupported("gradient_booster", name, "gbtree or dart"));
        }
    };
    let model = booster.model.as_ref().ok_or(ImportError::key("gradient_booster.model"))?;
    let number = |text: &str, key| text.parse::<usize>().map_err(|_| ImportError::key(key));
    let named = number(&param.num_class, "num_class")?;
    let columns = number(&param.num_feature, "num_feature")?;
    if param.num_target.as_deref().is_some_and(|targets| !["0", "1"].contains(&targets)) {
        return Err(ImportError::key("num_target"));
    }
    let (classes, outputs) = match objective.name.as_str() {
        "multi:softprob" | "multi:softmax" => (named, named),
        "binary:logistic" | "reg:logistic" => (2, 1),
        other => {
            const KNOWN: &str = "binary:logistic, reg:logistic, multi:softprob or multi:softmax";
            return Err(ImportError::unsupported("objective", other, KNOWN));
        }
    };
    if classes == 0 || classes > MAX_CLASSES {
        return Err(ForestError::Classes { found: classes }.into());
    }
    let base = read_base(&param.base_score, outputs).ok_or(ImportError::key("base_score"))?;
    let sum = match base[..] {
        [share] if outputs == 1 => Sum::Binary(-(1.0 / share - 1.0).ln() as f32),
        _ => {
            let base = base.iter().map(|b| *b as f32).collect();
            Sum::Classes { base, link: Link::Softmax }
        }
    };
    let trees = read_trees(&file.learner, model, weights, outputs)?;
    let names = file.learner.feature_names;
    if !names.is_empty() && names.len() != columns {
        return Err(ImportError::key("feature_names"));
    }
    let head = FormatHead { columns: Some(columns), names, classes, labels: Vec::new() };
    Ok(Foreign { head, sum, trees })
}

/// Base scores: one for all outputs, or a list in brackets.
fn read_base(text: &str, outputs: usize) -> Option<Vec<f64>> {
    let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
    let base: Vec<f64> =
        inside.split(',').map(|b| b.trim().parse()).collect::<Result<_, _>>().ok()?;
    match base[..] {
        [one] => Some(vec![one; outputs]),
        _ => (base.len() == outputs).then_some(base),
    }
}

fn read_trees(
    learner: &Learner,
    model: &Model,
    weights: &[f64],
    outputs: usize,
) -> Result<Vec<(usize, FileTree)>, ImportError> {
    let Model { trees, tree_info, iteration_indptr } = model;
    let wrong = tree_info.iter().any(|class| *class >= outputs);
    if wrong || tree_info.len() != trees.len() {
        return Err(ImportError::key("tree_info"));
    }
    if !weights.is_empty() && weights.len() != trees.len() {
        return Err(ImportError::key("weight_drop"));
    }
    let best = learner.attributes.get("best_iteration");
    let best = best.map(|text| text.parse::<usize>()).transpose();
    let best = best.map_err(|_| ImportError::key("best_iteration"))?;
    // Without the list of iterations, each has a tree per output.
    let end = |best: usize| {
        let listed = iteration_indptr.get(best.saturating_add(1)).copied();
        listed.unwrap_or(best.saturating_add(1).saturating_mul(outputs)).min(trees.len())
    };
    let kept = best.map_or(trees.len(), end);
    let read = |(t, tree)| {
        let weight = weights.get(t).copied().unwrap_or(1.0);
        Ok((tree_info[t], read_tree(t, tree, weight)?))
    };
    trees[..kept].iter().enumerate().map(read).collect()
}

/// Leaves are places without children, whose split condition is their value. A row goes left when
/// its value is less than the condition.
fn read_tree(tree: usize, file: &FileTrees, weight: f64) -> Result<FileTree, ImportError> {
    let width = file.tree_param.size_leaf_vector.as_str();
    if !["", "0", "1"].contains(&width) {
        let (key, found, expected) =
            ("size_leaf_vector", width.to_owned(), "a value for each leaf");
        return Err(ImportError::Unsupported { tree: Some(tree), key, found, expected });
    }
    let len = file.left_children.len();
    let or_len = |found: usize| if found == 0 { len } else { found };
    let arrays = [
        ("right_children", file.right_children.len()),
        ("split_conditions", file.split_conditions.len()),
        ("split_indices", file.split_indices.len()),
        ("default_left", or_len(file.default_left.len())),
        ("split_type", or_len(file.split_type.len())),
    ];
    if let Some((key, _)) = arrays.iter().find(|(_, found)| *found != len || len == 0) {
        return Err(ImportError::Key { tree: Some(tree), key });
    }
    let mut read = FileTree::default();
    for place in 0..len {
        let condition = file.split_conditions[place] as f32;
        if file.left_children[place] < 0 {
            read.parts.push(Part::Leaf(read.values.len()));
            read.values.push((f64::from(condition) * weight) as f32);
            continue;
        }
        if file.split_type.get(place).is_some_and(|kind| *kind != 0) {
            let fault = SplitFault::Categorical;
            return Err(ImportError::Split { tree, node: place, fault });
        }
        let child = |child: i64| usize::try_from(child).unwrap_or(usize::MAX);
        let left = file.default_left.get(place).is_some_and(|left| *left != 0);
        read.parts.push(Part::Split {
            column: file.split_indices[place],
            question: Question::new(Rule::Less(f64::from(condition)), Missing::Is(left)),
            yes: child(file.left_children[place]),
            no: child(file.right_children[place]),
        });
    }
    Ok(read)
}
