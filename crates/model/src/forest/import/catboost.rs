//! CatBoost's JSON model: symmetric trees, and others, on numbers.

use super::convert::{FileTree, Part};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError, SplitFault, Sum, zeros};
use crate::forest::Link;
use crate::model_file::FormatHead;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    features_info: Features,
    #[serde(default)]
    oblivious_trees: Vec<Symmetric>,
    #[serde(default)]
    trees: Vec<Place>,
    scale_and_bias: (f64, Vec<f64>),
    model_info: Value,
}

#[derive(Deserialize)]
struct Features {
    #[serde(default)]
    float_features: Vec<Feature>,
    #[serde(default)]
    categorical_features: Vec<Value>,
}

#[derive(Deserialize)]
struct Feature {
    flat_feature_index: i64,
    #[serde(default)]
    feature_id: Option<String>,
    #[serde(default)]
    nan_value_treatment: String,
}

#[derive(Deserialize)]
struct Split {
    #[serde(default)]
    split_type: String,
    border: Option<f64>,
    float_feature_index: Option<usize>,
}

/// All places of a level ask the same: the answers are the bits of the leaf's number.
#[derive(Deserialize)]
struct Symmetric {
    leaf_values: Vec<f64>,
    splits: Option<Vec<Split>>,
}

/// A split with two places below it, or the values of a leaf.
#[derive(Deserialize)]
struct Place {
    split: Option<Split>,
    left: Option<Box<Place>>,
    right: Option<Box<Place>>,
    value: Option<Values>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(f64),
    Many(Vec<f64>),
}

/// Deepest symmetric tree.
const MOST_DEPTH: usize = 20;

/// Reads a CatBoost JSON model.
///
/// # Errors
/// When the bytes are not such a model, or ask for what is not supported; see [`ImportError`].
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let file: File = serde_json::from_slice(bytes)?;
    if !file.features_info.categorical_features.is_empty() {
        let found = format!("{} of them", file.features_info.categorical_features.len());
        return Err(ImportError::unsupported("categorical_features", &found, "none"));
    }
    let (scale, bias) = (&file.scale_and_bias.0, &file.scale_and_bias.1);
    let loss = file.model_info.pointer("/params/loss_function/type").and_then(Value::as_str);
    let loss = loss.unwrap_or_default();
    let outputs = match loss {
        "Logloss" | "CrossEntropy" => 1,
        "MultiClass" | "MultiClassOneVsAll" => bias.len(),
        other => {
            const KNOWN: &str = "Logloss, CrossEntropy, MultiClass or MultiClassOneVsAll";
            return Err(ImportError::unsupported("loss_function", other, KNOWN));
        }
    };
    if bias.len() != outputs {
        return Err(ImportError::key("scale_and_bias"));
    }
    let mut base = zeros(outputs)?;
    base.iter_mut().zip(bias).for_each(|(base, bias)| *base = *bias as f32);
    let sum = match loss {
        "MultiClass" => Sum::Classes { base, link: Link::Softmax },
        "MultiClassOneVsAll" => Sum::Classes { base, link: Link::Logistic },
        _ => Sum::Binary(base[0]),
    };
    let mut trees = Vec::new();
    let info = &file.features_info;
    for tree in &file.oblivious_trees {
        let whole = symmetric(trees.len() / outputs, tree, info, outputs)?;
        trees.extend(by_output(&whole, outputs, *scale));
    }
    for tree in &file.trees {
        let mut whole = FileTree::default();
        read_place(trees.len() / outputs, tree, info, outputs, &mut whole)?;
        trees.extend(by_output(&whole, outputs, *scale));
    }
    let classes = outputs.max(2);
    let head =
        FormatHead { columns: columns(info)?, names: names(info), classes, labels: labels(&file) };
    Ok(Foreign { head, sum, trees })
}

/// Columns of the table that the model was trained on, as far as it knows of them.
fn columns(info: &Features) -> Result<Option<usize>, ImportError> {
    let last = info.float_features.iter().map(|feature| feature.flat_feature_index).max();
    let last = last.map_or(Ok(0), |last| usize::try_from(last).map(|last| last.saturating_add(1)));
    last.map(Some).map_err(|_| ImportError::key("flat_feature_index"))
}

/// The columns' names, if all of them have one.
fn names(info: &Features) -> Vec<String> {
    let named = info.float_features.iter().enumerate();
    let name = |(at, feature): (usize, &Feature)| {
        let name = feature.feature_id.clone().filter(|name| !name.is_empty());
        name.filter(|_| feature.flat_feature_index == at as i64)
    };
    let names: Option<Vec<String>> = named.map(name).collect();
    // Where columns have no names, their numbers stand there.
    let is_number =
        |names: &Vec<String>| names.iter().enumerate().all(|(n, own)| *own == n.to_string());
    names.filter(|names| !is_number(names)).unwrap_or_default()
}

fn labels(file: &File) -> Vec<String> {
    let params = file.model_info.get("class_params");
    let list = |key| params?.get(key)?.as_array().filter(|list| !list.is_empty());
    let names = list("class_names").or_else(|| list("class_to_label"));
    let text = |name: &Value| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
    names.map(|names| names.iter().map(text).collect()).unwrap_or_default()
}

/// A tree for each output, with the leaves' values of that output.
fn by_output(whole: &FileTree, outputs: usize, scale: f64) -> Vec<(usize, FileTree)> {
    let own = |output: usize| {
        let values = whole.values.iter().skip(output).step_by(outputs);
        let values = values.map(|value| (f64::from(*value) * scale) as f32).collect();
        (output, FileTree { parts: whole.parts.clone(), values })
    };
    (0..outputs).map(own).collect()
}

/// The column that a split asks, and what it asks; no is where its bit is 1.
fn question(
    tree: usize,
    node: usize,
    split: &Split,
    info: &Features,
) -> Result<(i64, Question), ImportError> {
    let fault = |fault| ImportError::Split { tree, node, fault };
    if !["", "FloatFeature"].contains(&split.split_type.as_str()) {
        return Err(fault(SplitFault::Categorical));
    }
    let bad = |key| ImportError::Key { tree: Some(tree), key };
    let border = split.border.ok_or(bad("border"))? as f32;
    let index = split.float_feature_index.ok_or(bad("float_feature_index"))?;
    let feature = info.float_features.get(index);
    let feature = feature.ok_or(fault(SplitFault::Column(index as i64)))?;
    let above = feature.nan_value_treatment == "AsTrue";
    let question = Question::new(Rule::AtMost(f64::from(border)), Missing::Is(!above));
    Ok((feature.flat_feature_index, question))
}

fn symmetric(
    number: usize,
    tree: &Symmetric,
    info: &Features,
    outputs: usize,
) -> Result<FileTree, ImportError> {
    let bad = |key| ImportError::Key { tree: Some(number), key };
    let splits = tree.splits.as_deref().unwrap_or_default();
    let depth = splits.len();
    if depth > MOST_DEPTH || tree.leaf_values.len() != outputs << depth {
        return Err(bad("leaf_values"));
    }
    let inner = (1 << depth) - 1;
    let mut parts = Vec::with_capacity(2 * inner + 1);
    // The places of a level follow each other; the last split is the highest bit of the leaf's
    // number.
    for place in 0..inner {
        let level = (place + 1_usize).ilog2() as usize;
        let (column, question) = question(number, place, &splits[depth - 1 - level], info)?;
        let (yes, no) = (2 * place + 1, 2 * place + 2);
        parts.push(Part::Split { column, question, yes, no });
    }
    parts.extend((0..=inner).map(Part::Leaf));
    let values = tree.leaf_values.iter().map(|value| *value as f32).collect();
    Ok(FileTree { parts, values })
}

/// Adds a place and all below it; where it stands.
fn read_place(
    number: usize,
    place: &Place,
    info: &Features,
    outputs: usize,
    tree: &mut FileTree,
) -> Result<usize, ImportError> {
    let bad = |key| ImportError::Key { tree: Some(number), key };
    let at = tree.parts.len();
    let Some(split) = &place.split else {
        tree.parts.push(Part::Leaf(tree.values.len() / outputs));
        let values = match &place.value {
            Some(Values::One(value)) => std::slice::from_ref(value),
            Some(Values::Many(values)) => values,
            None => return Err(bad("value")),
        };
        if values.len() != outputs {
            return Err(bad("value"));
        }
        tree.values.extend(values.iter().map(|value| *value as f32));
        return Ok(at);
    };
    let (column, question) = question(number, at, split, info)?;
    // The place is filled in once it is known where its children stand.
    tree.parts.push(Part::Leaf(0));
    let child = |child: &Option<Box<Place>>, key, tree: &mut FileTree| {
        read_place(number, child.as_deref().ok_or(bad(key))?, info, outputs, tree)
    };
    let yes = child(&place.left, "left", tree)?;
    let no = child(&place.right, "right", tree)?;
    tree.parts[at] = Part::Split { column, question, yes, no };
    Ok(at)
}
