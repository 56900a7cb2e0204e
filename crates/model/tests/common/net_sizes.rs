//! Nets whose graphs compute how large their values are: what is bounded is scored, what is not is
//! refused.
#![allow(clippy::unwrap_used)]

use super::onnx::{
    FLOAT, INT64, attribute, attributes, file, floats, graph, ints, list, node, number, port, text,
    weights, with_told,
};
use serveflow_core::lane::Model;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::binding::Binding;
use serveflow_model::net::Net;

/// A net of nodes between so many columns and `P`, which is of two classes or of what comes of
/// them.
fn build(nodes: &[Vec<u8>], constants: &[Vec<u8>], columns: i64) -> Vec<u8> {
    let (x, p) = (port("X", FLOAT, &[-1, columns]), port("P", FLOAT, &[-1, -1]));
    file(&graph(nodes, constants, &[x], &[p]))
}

fn net(bytes: &[u8], columns: usize) -> Result<Net, String> {
    let library = super::library();
    let net = Net::load(bytes, &Binding::bits(columns).unwrap(), library.as_ref());
    net.map_err(|error| error.to_string())
}

/// A net of two columns is refused in these words.
fn refused(nodes: &[Vec<u8>], constants: &[Vec<u8>], words: &str) {
    // Something that would be scored, beside what is refused.
    let nodes = [nodes, &[node("Relu", "X", "P", &[])]].concat();
    let error = net(&build(&nodes, constants, 2), 2).map(|net| net.classes()).unwrap_err();
    assert!(error.contains("expected") && error.contains("found"), "{error}");
    assert!(error.contains(words), "expected `{words}`, found: {error}");
}

/// Batches of many sizes are scored, each row as alone.
fn scored(bytes: &[u8], columns: usize, classes: usize) {
    let net = net(bytes, columns).unwrap();
    assert_eq!(net.classes(), classes);
    let (mut scores, mut alone) = (Scores::default(), Scores::default());
    for count in [1, 2, 3, 5, 6, 7, 77, 300] {
        let mut rows = Rows::with_capacity(net.shape(), count);
        for row in 0..count {
            let words = rows.push().0;
            let random = weights(words.len(), row as u32 + 7);
            words.iter_mut().zip(random).for_each(|(word, value)| *word = value.to_bits() << 9);
        }
        net.score(&rows, &mut scores).unwrap();
        assert_eq!(scores.len(), count);
        for row in 0..count {
            let mut one = Rows::with_capacity(net.shape(), 1);
            one.push_copy(&rows, row);
            net.score(&one, &mut alone).unwrap();
            let apart = scores.row(row).iter().zip(alone.row(0)).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) < 1e-5, "row {row} of {count}");
        }
    }
}

/// Constants that most of the graphs below need.
fn some() -> Vec<Vec<u8>> {
    let each = [
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("two", &[2]),
        ints("three", &[3]),
        ints("many", &[300_000]),
        ints("billion", &[1_000_000_000]),
        ints("of77", &[77]),
        ints("minus", &[-1]),
        number("0", 0),
        number("1", 1),
        floats("1f", &[], &[1.0]),
        list("wide", &[1e6, 1e6]),
        list("values", &[0.0, 1.0]),
    ];
    each.to_vec()
}

const LARGE: &str = "elements of all values";
const OF_ROW: &str = "depend on the values of a row";
const ALIKE: &str = "every runtime computes alike";

#[test]
fn sizes_that_are_computed_are_held_to_a_limit() {
    let n = |operator: &str, inputs: &str, output: &str| node(operator, inputs, output, &[]);
    let shape = n("Shape", "X", "s");
    let both = node("Concat", "many many", "b", &[attribute("axis", 0)]);
    refused(&[both, n("Tile", "X b", "y")], &some(), LARGE);
    refused(
        &[shape.clone(), n("Mul", "s many", "b"), n("ConstantOfShape", "b", "y")],
        &some(),
        LARGE,
    );
    refused(&[shape.clone(), n("Mul", "s many", "b"), n("Expand", "1f b", "y")], &some(), LARGE);
    refused(
        &[n("Squeeze", "billion", "b"), n("Mul", "b 1", "c"), n("Range", "0 c 1", "y")],
        &some(),
        LARGE,
    );
    refused(&[n("Range", "0f big 1f", "y")], &range_of_floats(), LARGE);
    refused(&[n("OneHot", "two billion values", "y")], &some(), LARGE);
    refused(
        &[
            node("Concat", "zero zero zero billion", "p", &[attribute("axis", 0)]),
            n("Pad", "X p", "y"),
        ],
        &some(),
        LARGE,
    );
    refused(&[n("Resize", "X   wide", "y")], &some(), LARGE);
    refused(&[n("Upsample", "X wide", "y")], &some(), LARGE);
    refused(&[n("TopK", "X billion", "y z")], &some(), "takes");
}

fn range_of_floats() -> Vec<Vec<u8>> {
    vec![floats("0f", &[], &[0.0]), floats("big", &[], &[1e10]), floats("1f", &[], &[1.0])]
}

#[test]
fn values_that_grow_step_by_step_are_held_to_a_limit() {
    let grown = |operator: &str, attributes: &[Vec<u8>], of: &dyn Fn(usize) -> String| {
        let step = |at: usize| node(operator, &of(at), &format!("v{}", at + 1), attributes);
        (0..40).map(step).collect::<Vec<_>>()
    };
    let twice = |at: usize| format!("v{at} v{at}");
    let concat = grown("Concat", &[attribute("axis", 0)], &twice);
    refused(&concat, &[list("v0", &[1.0, 2.0])], LARGE);
    // Of the row, too, where nothing is constant.
    let first = [vec![node("Relu", "X", "v0", &[])], concat].concat();
    refused(&first, &[], LARGE);
    let outer = |at: usize| {
        let (column, sum) = (format!("c{at}"), format!("v{}", at + 1));
        [
            node("Reshape", &format!("v{at} column"), &column, &[]),
            node("Reshape", &format!("v{at} line"), &format!("l{at}"), &[]),
            node("Add", &format!("{column} l{at}"), &sum, &[]),
        ]
    };
    let outer: Vec<_> = (0..40).flat_map(outer).collect();
    let shapes = [ints("column", &[-1, 1]), ints("line", &[1, -1]), list("v0", &[1.0, 2.0])];
    refused(&outer, &shapes, LARGE);
    let indices = ints("i", &[0; 4000]);
    let gather = grown("Gather", &[], &|at| format!("v{at} i{}", if at == 0 { "" } else { "2" }));
    let second = node("Reshape", "i line", "i2", &[]);
    refused(&[vec![second], gather].concat(), &[&shapes[1..], &[indices]].concat(), LARGE);
    let einsum = node("Einsum", "v v", "y", &[text("equation", "a,b->ab")]);
    refused(&[einsum], &[list("v", &[0.5; 20_000])], LARGE);
    let product = node("MatMul", "v w", "y", &[]);
    let (v, w) =
        (floats("v", &[20_000, 1], &[0.5; 20_000]), floats("w", &[1, 20_000], &[0.5; 20_000]));
    refused(&[product], &[v, w], LARGE);
}

#[test]
fn windows_are_held_to_a_limit() {
    let image = node("Reshape", "X s", "i", &[]);
    let constants = [ints("s", &[-1, 1, 1, 2]), floats("w", &[1, 1, 1, 1], &[1.0])];
    let wide = |name: &str| attributes(name, &[1 << 20; 4]);
    let most = |name: &str| attributes(name, &[1 << 20; 2]);
    let refused = |window: Vec<u8>| refused(&[image.clone(), window], &constants, LARGE);
    refused(node("Conv", "i w", "y", &[wide("pads")]));
    refused(node(
        "ConvTranspose",
        "i w",
        "y",
        &[attributes("kernel_shape", &[1, 1]), most("strides")],
    ));
    refused(node("ConvTranspose", "i w", "y", &[most("output_padding")]));
    refused(node("MaxPool", "i", "y", &[attributes("kernel_shape", &[1, 1]), wide("pads")]));
    refused(node("AveragePool", "i", "y", &[attributes("kernel_shape", &[1, 1]), wide("pads")]));
}

#[test]
fn recurrent_nets_are_held_to_a_limit() {
    let sequence = node("Reshape", "X s", "i", &[]);
    let constants = [
        ints("s", &[2, -1, 1]),
        floats("w", &[1, 4, 1], &[1.0; 4]),
        floats("r", &[1, 4, 1], &[1.0; 4]),
    ];
    let hidden = |size| [attribute("hidden_size", size)];
    refused(
        &[sequence.clone(), node("LSTM", "i w r", "y", &hidden(1 << 30))],
        &constants,
        "attributes",
    );
    let lstm = [sequence, node("LSTM", "i w r", "y", &hidden(1))];
    let last = [node("Reshape", "y line", "v", &[]), node("MatMul", "X m", "P", &[])];
    let more = [ints("line", &[-1, 2]), floats("m", &[2, 2], &[1.0, 0.0, 0.0, 1.0])];
    let (lstm, constants) = ([lstm, last].concat(), [&constants[..], &more].concat());
    scored(&build(&lstm, &constants, 2), 2, 2);
}

#[test]
fn sizes_do_not_come_from_the_values_of_a_row() {
    let cast = node("Cast", "X", "c", &[attribute("to", INT64 as i64)]);
    let first = node("Gather", "c 0", "g", &[]);
    let of = |last: &str, constants: &[Vec<u8>]| {
        let sum = node("ReduceSum", "c", "n", &[attribute("keepdims", 0)]);
        let line = node("Unsqueeze", "n zero", "k", &[]);
        let last = node(last.split_once(' ').unwrap().0, last.split_once(' ').unwrap().1, "y", &[]);
        refused(&[cast.clone(), sum, line, last], &[&some(), constants].concat(), OF_ROW);
    };
    for last in [
        "Tile X k",
        "Expand X k",
        "Reshape X k",
        "ConstantOfShape k",
        "Range 0 n 1",
        "TopK X k",
        "Resize X   k",
        "OneHot two k values",
        "Pad X k",
        "Slice X k two",
        "Slice X zero k",
        "NonZero X",
        "Split X k",
        "Unsqueeze X k",
        "Squeeze X k",
        "ReduceSum X k",
    ] {
        of(last, &[]);
    }
    refused(&[cast, first, node("Reshape", "X g", "y", &[])], &some(), OF_ROW);
}

#[test]
fn sizes_of_any_number_of_rows_are_known() {
    let n = |operator: &str, inputs: &str, output: &str| node(operator, inputs, output, &[]);
    let rows = [n("Shape", "X", "s"), n("Gather", "s zero", "n")];
    // Nothing up to three rows, then very much: no more than two rows are ever there at once.
    let steep = [
        n("Sub", "n one", "a"),
        n("Sub", "n two", "b"),
        n("Mul", "a b", "ab"),
        n("Mul", "ab many", "abm"),
        n("Tile", "X t", "y"),
        node("Concat", "abm one", "t", &[attribute("axis", 0)]),
    ];
    let [a, b, ab, abm, y, t] = steep;
    let nodes = [&rows[..], &[a, b, ab, abm, t, y, n("Relu", "X", "P")]].concat();
    scored(&build(&nodes, &some(), 2), 2, 2);
    // With 77 rows alone, very much: those are never there at once.
    let equal = [
        n("Equal", "n of77", "e"),
        node("Cast", "e", "c", &[attribute("to", INT64 as i64)]),
        n("Mul", "c many", "m"),
        n("Add", "m one", "r"),
        node("Concat", "r one", "t", &[attribute("axis", 0)]),
        n("Tile", "X t", "y"),
        n("Relu", "X", "P"),
    ];
    scored(&build(&[&rows[..], &equal].concat(), &some(), 2), 2, 2);
    // The first three rows cut off, then each repeated a billion times.
    let cut = [
        n("Slice", "X three many zero", "c"),
        node("Concat", "one billion", "t", &[attribute("axis", 0)]),
        n("Tile", "c t", "y"),
    ];
    refused(&cut, &some(), LARGE);
}

#[test]
fn sizes_are_those_of_every_runtime() {
    let n = |operator: &str, inputs: &str, output: &str| node(operator, inputs, output, &[]);
    // Numbers of 32 bits wrap to none where those of 64 do not; where overflows are checked, that
    // is a panic.
    let wrapped = if cfg!(debug_assertions) { "overflow" } else { ALIKE };
    let wraps = [n("Mul", "w w", "m"), n("Add", "m one", "r"), n("ConstantOfShape", "r", "y")];
    refused(&wraps, &[&some()[..], &[ints("w", &[1 << 16])]].concat(), wrapped);
    // Numbers of 32 bits end where those of 64 do not.
    let ends = [n("Div", "w v", "d"), n("ConstantOfShape", "d", "y")];
    refused(&ends, &[ints("w", &[1 << 62]), ints("v", &[1 << 31])], ALIKE);
    let curved = [
        node("Cast", "of77", "f", &[attribute("to", FLOAT as i64)]),
        n("Exp", "f", "e"),
        node("Cast", "e", "i", &[attribute("to", INT64 as i64)]),
        n("ConstantOfShape", "i", "y"),
    ];
    refused(&curved, &some(), ALIKE);
    let doubles = [
        node("Cast", "of77", "f", &[attribute("to", 11)]),
        node("Cast", "f", "i", &[attribute("to", INT64 as i64)]),
        n("ConstantOfShape", "i", "y"),
    ];
    refused(&doubles, &some(), ALIKE);
}

#[test]
fn what_a_file_says_of_sizes_is_not_believed() {
    let n = |operator: &str, inputs: &str, output: &str| node(operator, inputs, output, &[]);
    let nodes = [
        n("Relu", "X", "v"),
        n("Shape", "v", "s"),
        n("ConstantOfShape", "s", "z"),
        n("Add", "X z", "P"),
    ];
    let (x, p) = (port("X", FLOAT, &[-1, 2]), port("P", FLOAT, &[-1, 1 << 40]));
    let told = port("v", FLOAT, &[1 << 20, 1 << 20]);
    scored(&file(&with_told(&graph(&nodes, &[], &[x], &[p]), &told)), 2, 2);
}

/// What the operators of the next test work on.
fn given() -> Vec<Vec<u8>> {
    vec![
        floats("i", &[1, 1, 3, 2], &weights(6, 1)),
        floats("w", &[2, 1, 2, 2], &weights(8, 2)),
        floats("u", &[1, 2, 2, 2], &weights(8, 3)),
        floats("l", &[1, 4, 5, 2], &weights(40, 4)),
        floats("m", &[3, 2], &weights(6, 5)),
        floats("n", &[2, 3], &weights(6, 6)),
        list("b", &[1.0, 2.0]),
        list("o", &[1.0]),
        list("v", &[1.0, 2.0]),
        list("f", &[2.5, 3.0]),
        list("values", &[0.0, 1.0]),
        floats("1f", &[], &[1.0]),
        ints("k", &[0]),
        ints("2", &[2]),
        ints("t", &[3, 2]),
        ints("r", &[2, -1]),
        ints("three", &[1, 2]),
        ints("p", &[1, 2, 3, 4]),
        number("0", 0),
        number("1", 1),
        number("4", 4),
    ]
}

/// A rule that says less than what is made is told as such, so a net that is read has kept to all.
#[test]
fn operators_keep_to_their_rules() {
    let axis = [attribute("axis", 0)];
    let plain = "MatMul m n;MatMul v n;MatMul i n;MatMul m v;\
        Gemm m n;Gather m k;Gather i g;GatherElements m g;GatherND m k;Tile m t;Expand v t;\
        ConstantOfShape t;Range 0 4 1;Pad m p;Resize m  f;Resize m   t;OneHot k 4 values;NonZero v;\
        TopK m 2;Shape i;Size i;Slice m k 2 k;ArgMax m;ReduceSum m k;ReduceMean i;Where c m 1f;\
        LayerNormalization m v;BatchNormalization i o o o o;InstanceNormalization i o o;EyeLike m;\
        Trilu m;CumSum m 0;ScatterElements m g h;DynamicQuantizeLinear m;GridSample i l;\
        GlobalMaxPool i;Flatten i;Transpose i;Squeeze i k;Unsqueeze i k;Reshape m r;Softmax m;\
        Clip m 1f;PRelu m v;Mod k 4;Max m v 1f;Mean m v;Pow m v;Identity i;Not c;Neg m;Sqrt m";
    let constants = given();
    let made = [
        node("Unsqueeze", "k k", "g", &[]),
        node("Unsqueeze", "o k", "h", &[]),
        node("Equal", "m m", "c", &[]),
        node("Reshape", "n t", "n2", &[]),
        node("Concat", "m m n2", "cc", &axis),
        node("Split", "m three", "m0 m1", &axis),
    ];
    let window = |operator: &str, inputs: &str, strides: [i64; 2], more: &[Vec<u8>]| {
        let of = [attributes("kernel_shape", &[2, 2]), attributes("strides", &strides)];
        let apart = [attributes("dilations", &[1, 1])];
        let apart = if operator == "AveragePool" { &[] } else { &apart[..] };
        let of = [&of[..], apart, more].concat();
        node(operator, inputs, &format!("w{operator}{}", strides[1]), &of)
    };
    let windows = [
        window("MaxPool", "i", [2, 1], &[attribute("ceil_mode", 1)]),
        window("AveragePool", "i", [1, 1], &[attributes("pads", &[1; 4])]),
        window("Conv", "i w", [2, 3], &[attributes("pads", &[3; 4])]),
        window("Conv", "i w", [2, 2], &[text("auto_pad", "SAME_UPPER")]),
        window("ConvTranspose", "i u", [3, 5], &[attributes("output_padding", &[2, 4])]),
        node("Einsum", "m n", "e", &[text("equation", "ij, jk -> ik")]),
    ];
    let operators = plain.split(';').map(|words| {
        let (operator, inputs) = words.trim().split_once(' ').unwrap();
        let outputs = match operator {
            "TopK" => "y z",
            "DynamicQuantizeLinear" => "y z u8",
            _ => "y",
        };
        node(operator, inputs, outputs, &[])
    });
    let mut errors = Vec::new();
    for (at, operator) in operators.chain(windows).enumerate() {
        let nodes = [&made[..], &[operator, node("Relu", "X", "P", &[])]].concat();
        if let Err(error) = net(&build(&nodes, &constants, 2), 2) {
            errors.push(format!("{at}: {error}"));
        }
    }
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn graphs_that_are_none_are_refused() {
    let n = |operator: &str, inputs: &str, output: &str| node(operator, inputs, output, &[]);
    refused(&[n("Relu", "b", "c"), n("Relu", "X", "b")], &[], "behind those");
    let later = [n("ConstantOfShape", "many", "c"), n("Neg", "c", "b")];
    refused(&[&[n("Relu", "X", "b")], &later[..]].concat(), &some(), "one value `b`");
    refused(&[n("Relu", "X", "w")], &[list("w", &[1.0])], "one value `w`");
    refused(&[], &[list("w", &[1.0]), list("w", &[1.0])], "one constant `w`");
    refused(&[n("Relu", "X X".repeat(5000).trim(), "b")], &[], "at most 4096");
    refused(&vec![n("Relu", "X", "b"); 5000], &[], "at most 4096");
    let twice = ["axis"; 2].map(|name| attribute(name, 1));
    refused(&[node("Softmax", "X", "b", &twice)], &[], "one attribute `axis`");
    refused(&[n("NoSuchOperator", "X", "b")], &[], "NoSuchOperator");
    refused(&[n("SequenceEmpty", "", "b")], &[], "known beforehand, found `SequenceEmpty`");
    refused(&[n("Reshape", "X s", "b")], &[ints("s", &[1; 40])], "");
    refused(&[n("ConstantOfShape", "s", "b")], &[ints("s", &[1; 40])], "dimensions");
    let foreign = [node("Relu", "X", "b", &[]), super::onnx::domain("com.example")].concat();
    refused(&[foreign], &[], "com.example/Relu");
}
