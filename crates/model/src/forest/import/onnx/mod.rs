//! Tree ensembles in ONNX files (`TreeEnsembleClassifier` and `TreeEnsembleRegressor` of
//! `ai.onnx.ml`), as skl2onnx and onnxmltools write them.
//!
//! Around the ensemble there may be nodes that change no probability, and one that makes
//! probabilities of a regressor's sums.

mod proto;

use super::convert::{FileTree, Part};
use super::rule::{Missing, Question, Rule};
use super::{Foreign, ImportError, SplitFault, Sum, zeros};
use crate::forest::Link;
use crate::model_file::FormatHead;
use prost::Message;
use proto::{Attribute, Graph, Model, Node};
use std::collections::HashMap;

const DOMAIN: &str = "ai.onnx.ml";
const CLASSIFIER: &str = "TreeEnsembleClassifier";
const REGRESSOR: &str = "TreeEnsembleRegressor";
/// Nodes that change no probability.
const NEUTRAL: &[&str] =
    &["Cast", "Identity", "ZipMap", "Reshape", "Flatten", "ArrayFeatureExtractor", "ArgMax"];
/// Copies of its places that a file may need, on average: one for each class that a tree has values
/// of.
const MOST_COPIES: usize = 64;

/// Whether bytes are an ONNX file with a tree ensemble.
#[must_use]
pub fn is_forest(bytes: &[u8]) -> bool {
    let is_ensemble = |node: &Node| node.op_type.starts_with("TreeEnsemble");
    Model::decode(bytes).is_ok_and(|m| m.graph.is_some_and(|g| g.node.iter().any(is_ensemble)))
}

/// Reads a tree ensemble.
///
/// # Errors
/// When the bytes are not such a file, or ask for what is not supported; see [`ImportError`].
pub fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let model = Model::decode(bytes).map_err(|error| ImportError::Format(error.to_string()))?;
    let graph = model.graph.ok_or(ImportError::key("graph"))?;
    let is_known =
        |node: &&Node| node.domain == DOMAIN && [CLASSIFIER, REGRESSOR].contains(&&*node.op_type);
    let ensembles: Vec<&Node> = graph.node.iter().filter(is_known).collect();
    let [node] = ensembles[..] else {
        let found = format!("{} of them", ensembles.len());
        return Err(ImportError::unsupported("ensembles", &found, "a single tree ensemble"));
    };
    let after = link_after(&graph, node)?;
    let ensemble = Ensemble::read(node)?;
    let columns = columns(&graph);
    let foreign = if node.op_type == CLASSIFIER {
        classifier(&ensemble, columns)?
    } else {
        regressor(&ensemble, after, columns)?
    };
    if after.is_some() && node.op_type == CLASSIFIER {
        return Err(ImportError::unsupported(
            "node",
            "Softmax or Sigmoid",
            "none behind a classifier",
        ));
    }
    Ok(foreign)
}

/// The last dimension of the only input, where it is fixed.
fn columns(graph: &Graph) -> Option<usize> {
    let [input] = &graph.input[..] else { return None };
    let shape = input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let last = shape.dim.last()?.dim_value;
    usize::try_from(last).ok().filter(|last| *last > 0)
}

/// Whether a constant holds ones alone.
fn is_one(graph: &Graph, name: &str) -> bool {
    let constant = graph.initializer.iter().find(|constant| constant.name == name);
    let numbers = constant.and_then(proto::Tensor::numbers);
    numbers.is_some_and(|numbers| !numbers.is_empty() && numbers.iter().all(|n| *n == 1.0))
}

/// What other nodes make of the sums, if they make anything of them.
fn link_after(graph: &Graph, ensemble: &Node) -> Result<Option<Link>, ImportError> {
    let mut link = None;
    for node in graph.node.iter().filter(|node| !std::ptr::eq(*node, ensemble)) {
        match node.op_type.as_str() {
            "Softmax" if link.is_none() => link = Some(Link::Softmax),
            "Sigmoid" if link.is_none() => link = Some(Link::Logistic),
            name if NEUTRAL.contains(&name) => {}
            // Some converters end in a product with one.
            "Mul" if node.input.iter().any(|input| is_one(graph, input)) => {}
            name => {
                const EXPECTED: &str = "nodes around the trees that change no probability";
                return Err(ImportError::unsupported("node", name, EXPECTED));
            }
        }
    }
    Ok(link)
}

/// An ensemble: trees as the file has them, and values of their leaves.
struct Ensemble {
    trees: Vec<FileTree>,
    /// Values by tree, leaf, and class or target, as they are listed.
    values: Vec<(usize, usize, usize, f64)>,
    outputs: usize,
    labels: Vec<String>,
    base: Vec<f64>,
    transform: String,
    averaged: bool,
}

/// The attributes of a node, by name.
struct Attributes<'a>(HashMap<&'a str, &'a Attribute>);

impl<'a> Attributes<'a> {
    fn ints(&self, key: &str) -> &'a [i64] {
        self.0.get(key).map_or(&[], |attribute| &attribute.ints)
    }

    fn text(&self, key: &str) -> String {
        let text = self.0.get(key).map(|attribute| String::from_utf8_lossy(&attribute.s));
        text.map(|text| text.into_owned()).unwrap_or_default()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let list = self.0.get(key).map_or(&[][..], |attribute| &attribute.strings);
        list.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// Numbers, which may also stand in a tensor.
    fn numbers(&self, key: &str, tensor: &'static str) -> Result<Vec<f64>, ImportError> {
        if let Some(tensor_of) = self.0.get(tensor).and_then(|attribute| attribute.t.as_ref()) {
            return tensor_of.numbers().ok_or(ImportError::key(tensor));
        }
        let floats = self.0.get(key).map_or(&[][..], |attribute| &attribute.floats);
        Ok(floats.iter().map(|f| f64::from(*f)).collect())
    }
}

impl Ensemble {
    fn read(node: &Node) -> Result<Self, ImportError> {
        let all = node.attribute.iter().map(|attribute| (attribute.name.as_str(), attribute));
        let all = Attributes(all.collect());
        let (mut trees, places) = read_trees(&all)?;
        let own = if node.op_type == CLASSIFIER { CLASS_KEYS } else { TARGET_KEYS };
        let ids = own.map(|key| all.ints(key));
        let weights = if node.op_type == CLASSIFIER {
            all.numbers("class_weights", "class_weights_as_tensor")?
        } else {
            all.numbers("target_weights", "target_weights_as_tensor")?
        };
        if let Some(at) = ids.iter().position(|ids| ids.len() != weights.len()) {
            return Err(ImportError::key(own[at]));
        }
        let mut values = Vec::with_capacity(weights.len());
        for (at, weight) in weights.iter().enumerate() {
            let place = places.get(&(ids[0][at], ids[1][at]));
            let (tree, place) = *place.ok_or(ImportError::key(own[1]))?;
            let Part::Leaf(leaf) = trees[tree].parts[place] else {
                return Err(ImportError::key(own[1]));
            };
            let output = usize::try_from(ids[2][at]).map_err(|_| ImportError::key(own[2]))?;
            values.push((tree, leaf, output, *weight));
        }
        trees.iter_mut().for_each(|tree| tree.values.clear());
        let mut labels = all.texts("classlabels_strings");
        if labels.is_empty() {
            labels = all.ints("classlabels_int64s").iter().map(i64::to_string).collect();
        }
        let targets = all.0.get("n_targets").map_or(1, |attribute| attribute.i);
        let outputs = match node.op_type.as_str() {
            CLASSIFIER => labels.len(),
            _ => usize::try_from(targets).map_err(|_| ImportError::key("n_targets"))?,
        };
        zeros(outputs)?;
        let base = all.numbers("base_values", "base_values_as_tensor")?;
        let transform = all.text("post_transform");
        let aggregate = all.text("aggregate_function");
        if !["", "SUM", "AVERAGE"].contains(&aggregate.as_str()) {
            return Err(ImportError::unsupported(
                "aggregate_function",
                &aggregate,
                "SUM or AVERAGE",
            ));
        }
        let averaged = aggregate == "AVERAGE";
        Ok(Self { trees, values, outputs, labels, base, transform, averaged })
    }

    /// What a listed weight counts for.
    fn factor(&self) -> f64 {
        if self.averaged { 1.0 / self.trees.len().max(1) as f64 } else { 1.0 }
    }

    /// A tree for each output that a tree has values of.
    fn by_output(&self) -> Result<Vec<(usize, FileTree)>, ImportError> {
        let places: usize = self.trees.iter().map(|tree| tree.parts.len()).sum();
        let mut left = (places + self.values.len()).saturating_mul(MOST_COPIES);
        let mut own: HashMap<(usize, usize), Vec<(usize, f64)>> = HashMap::new();
        for &(tree, leaf, output, weight) in &self.values {
            own.entry((tree, output)).or_default().push((leaf, weight));
        }
        let mut keys: Vec<(usize, usize)> = own.keys().copied().collect();
        keys.sort_unstable();
        let mut trees = Vec::with_capacity(keys.len());
        for (tree, output) in keys {
            let parts = self.trees[tree].parts.clone();
            left = left.checked_sub(parts.len()).ok_or(ImportError::Split {
                tree,
                node: 0,
                fault: SplitFault::TooMany,
            })?;
            let mut values = vec![0.0; parts.len()];
            for &(leaf, weight) in &own[&(tree, output)] {
                values[leaf] += (weight * self.factor()) as f32;
            }
            trees.push((output, FileTree { parts, values }));
        }
        Ok(trees)
    }

    /// Trees with a value for each of so many classes in each leaf, whose mean is the sum of what
    /// is listed.
    fn whole(&self, classes: usize) -> Result<Vec<(usize, FileTree)>, ImportError> {
        if self.base.iter().any(|base| *base != 0.0) {
            return Err(ImportError::unsupported(
                "base_values",
                "others",
                "zeros without a transform",
            ));
        }
        let count = self.trees.len() as f64 * self.factor();
        let mut trees = self.trees.clone();
        let cells: usize = trees.iter().map(|tree| tree.parts.len()).sum();
        let most = (cells + self.values.len()).saturating_mul(MOST_COPIES);
        if cells.saturating_mul(classes) > most.saturating_mul(MOST_COPIES) {
            let fault = SplitFault::TooMany;
            return Err(ImportError::Split { tree: 0, node: 0, fault });
        }
        let lone = self.outputs != classes || self.is_binary_by_one();
        for tree in &mut trees {
            tree.values = vec![0.0; tree.parts.len() * classes];
            if lone {
                tree.values.iter_mut().step_by(classes).for_each(|first| *first = 1.0);
            }
        }
        for &(tree, leaf, output, weight) in &self.values {
            let weight = (weight * count) as f32;
            let values = &mut trees[tree].values[leaf * classes..(leaf + 1) * classes];
            if lone {
                values[1] += weight;
                values[0] -= weight;
            } else {
                *values.get_mut(output).ok_or(ImportError::key("class_ids"))? += weight;
            }
        }
        Ok(trees.into_iter().map(|tree| (0, tree)).collect())
    }

    /// Whether there are two classes and values of one alone, which are those of the second.
    fn is_binary_by_one(&self) -> bool {
        let first = self.values.first().map(|value| value.2);
        self.outputs == 2 && self.values.iter().all(|value| Some(value.2) == first)
    }

    fn base(&self, outputs: usize) -> Result<Vec<f32>, ImportError> {
        match self.base.len() {
            0 => Ok(vec![0.0; outputs]),
            found if found == outputs => Ok(self.base.iter().map(|base| *base as f32).collect()),
            _ => Err(ImportError::key("base_values")),
        }
    }
}

/// Trees, nodes, and outputs that weights belong to.
const CLASS_KEYS: [&str; 3] = ["class_treeids", "class_nodeids", "class_ids"];
const TARGET_KEYS: [&str; 3] = ["target_treeids", "target_nodeids", "target_ids"];

/// The trees, and where each place of each stands. A leaf's number is its place.
type Places = HashMap<(i64, i64), (usize, usize)>;

fn read_trees(all: &Attributes<'_>) -> Result<(Vec<FileTree>, Places), ImportError> {
    let tree_ids = all.ints("nodes_treeids");
    let len = tree_ids.len();
    let lists = ["nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"];
    let [nodes, columns, yes, no] = lists.map(|key| all.ints(key));
    for (key, list) in lists.iter().zip([nodes, columns, yes, no]) {
        if list.len() != len {
            return Err(ImportError::key(key));
        }
    }
    let tracks = all.ints("nodes_missing_value_tracks_true");
    let modes = all.texts("nodes_modes");
    let values = all.numbers("nodes_values", "nodes_values_as_tensor")?;
    if modes.len() != len || values.len() != len || !(tracks.is_empty() || tracks.len() == len) {
        return Err(ImportError::key("nodes_modes"));
    }
    let mut numbers: HashMap<i64, usize> = HashMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut places = Places::with_capacity(len);
    for at in 0..len {
        let tree = *numbers.entry(tree_ids[at]).or_insert(sizes.len());
        sizes.resize(sizes.len().max(tree + 1), 0);
        if places.insert((tree_ids[at], nodes[at]), (tree, sizes[tree])).is_some() {
            return Err(ImportError::key("nodes_nodeids"));
        }
        sizes[tree] += 1;
    }
    let mut trees = vec![FileTree::default(); sizes.len()];
    for at in 0..len {
        let (tree, place) = places[&(tree_ids[at], nodes[at])];
        let child = |id: i64| places.get(&(tree_ids[at], id)).map_or(usize::MAX, |place| place.1);
        let missing = tracks.get(at).is_some_and(|tracks| *tracks != 0);
        let (column, value) = (columns[at], values[at]);
        let (so, not) = (child(yes[at]), child(no[at]));
        // `GT` is no where `LEQ` is yes, and so on; what is missing follows the branch that is
        // written.
        let split = |rule, turned: bool| {
            let question = Question::new(rule, Missing::Is(missing != turned));
            let (yes, no) = if turned { (not, so) } else { (so, not) };
            Part::Split { column, question, yes, no }
        };
        let part = match modes[at].as_str() {
            "LEAF" => Part::Leaf(place),
            "BRANCH_LEQ" => split(Rule::AtMost(value), false),
            "BRANCH_LT" => split(Rule::Less(value), false),
            "BRANCH_GTE" => split(Rule::Less(value), true),
            "BRANCH_GT" => split(Rule::AtMost(value), true),
            "BRANCH_EQ" => split(Rule::Equal(value), false),
            "BRANCH_NEQ" => split(Rule::Equal(value), true),
            other => {
                return Err(ImportError::unsupported("nodes_modes", other, "a branch or LEAF"));
            }
        };
        trees[tree].parts.push(part);
    }
    // The root is the place to which no other leads.
    trees.iter_mut().try_for_each(root_first)?;
    Ok((trees, places))
}

/// Files list the root of a tree first; others are refused.
fn root_first(tree: &mut FileTree) -> Result<(), ImportError> {
    let leads = |part: &Part| matches!(part, Part::Split { yes, no, .. } if *yes == 0 || *no == 0);
    match tree.parts.iter().any(leads) {
        true => Err(ImportError::unsupported("nodes_nodeids", "another order", "roots first")),
        false => Ok(()),
    }
}

fn classifier(ensemble: &Ensemble, columns: Option<usize>) -> Result<Foreign, ImportError> {
    let classes = ensemble.outputs;
    let one = ensemble.is_binary_by_one();
    let labels = ensemble.labels.clone();
    let head = FormatHead { columns, names: Vec::new(), classes, labels };
    let (sum, trees) = match ensemble.transform.as_str() {
        "" | "NONE" => (Sum::Mean, ensemble.whole(classes)?),
        "LOGISTIC" if one => {
            let base = ensemble.base.iter().sum::<f64>() as f32;
            (Sum::Binary(base), ensemble.by_output()?)
        }
        "SOFTMAX" | "LOGISTIC" => {
            let soft = ensemble.transform == "SOFTMAX";
            let link = if soft { Link::Softmax } else { Link::Logistic };
            (Sum::Classes { base: ensemble.base(classes)?, link }, ensemble.by_output()?)
        }
        other => {
            const KNOWN: &str = "NONE, SOFTMAX or LOGISTIC";
            return Err(ImportError::unsupported("post_transform", other, KNOWN));
        }
    };
    Ok(Foreign { head, sum, trees })
}

fn regressor(
    ensemble: &Ensemble,
    after: Option<Link>,
    columns: Option<usize>,
) -> Result<Foreign, ImportError> {
    if !["", "NONE"].contains(&ensemble.transform.as_str()) {
        return Err(ImportError::unsupported("post_transform", &ensemble.transform, "NONE"));
    }
    let classes = ensemble.outputs.max(2);
    let (sum, trees) = match (after, ensemble.outputs) {
        (Some(Link::Logistic), 1) => (Sum::Binary(ensemble.base(1)?[0]), ensemble.by_output()?),
        (Some(link), outputs) if outputs > 1 => {
            (Sum::Classes { base: ensemble.base(outputs)?, link }, ensemble.by_output()?)
        }
        (None, outputs) if outputs > 1 => (Sum::Mean, ensemble.whole(outputs)?),
        _ => {
            const EXPECTED: &str = "a regressor with a target for each class, or one and a Sigmoid";
            return Err(ImportError::unsupported("n_targets", "1", EXPECTED));
        }
    };
    let head = FormatHead { columns, names: Vec::new(), classes, labels: Vec::new() };
    Ok(Foreign { head, sum, trees })
}
