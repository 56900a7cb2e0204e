//! Small foreign models that are read right, and such as are refused.

use super::*;
use crate::forest::{BoundForest, Forest};
use serveflow_core::rows::{Rows, Scores};

const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=2\nnum_tree_per_iteration=2\n\
                        max_feature_idx=40\nobjective=multiclass num_class:2\n\nTree=0\n\
                        num_leaves=3\nnum_cat=0\nsplit_feature=40 1\nthreshold=0.5 1e-35\n\
                        decision_type=2 8\nleft_child=1 -1\nright_child=-3 -2\nleaf_value=1 2 4\n\
                        is_linear=0\n\n\nTree=1\nnum_leaves=1\nnum_cat=0\nleaf_value=0.25\n\n\nend \
                        of trees\n";

const XGBOOST: &str = r#"{"learner":{"gradient_booster":{"name":"gbtree","model":{
"tree_info":[0,1],"trees":[
{"left_children":[1,-1,3,-1,-1],"right_children":[2,-1,4,-1,-1],
"split_conditions":[1.0,4.0,0.5,1.0,2.0],
"split_indices":[40,0,1,0,0],"split_type":[0,0,0,0,0],"default_left":[0,0,0,0,0]},
{"left_children":[-1],"right_children":[-1],"split_conditions":[0.25],"split_indices":[0],
"split_type":[0]}]}},
"learner_model_param":{"base_score":"[5E-1,0]","num_class":"2","num_feature":"41"},
"objective":{"name":"multi:softprob"}}}"#;

const SKLEARN: &str = r#"{"feature":[33,-2,-2],"threshold":[0.5,-2,-2],
"left":[1,-1,-1],"right":[2,-1,-1],"value":[[0.5,0.5],[1.0,0.0],[0.25,0.75]]}"#;

/// Scores of rows that have these columns set.
fn scores(forest: &Forest, rows: &[&[usize]]) -> Vec<f32> {
    let mut batch = Rows::with_capacity(forest.shape(), rows.len());
    for columns in rows {
        let (words, _) = batch.push();
        columns.iter().for_each(|c| words[c / 32] |= 1 << (31 - c % 32));
    }
    let mut scores = Scores::default();
    BoundForest::new(forest).score(&batch, &mut scores);
    (0..rows.len()).map(|row| scores.row(row)[0]).collect()
}

/// A LightGBM text with the sizes of its trees in its head.
fn sized(text: &str) -> Vec<u8> {
    let end = text.find("end of trees").unwrap_or(text.len());
    let starts: Vec<usize> = text.match_indices("Tree=").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([end]);
    let sizes: Vec<String> = starts.iter().zip(ends).map(|(a, b)| (b - a).to_string()).collect();
    text.replacen("\n\n", &format!("\ntree_sizes={}\n\n", sizes.join(" ")), 1).into_bytes()
}

fn lightgbm_text(bytes: &[u8]) -> Result<Foreign, ImportError> {
    lightgbm(&sized(std::str::from_utf8(bytes).unwrap()))
}

type Read = fn(&[u8]) -> Result<Foreign, ImportError>;

/// A model on so many columns of bits.
fn bound(read: Read, text: &str, columns: usize) -> Result<Forest, String> {
    let forest = read(text.as_bytes()).and_then(|m| m.bind(&Binding::bits(columns).unwrap()));
    forest.map_err(|error| error.to_string())
}

/// The share of the first of two classes by their raw scores.
fn softmax(first: f64, second: f64) -> f32 {
    (1.0 / (1.0 + (second - first).exp())) as f32
}

fn close(found: &[f32], expected: &[f32]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7);
    assert!(near && found.len() == expected.len(), "{found:?} {expected:?}");
}

#[test]
fn lightgbm_trees_are_read() {
    let forest = bound(lightgbm_text, LIGHTGBM, 41).unwrap();
    assert_eq!((forest.shape().words, forest.shape().numbers), (2, 0));
    let found = scores(&forest, &[&[], &[1], &[40], &[1, 40, 7]]);
    close(&found, &[1.0, 2.0, 4.0, 4.0].map(|first| softmax(first, 0.25)));
}

#[test]
fn xgboost_trees_are_read() {
    let forest = bound(xgboost, XGBOOST, 41).unwrap();
    let found = scores(&forest, &[&[], &[1], &[40], &[1, 40]]);
    close(&found, &[4.0, 4.0, 1.0, 2.0].map(|first| softmax(first + 0.5, 0.25)));
}

#[test]
fn sklearn_trees_are_read() {
    let forest = bound(sklearn, SKLEARN, 34).unwrap();
    assert_eq!(scores(&forest, &[&[], &[33]]), [1.0, 0.25]);
    let wide = SKLEARN.replace("{\"feature", "{\"columns\":96,\"feature");
    assert_eq!(bound(sklearn, &wide, 96).unwrap().shape().words, 3);
    let error = bound(sklearn, &wide, 95).unwrap_err();
    assert_eq!(error, "the model takes 96 columns, the stage gives it 95");
}

/// A binary model is split over two classes; its trees and its base are all there.
#[test]
fn binary_trees_are_halved_without_loss() {
    let leaf = |value: f64| format!(r#"{{"leaf_value":{value}}}"#);
    let tree = |column, low, high| {
        format!(
            r#"{{"tree_structure":{{"split_feature":{column},"threshold":0.5,"decision_type":"<=",
            "default_left":true,"missing_type":"None","left_child":{},"right_child":{}}}}}"#,
            leaf(low),
            leaf(high)
        )
    };
    let text = format!(
        r#"{{"objective":"binary sigmoid:2","num_tree_per_iteration":1,"max_feature_idx":2,
        "tree_info":[{},{},{}]}}"#,
        tree(0, 0.5, -0.25),
        tree(1, 0.125, 1.0),
        tree(2, -2.0, 0.75)
    );
    let forest = bound(lightgbm_json, &text, 3).unwrap();
    assert_eq!((forest.classes(), forest.trees().len()), (2, 4));
    let found = scores(&forest, &[&[], &[0, 1], &[0, 1, 2]]);
    close(&found, &[-1.375, -1.25, 1.5].map(|sum| softmax(0.0, 2.0 * sum)));
}

#[test]
fn a_split_that_a_column_cannot_tell_is_left_out() {
    // Of bits, all are at most 1.5: the tree has one split less.
    let forest = bound(lightgbm_text, &LIGHTGBM.replacen("0.5 1e-35", "0.5 1.5", 1), 41).unwrap();
    assert_eq!(forest.trees()[0].nodes.len(), 1);
    let found = scores(&forest, &[&[], &[1], &[40]]);
    close(&found, &[1.0, 1.0, 4.0].map(|first| softmax(first, 0.25)));
}

#[test]
fn what_is_not_supported_is_named() {
    let lightgbm = |from: &str, to: &str| {
        assert!(LIGHTGBM.contains(from), "{from}");
        bound(lightgbm_text, &LIGHTGBM.replacen(from, to, 1), 41).unwrap_err()
    };
    let at = |fault: &str| format!("tree 0, node 1: {fault}");
    assert!(lightgbm("=2 8", "=2 1").contains("cat_threshold"));
    assert_eq!(lightgbm("0.5 1e-35", "0.5 nan"), at("expected a threshold, found NaN"));
    assert_eq!(lightgbm("40 1", "40 41"), at("column 41 is not one of the model's"));
    assert_eq!(lightgbm("=1 -1", "=1 -4"), at("child -4 is no place of the tree"));
    assert!(lightgbm("=1 -1", "=1 0").contains("leads back"));
    assert!(lightgbm("multiclass num", "lambdarank num").contains("lambdarank"));
    assert!(lightgbm("is_linear=0", "is_linear=1").starts_with("tree 0: `is_linear`"));
    assert!(lightgbm("_value=1 2 4", "_value=1 2").starts_with("tree 0: `leaf_value`"));
    assert!(lightgbm("Tree=1", "Tree=2").starts_with("tree 1: `Tree`"));
    assert!(lightgbm("idx=40", "idx=99999999").contains("takes 100000000 columns"));
    assert!(super::lightgbm(&[0xff]).is_err() && super::lightgbm(b"").is_err());
    let xgboost = |from: &str, to: &str| {
        assert!(XGBOOST.contains(from), "{from}");
        bound(xgboost, &XGBOOST.replacen(from, to, 1), 41).unwrap_err()
    };
    assert!(
        xgboost("\"split_type\":[0,0,0", "\"split_type\":[0,0,1")
            .contains("tree 0, node 2: categorical")
    );
    assert!(xgboost("[0,1]", "[1,2]").contains("tree_info"));
    assert!(xgboost("gbtree", "gblinear").contains("gblinear"));
    assert!(xgboost("\"2\"", "\"3\"").contains("base_score"));
    let wide = xgboost(
        "{\"left_children\":[1",
        "{\"tree_param\":{\"size_leaf_vector\":\"2\"},\"left_children\":[1",
    );
    assert!(wide.contains("size_leaf_vector"), "{wide}");
    let pandas = lightgbm("end of trees", "end of trees\n\npandas_categorical:[[\"a\", \"b\"]]");
    assert!(pandas.contains("pandas_categorical"), "{pandas}");
    let none = LIGHTGBM.replace("end of trees", "end of trees\n\npandas_categorical:[]");
    assert!(bound(lightgbm_text, &none, 41).is_ok());
    let sklearn = SKLEARN.replace("[1.0,0.0]", "[1.0]");
    assert!(bound(super::sklearn, &sklearn, 34).unwrap_err().contains("value"));
}

/// Each split on ternary columns may double what is below it; a file that would grow without bound
/// is refused before it does.
#[test]
fn a_forest_that_would_grow_without_bound_is_refused() {
    let depth = 60;
    let mut tree = FileTree { parts: Vec::new(), values: vec![0.0, 1.0] };
    for at in 0..depth {
        // Zero alone leads on to a leaf: two tests, and the rest below both.
        let question = rule::Question::new(rule::Rule::Equal(0.0), rule::Missing::Is(false));
        let (yes, no) = (depth + 1 + at, at + 1);
        tree.parts.push(convert::Part::Split { column: 0, question, yes, no });
    }
    tree.parts.extend((0..=depth).map(|at| convert::Part::Leaf(at % 2)));
    let head = FormatHead { columns: Some(1), classes: 2, ..FormatHead::default() };
    let sum = Sum::Binary(0.0);
    let foreign = Foreign { head, sum, trees: vec![(0, tree)] };
    let presence = serveflow_core::rows::BitAt { word: 1, bit: 0 };
    let value = serveflow_core::rows::BitAt { word: 0, bit: 0 };
    let place = serveflow_core::rows::Place::Bit { value, presence };
    let column = serveflow_core::rows::Column { name: "f".to_owned(), place };
    let shape = serveflow_core::rows::RowShape { words: 2, numbers: 0 };
    let error = foreign.bind(&Binding::all(&[column], shape)).unwrap_err().to_string();
    assert!(error.contains("too many tests"), "{error}");
}

/// A value that was missing to the library is as good as not-a-number, in numbers and in header
/// bits.
#[test]
fn a_value_that_was_missing_goes_where_missing_values_go() {
    use crate::formats::FORMATS;
    use serveflow_core::rows::{BitAt, Column, Place, RowShape};
    // What is missing goes left at the root and right below it.
    let file = XGBOOST.replacen("\"default_left\":[0,0,0,0,0]", "\"default_left\":[1,0,0,0,0]", 1);
    let load = FORMATS.iter().find(|entry| entry.name == "xgboost").unwrap().load;
    let bit =
        |word: usize, at: usize| BitAt { word: (word + at / 32) as u32, bit: (at % 32) as u8 };
    let numbers = |at: usize| Place::Number(at as u32);
    let ternary = |at: usize| Place::Bit { value: bit(0, at), presence: bit(2, at) };
    let columns = |place: &dyn Fn(usize) -> Place| -> Vec<Column> {
        (0..41).map(|at| Column { name: format!("f{at}"), place: place(at) }).collect()
    };
    let plain = Binding::all(&columns(&numbers), RowShape { words: 0, numbers: 41 });
    let bits = Binding::all(&columns(&ternary), RowShape { words: 4, numbers: 0 });
    let answer = |binding: &Binding, values: [f32; 2]| {
        let model = load(file.as_bytes(), binding).unwrap();
        let mut rows = Rows::with_capacity(binding.shape(), 1);
        let (words, numbers) = rows.push();
        for (at, value) in [(1, values[0]), (40, values[1])] {
            if let Some(number) = numbers.get_mut(at) {
                *number = value;
            } else {
                let (one, there) = (bit(0, at), bit(2, at));
                words[one.word as usize] |= u32::from(value == 1.0) << one.bit;
                words[there.word as usize] |= u32::from(value != -1.0) << there.bit;
            }
        }
        // Nothing else is asked, and it is there.
        let mut scores = Scores::default();
        model.score(&rows, &mut scores).unwrap();
        scores.row(0)[0]
    };
    let mut seen = std::collections::BTreeSet::new();
    for missing in [-1.0, 0.0, 1.0] {
        for first in [-1.0, 0.0, 1.0] {
            for second in [-1.0, 0.0, 1.0] {
                let hole = |value: f32| if value == missing { f32::NAN } else { value };
                let expected = answer(&plain, [hole(first), hole(second)]);
                for binding in [&plain, &bits] {
                    let found =
                        answer(&binding.clone().with_missing(Some(missing)), [first, second]);
                    assert_eq!(found, expected, "{missing}: {first} {second}");
                }
                seen.insert(expected.to_bits());
            }
        }
    }
    assert!(seen.len() > 2, "the splits part the rows");
    for format in ["forest", "remote"] {
        let load = FORMATS.iter().find(|entry| entry.name == format).unwrap().load;
        let refused = load(b"{}", &plain.clone().with_missing(Some(0.0)));
        assert!(refused.is_err(), "{format}");
    }
}
