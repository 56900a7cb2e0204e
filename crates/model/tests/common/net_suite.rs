//! What every runtime of nets passes. `super::library` chooses the runtime.
#![allow(clippy::unwrap_used)]

use super::onnx::{
    self, FLOAT, INT64, attribute, cnn, file, floats, graph, graph_attribute, ints, mlp, node, one,
    port, weights,
};
use serveflow_core::lane::Model;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::binding::Binding;
use serveflow_model::net::{Net, load};

fn net(bytes: &[u8], columns: usize) -> Result<Net, String> {
    let library = super::library();
    let net = Net::load(bytes, &Binding::bits(columns).unwrap(), library.as_ref());
    net.map_err(|error| error.to_string())
}

fn refused(bytes: &[u8], columns: usize) -> String {
    let error = net(bytes, columns).map(|net| net.classes()).unwrap_err();
    assert!(error.contains("expected") && error.contains("found"), "{error}");
    error
}

fn load_shared() -> std::sync::Arc<dyn Model> {
    load(&mlp(-1), &Binding::bits(40).unwrap(), super::library().as_ref()).unwrap()
}

fn rows(net: &Net, count: usize) -> Rows {
    rows_of(net, count)
}

/// Rows of bits that look random.
fn rows_of(net: &dyn Model, count: usize) -> Rows {
    let mut rows = Rows::with_capacity(net.shape(), count);
    for row in 0..count {
        let (words, _) = rows.push();
        let random = weights(words.len(), row as u32 + 99);
        words.iter_mut().zip(random).for_each(|(word, value)| *word = value.to_bits() << 9);
        words[0] ^= (row as u32) << 16;
    }
    rows
}

fn bits(rows: &Rows, row: usize, columns: usize) -> Vec<f64> {
    let word = |at: usize| rows.words(row)[at / 32] >> (31 - at % 32);
    (0..columns).map(|at| f64::from(word(at) & 1)).collect()
}

/// `x W + b`, in the obvious way.
fn gemm(x: &[f64], w: &[f32], b: &[f32]) -> Vec<f64> {
    let product = |c: usize| {
        let terms = x.iter().enumerate().map(|(r, x)| x * f64::from(w[r * b.len() + c]));
        terms.sum::<f64>() + f64::from(b[c])
    };
    (0..b.len()).map(product).collect()
}

fn relu(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(|x| x.max(0.0)).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    x.iter().map(|x| x.exp() / sum).collect()
}

fn obvious_mlp(x: &[f64]) -> Vec<f64> {
    let hidden = relu(gemm(x, &weights(320, 1), &weights(8, 2)));
    softmax(&gemm(&hidden, &weights(24, 3), &weights(3, 4)))
}

fn obvious_cnn(x: &[f64]) -> Vec<f64> {
    let (kernel, bias) = (weights(24, 5), weights(4, 6));
    let at = |series: usize, at: i64| {
        if (0..16).contains(&at) { x[series * 16 + at as usize] } else { 0.0 }
    };
    let mut found = Vec::new();
    for filter in 0..4 {
        for to in 0..16_i64 {
            let terms = (0..2).flat_map(|s| (0..3).map(move |k| (s, k)));
            let sum: f64 = terms
                .map(|(s, k)| f64::from(kernel[filter * 6 + s * 3 + k]) * at(s, to + k as i64 - 1))
                .sum();
            found.push(sum + f64::from(bias[filter]));
        }
    }
    softmax(&gemm(&relu(found), &weights(192, 7), &weights(3, 8)))
}

/// Batches of any size, each row like the obvious net has it, and like it has alone.
fn agrees(bytes: &[u8], columns: usize, obvious: fn(&[f64]) -> Vec<f64>) {
    let net = net(bytes, columns).unwrap();
    assert_eq!(net.classes(), 3);
    let (mut scores, mut alone) = (Scores::default(), Scores::default());
    for count in [0, 1, 3, 300] {
        let rows = rows(&net, count);
        net.score(&rows, &mut scores).unwrap();
        assert_eq!((scores.len(), scores.classes()), (count, 3));
        for row in 0..count {
            let expected = obvious(&bits(&rows, row, columns));
            let mut one = Rows::with_capacity(net.shape(), 1);
            one.push_copy(&rows, row);
            net.score(&one, &mut alone).unwrap();
            for (class, expected) in expected.iter().enumerate() {
                let (found, alone) = (scores.row(row)[class], alone.row(0)[class]);
                assert!((f64::from(found) - expected).abs() < 1e-5, "row {row} of {count}");
                assert!((found - alone).abs() < 1e-6, "row {row} of {count}");
            }
        }
    }
}

#[test]
fn nets_score_as_the_obvious_ones_do() {
    agrees(&mlp(-1), 40, obvious_mlp);
    agrees(&cnn(), 32, obvious_cnn);
}

#[test]
fn a_batch_that_is_fixed_at_one_is_scored_row_by_row() {
    agrees(&mlp(1), 40, obvious_mlp);
    assert!(refused(&mlp(7), 40).contains("[7, 40]"));
}

#[test]
fn threads_share_a_net() {
    let net = load_shared();
    let scored = || {
        let (rows, mut scores) = (rows_of(&*net, 50), Scores::default());
        net.score(&rows, &mut scores).unwrap();
        scores
    };
    let all: Vec<Scores> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(scored)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|scores| scores == &all[0]));
}

#[test]
fn other_columns_are_refused() {
    assert!(refused(&mlp(-1), 41).contains("[N, 41]"));
    assert!(refused(&cnn(), 64).contains("2, 16"));
    assert!(refused(&mlp(-1), 0).contains("40"));
}

#[test]
fn damage_is_refused() {
    for bytes in [mlp(-1), cnn()] {
        (0..bytes.len()).for_each(|cut| drop(refused(&bytes[..cut], 40)));
        for at in (0..bytes.len()).filter(|at| at % 5 == 0 || *at < 64 || bytes.len() - at < 200) {
            let mut spoiled = bytes.clone();
            spoiled[at] ^= 1 << (at % 8);
            if let Err(error) = net(&spoiled, 40) {
                assert!(!error.is_empty());
            }
        }
    }
    assert!(refused(b"tree\nversion=v4\n", 2).contains("ONNX"));
}

#[test]
fn rows_that_lean_on_each_other_are_refused() {
    let over_rows = node("Softmax", "X", "P", &[attribute("axis", 0)]);
    let error = refused(&one(over_rows, &[], &[-1, 2]), 2);
    assert!(error.contains("depend on other rows of the batch"), "{error}");
}

#[test]
fn a_net_has_one_table_of_scores() {
    let nodes = [node("Relu", "X", "P", &[]), node("Sigmoid", "X", "Q", &[])];
    let (x, p, q) =
        (port("X", FLOAT, &[-1, 2]), port("P", FLOAT, &[-1, 2]), port("Q", FLOAT, &[-1, 2]));
    let error = refused(&file(&graph(&nodes, &[], &[x], &[p, q])), 2);
    assert!(error.contains("expected one output") && error.contains("`Q`"), "{error}");
}

#[test]
fn what_a_net_cannot_do_is_refused() {
    let unknown = node("NoSuchOperator", "X", "P", &[]);
    assert!(refused(&one(unknown, &[], &[-1, 2]), 2).contains("NoSuchOperator"));
    let flat = node("Reshape", "X s", "P", &[]);
    assert!(refused(&one(flat, &[ints("s", &[1, -1])], &[1, -1]), 2).contains("[1, 4]"));
    let wide = node("Tile", "X s", "P", &[]);
    assert!(refused(&one(wide, &[ints("s", &[1, 40_000])], &[-1, -1]), 2).contains("80000"));
    let whole = node("Relu", "X", "P", &[]);
    assert!(refused(&one(whole.clone(), &[], &[-1, 2, 1]), 2).contains("[N, classes]"));
    let (x, y) = (port("X", FLOAT, &[-1, 2]), port("Y", FLOAT, &[-1, 2]));
    let p = port("P", FLOAT, &[-1, 2]);
    let add = [node("Add", "X Y", "P", &[])];
    let two = file(&graph(&add, &[], &[x, y.clone()], std::slice::from_ref(&p)));
    assert!(refused(&two, 2).contains("found 2"));
    let whole_numbers = port("X", INT64, &[-1, 2]);
    let cast = [node("Cast", "X", "P", &[attribute("to", 1)])];
    assert!(refused(&file(&graph(&cast, &[], &[whole_numbers], &[p])), 2).contains("floats"));
    assert!(refused(&file(&graph(&[whole], &[], &[y], &[])), 2).contains("none"));
}

#[test]
fn what_takes_memory_or_depth_is_refused() {
    let node_of = |operator: &str, inputs: &str| node(operator, inputs, "P", &[]);
    let huge = [ints("s", &[1 << 20, 1 << 20])];
    for (operator, inputs) in [("ConstantOfShape", "s"), ("Expand", "X s"), ("Tile", "X s")] {
        let error = refused(&one(node_of(operator, inputs), &huge, &[-1, -1]), 2);
        assert!(error.contains("elements"), "{error}");
    }
    let declared = [floats("w", &[1 << 40], &[1.0])];
    assert!(refused(&one(node_of("Add", "X w"), &declared, &[-1, 2]), 2).contains("declares"));
    let pads = node("MaxPool", "X", "P", &[onnx::attributes("pads", &[1 << 40, 0])]);
    assert!(refused(&one(pads, &[], &[-1, 2]), 2).contains("attributes"));
    let mut inner = graph(&[], &[], &[], &[]);
    for _ in 0..1000 {
        inner = graph(
            &[node("If", "c", "P", &[graph_attribute("then_branch", &inner)])],
            &[],
            &[],
            &[],
        );
    }
    let nested = node("If", "X", "P", &[graph_attribute("then_branch", &inner)]);
    assert!(refused(&one(nested, &[], &[-1, 2]), 2).contains("graph within"));
}

#[test]
fn scores_that_are_not_finite_are_an_error() {
    let net = net(&one(node("Div", "X X", "P", &[]), &[], &[-1, 2]), 2).unwrap();
    let mut rows = Rows::with_capacity(net.shape(), 2);
    rows.push().0[0] = 3 << 30;
    let mut scores = Scores::default();
    net.score(&rows, &mut scores).unwrap();
    assert_eq!(scores.row(0), [1.0, 1.0]);
    rows.push().0[0] = 1 << 30;
    let error = net.score(&rows, &mut scores).unwrap_err();
    assert_eq!(error.message, "expected finite scores, found NaN");
}
