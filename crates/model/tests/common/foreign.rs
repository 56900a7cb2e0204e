//! Small models of every format, as their libraries write them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::bundles;
use super::onnx::{cnn, mlp};
use serveflow_core::rows::{Column, Place, RowShape};
use serveflow_model::binding::Binding;
use std::path::Path;

/// A model file, its format, and how many columns it takes.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub format: &'static str,
    pub columns: usize,
    pub bytes: Vec<u8>,
}

/// Columns of the corpus' models.
const COLUMNS: usize = 34;
/// The formats that the corpus' first bytes stand for.
const CORPUS: [&str; 7] =
    ["lightgbm", "lightgbm-json", "xgboost", "xgboost-ubj", "catboost", "onnx", "sklearn-tree"];

pub const SKLEARN: &str = r#"{"feature":[3,-2,1,-2,-2],"threshold":[0.5,-2,-0.5,-2,-2],
"left":[1,-1,3,-1,-1],"right":[2,-1,4,-1,-1],
"value":[[0.5,0.5],[1.0,0.0],[0.5,0.5],[0.25,0.75],[0,1]],
"missing_go_to_left":[0,0,1,0,0],"columns":4,"classes":["dns","tls"]}"#;

pub const CATBOOST: &str = r#"{"features_info":{"float_features":[
{"flat_feature_index":0,"feature_id":"0","nan_value_treatment":"AsIs","borders":[0.5]},
{"flat_feature_index":1,"feature_id":"1","nan_value_treatment":"AsTrue","borders":[-0.5]}]},
"model_info":{"params":{"loss_function":{"type":"MultiClass"}},
"class_params":{"class_names":["dns","tls","ssh"]}},
"oblivious_trees":[{"leaf_values":[1,2,3,4,5,6,7,8,9,-1,-2,-3],"splits":[
{"split_type":"FloatFeature","border":0.5,"float_feature_index":0},
{"split_type":"FloatFeature","border":-0.5,"float_feature_index":1}]}],
"scale_and_bias":[1,[0.5,0.25,0]]}"#;

pub const CATBOOST_DEEP: &str = r#"{"features_info":{"float_features":[
{"flat_feature_index":0,"nan_value_treatment":"AsIs"}]},
"model_info":{"params":{"loss_function":{"type":"Logloss"}}},
"trees":[{"split":{"border":0.5,"float_feature_index":0},
"left":{"value":1.5},"right":{"value":-2}}],"scale_and_bias":[2,[0.25]]}"#;

/// All of them.
pub fn samples() -> Vec<Sample> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/import");
    let mut paths: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 30, "the corpus is there");
    let read = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let format = CORPUS[usize::from(bytes[0]) % CORPUS.len()];
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Sample { name, format, columns: COLUMNS, bytes: bytes[1..].to_vec() }
    };
    let mut samples: Vec<Sample> = paths.iter().map(read).collect();
    let mut add = |name: &str, format, columns, bytes: &[u8]| {
        samples.push(Sample { name: name.to_owned(), format, columns, bytes: bytes.to_vec() });
    };
    add("sklearn-tree", "sklearn-tree", 4, SKLEARN.as_bytes());
    add("catboost", "catboost", 2, CATBOOST.as_bytes());
    add("catboost-deep", "catboost", 1, CATBOOST_DEEP.as_bytes());
    add("mlp", "onnx", 40, &mlp(-1));
    add("cnn", "onnx", 32, &cnn());
    for (name, bytes) in &bundles::valid()[1..] {
        add(name, "forest", 0, bytes);
    }
    samples
}

impl Sample {
    /// The columns of rows that the model takes: numbers, or what a stage of the small bundle
    /// encodes.
    pub fn binding(&self) -> Binding {
        if self.format == "forest" {
            let packets = if self.name.ends_with("a.json") { 1 } else { 2 };
            return Binding::all(&[], bundles::shape(packets));
        }
        let column = |at: usize| Column { name: format!("f{at}"), place: Place::Number(at as u32) };
        let columns: Vec<Column> = (0..self.columns).map(column).collect();
        Binding::all(&columns, RowShape { words: 0, numbers: self.columns })
    }
}

/// A LightGBM text whose `tree_sizes` are those of its trees.
pub fn sized(text: &str) -> String {
    let end = text.find("end of trees").unwrap_or(text.len());
    let starts: Vec<usize> = text.match_indices("Tree=").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([end]);
    let sizes: Vec<String> =
        starts.iter().zip(ends).map(|(a, b)| b.saturating_sub(*a).to_string()).collect();
    let Some(at) = text.find("tree_sizes=") else { return text.to_owned() };
    let line = at + text[at..].find('\n').unwrap_or(0);
    format!("{}tree_sizes={}{}", &text[..at], sizes.join(" "), &text[line..])
}
