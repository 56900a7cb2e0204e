//! XGBoost's JSON model: `gbtree` with `multi:softprob`, numerical splits.

use super::{ImportError, Part, SplitFault, grow, shape};
use crate::forest::{Forest, Kind, Tree};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    learner: Learner,
}

#[derive(Deserialize)]
struct Learner {
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
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    trees: Vec<FileTree>,
    tree_info: Vec<usize>,
}

#[derive(Deserialize)]
struct FileTree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_conditions: Vec<f64>,
    split_indices: Vec<i64>,
    #[serde(default)]
    split_type: Vec<u8>,
}

/// Reads an XGBoost JSON model.
///
/// # Errors
/// When the bytes are not such a model, or ask for what is not supported; see [`ImportError`].
pub fn from_xgboost(bytes: &[u8]) -> Result<Forest, ImportError> {
    let Learner { gradient_booster, learner_model_param: param, objective } =
        serde_json::from_slice::<File>(bytes)?.learner;
    let unsupported = |key, found: &str, expected| {
        let found = found.to_owned();
        Err(ImportError::Unsupported { tree: None, key, found, expected })
    };
    if gradient_booster.name != "gbtree" {
        return unsupported("gradient_booster", &gradient_booster.name, "gbtree");
    }
    if !["multi:softprob", "multi:softmax"].contains(&objective.name.as_str()) {
        return unsupported("objective", &objective.name, "multi:softprob");
    }
    let bad = |key| ImportError::Key { tree: None, key };
    let classes: usize = param.num_class.parse().map_err(|_| bad("num_class"))?;
    let columns: usize = param.num_feature.parse().map_err(|_| bad("num_feature"))?;
    let base = read_base(&param.base_score, classes).ok_or(bad("base_score"))?;
    let Model { trees, tree_info } = gradient_booster.model;
    let in_turn =
        tree_info.iter().enumerate().all(|(t, class)| Some(*class) == t.checked_rem(classes));
    if !in_turn || tree_info.len() != trees.len() {
        return unsupported("tree_info", "another order", "a tree per class in turn");
    }
    let shape = shape(columns)?;
    let trees = trees.iter().enumerate().map(|(t, tree)| read_tree(t, tree, columns));
    let trees = trees.collect::<Result<_, _>>()?;
    Ok(Forest::new(shape, classes, Kind::Boosted { base }, trees)?)
}

/// Base scores: one for all classes, or a list in brackets.
fn read_base(text: &str, classes: usize) -> Option<Vec<f32>> {
    let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
    let base: Vec<f32> =
        inside.split(',').map(|b| b.trim().parse()).collect::<Result<_, _>>().ok()?;
    match base[..] {
        [one] if classes <= crate::forest::MAX_CLASSES => Some(vec![one; classes]),
        _ => (base.len() == classes).then_some(base),
    }
}

/// Leaves are places without children, whose split condition is their value. A row goes left when
/// its value is less than the condition.
fn read_tree(tree: usize, file: &FileTree, columns: usize) -> Result<Tree, ImportError> {
    let FileTree { left_children, right_children, split_conditions, split_indices, split_type } =
        file;
    let len = left_children.len();
    let arrays = [
        ("right_children", right_children.len()),
        ("split_conditions", split_conditions.len()),
        ("split_indices", split_indices.len()),
    ];
    if let Some((key, _)) = arrays.iter().find(|(_, found)| *found != len || len == 0) {
        return Err(ImportError::Key { tree: Some(tree), key });
    }
    let part = |place: usize| {
        if left_children[place] < 0 {
            return Ok(Part::Leaf(place));
        }
        let refused = |fault| ImportError::Split { tree, node: place, fault };
        let child = |child: i64| {
            let place = usize::try_from(child).ok().filter(|child| *child < len);
            place.ok_or(refused(SplitFault::Child(child)))
        };
        let condition = split_conditions[place];
        if split_type.get(place).is_some_and(|kind| *kind != 0) {
            return Err(refused(SplitFault::Categorical));
        }
        if !(condition > 0.0 && condition <= 1.0) {
            return Err(refused(SplitFault::Threshold(condition)));
        }
        let column = usize::try_from(split_indices[place]).ok().filter(|column| *column < columns);
        let column = column.ok_or(refused(SplitFault::Column(split_indices[place])))?;
        let (zero, one) = (child(left_children[place])?, child(right_children[place])?);
        Ok(Part::Split { column, zero, one })
    };
    let value = |leaf: usize| Some(vec![split_conditions[leaf] as f32]);
    grow(tree, 0, len, 1, part, value)
}
