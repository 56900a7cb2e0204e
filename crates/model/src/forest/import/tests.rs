//! Small foreign models that are read right, and such as are refused.

use super::*;
use crate::forest::{BoundForest, Forest};
use serveflow_core::rows::{Rows, Scores};

const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=2\nnum_tree_per_iteration=2\nmax_feature_idx=40\n\
objective=multiclass num_class:2\n\nTree=0\nnum_leaves=3\nnum_cat=0\nsplit_feature=40 1\nthreshold=0.5 1e-35\n\
decision_type=2 8\nleft_child=1 -1\nright_child=-3 -2\nleaf_value=1 2 4\nis_linear=0\n\n\n\
Tree=1\nnum_leaves=1\nnum_cat=0\nleaf_value=0.25\n\n\nend of trees\n\nfeature_importances:\n";

const XGBOOST: &str = r#"{"learner":{"gradient_booster":{"name":"gbtree","model":{"tree_info":[0,1],"trees":[
{"left_children":[1,-1,3,-1,-1],"right_children":[2,-1,4,-1,-1],"split_conditions":[1.0,4.0,0.5,1.0,2.0],
"split_indices":[40,0,1,0,0],"split_type":[0,0,0,0,0]},
{"left_children":[-1],"right_children":[-1],"split_conditions":[0.25],"split_indices":[0],"split_type":[0]}]}},
"learner_model_param":{"base_score":"[5E-1,0]","num_class":"2","num_feature":"41"},"objective":{"name":"multi:softprob"}}}"#;

const SKLEARN: &str = r#"{"feature":[33,-2,-2],"threshold":[0.5,-2,-2],"left":[1,-1,-1],"right":[2,-1,-1],
"value":[[0.5,0.5],[1.0,0.0],[0.25,0.75]]}"#;

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
    let forest = from_lightgbm(LIGHTGBM.as_bytes()).unwrap();
    assert_eq!(forest.shape(), RowShape { words: 2, numbers: 0 });
    let found = scores(&forest, &[&[], &[1], &[40], &[1, 40, 7]]);
    close(&found, &[1.0, 2.0, 4.0, 4.0].map(|first| softmax(first, 0.25)));
}

#[test]
fn xgboost_trees_are_read() {
    let forest = from_xgboost(XGBOOST.as_bytes()).unwrap();
    let found = scores(&forest, &[&[], &[1], &[40], &[1, 40]]);
    close(&found, &[4.0, 4.0, 1.0, 2.0].map(|first| softmax(first + 0.5, 0.25)));
}

#[test]
fn sklearn_trees_are_read() {
    let forest = from_sklearn(SKLEARN.as_bytes()).unwrap();
    assert_eq!(forest.shape(), RowShape { words: 2, numbers: 0 });
    assert_eq!(scores(&forest, &[&[], &[33]]), [1.0, 0.25]);
    let wide = SKLEARN.replace("{\"feature", "{\"columns\":96,\"feature");
    assert_eq!(from_sklearn(wide.as_bytes()).unwrap().shape().words, 3);
}

#[test]
fn what_is_not_supported_is_named() {
    let lightgbm = |from: &str, to: &str| {
        assert!(LIGHTGBM.contains(from), "{from}");
        from_lightgbm(LIGHTGBM.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    let at = |fault: &str| format!("tree 0, node 1: {fault}");
    assert_eq!(lightgbm("=2 8", "=2 1"), at("categorical splits are not supported"));
    assert_eq!(lightgbm("=2 8", "=2 6"), at("zeros that stand for missing are not supported"));
    assert_eq!(lightgbm("0.5 1e-35", "0.5 1.5"), at("threshold 1.5 does not tell 0 from 1"));
    assert_eq!(lightgbm("40 1", "40 41"), at("column 41 is not one of the model's"));
    assert_eq!(lightgbm("=1 -1", "=1 -4"), at("child -4 is no place of the tree"));
    assert!(lightgbm("=1 -1", "=1 0").contains("leads back"));
    assert!(lightgbm("multiclass num", "binary num").contains("binary"));
    assert!(lightgbm("is_linear=0", "is_linear=1").starts_with("tree 0: `is_linear`"));
    assert!(lightgbm("_value=1 2 4", "_value=1 2").starts_with("tree 0: `leaf_value`"));
    assert!(lightgbm("Tree=1", "Tree=2").starts_with("tree 1: `Tree`"));
    assert!(lightgbm("idx=40", "idx=99999999").contains("more than a row"));
    assert!(from_lightgbm(&[0xff]).is_err() && from_lightgbm(b"").is_err());
    let xgboost = |from: &str, to: &str| {
        assert!(XGBOOST.contains(from), "{from}");
        from_xgboost(XGBOOST.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    assert!(xgboost("[0,0,0", "[0,0,1").contains("tree 0, node 2: categorical"));
    assert!(xgboost("[1.0,4.0", "[1.5,4.0").contains("tree 0, node 0: threshold 1.5"));
    assert!(xgboost("[0,1]", "[1,0]").contains("tree_info"));
    assert!(xgboost("gbtree", "dart").contains("dart"));
    assert!(xgboost("\"2\"", "\"3\"").contains("base_score"));
    let sklearn = SKLEARN.replace("[1.0,0.0]", "[1.0]");
    assert!(from_sklearn(sklearn.as_bytes()).unwrap_err().to_string().contains("node 1"));
}
