//! Small ONNX files made by hand: just enough of Protocol Buffers to write a graph.
#![allow(dead_code, unreachable_pub)]

/// Element types.
pub const FLOAT: u64 = 1;
pub const INT64: u64 = 7;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn int(field: u64, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(value as u64, &mut out);
    out
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 2, &mut out);
    varint(value.len() as u64, &mut out);
    out.extend(value);
    out
}

fn constant(name: &str, dims: &[i64], element: u64, raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| int(1, dim)).collect();
    [dims, int(2, element as i64), bytes(8, name.as_bytes()), bytes(9, raw)].concat()
}

/// A constant of floats.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    constant(name, dims, FLOAT, &raw)
}

/// A list of whole numbers as a constant.
pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    constant(name, &[values.len() as i64], INT64, &raw)
}

/// A list of floats as a constant.
pub fn list(name: &str, values: &[f32]) -> Vec<u8> {
    floats(name, &[values.len() as i64], values)
}

/// A whole number without dimensions as a constant.
pub fn number(name: &str, value: i64) -> Vec<u8> {
    constant(name, &[], INT64, &value.to_le_bytes())
}

/// A text as an attribute.
pub fn text(name: &str, value: &str) -> Vec<u8> {
    [bytes(1, name.as_bytes()), bytes(4, value.as_bytes()), int(20, 3)].concat()
}

/// A whole number as an attribute.
pub fn attribute(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), int(3, value), int(20, 2)].concat()
}

/// Whole numbers as an attribute.
pub fn attributes(name: &str, values: &[i64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|&value| int(8, value)).collect();
    [bytes(1, name.as_bytes()), values, int(20, 7)].concat()
}

/// A graph as an attribute.
pub fn graph_attribute(name: &str, graph: &[u8]) -> Vec<u8> {
    [bytes(1, name.as_bytes()), bytes(6, graph), int(20, 5)].concat()
}

/// A node: names of inputs and outputs are separated by spaces; two of them leave one out.
pub fn node(operator: &str, inputs: &str, outputs: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let names = |field, names: &str| -> Vec<u8> {
        let names = names.split(' ').filter(|_| !names.is_empty());
        names.flat_map(|name| bytes(field, name.as_bytes())).collect()
    };
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
    [names(1, inputs), names(2, outputs), bytes(4, operator.as_bytes()), attributes].concat()
}

/// An input or an output. A dimension of -1 is the batch.
pub fn port(name: &str, element: u64, dims: &[i64]) -> Vec<u8> {
    let dim = |&dim: &i64| bytes(1, &if dim < 0 { bytes(2, b"N") } else { int(1, dim) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [int(1, element as i64), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// A graph.
pub fn graph(
    nodes: &[Vec<u8>],
    constants: &[Vec<u8>],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
) -> Vec<u8> {
    let all =
        |field, of: &[Vec<u8>]| of.iter().flat_map(|of| bytes(field, of)).collect::<Vec<u8>>();
    [all(1, nodes), bytes(2, b"net"), all(5, constants), all(11, inputs), all(12, outputs)].concat()
}

/// Where the operator of a node is defined.
pub fn domain(name: &str) -> Vec<u8> {
    bytes(7, name.as_bytes())
}

/// A graph that also tells dimensions of a value within.
pub fn with_told(graph: &[u8], port: &[u8]) -> Vec<u8> {
    [graph, &bytes(13, port)].concat()
}

/// A file.
pub fn file(graph: &[u8]) -> Vec<u8> {
    [int(1, 8), bytes(7, graph), bytes(8, &[bytes(1, b""), int(2, 17)].concat())].concat()
}

/// Numbers between -1 and 1 that look random.
pub fn weights(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2_147_483_648.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// `softmax(relu(X A + a) B + b)`: 40 columns, 8 hidden, 3 classes; the batch is this.
pub fn mlp(batch: i64) -> Vec<u8> {
    let constants = [
        floats("A", &[40, 8], &weights(320, 1)),
        floats("a", &[8], &weights(8, 2)),
        floats("B", &[8, 3], &weights(24, 3)),
        floats("b", &[3], &weights(3, 4)),
    ];
    let nodes = [
        node("Gemm", "X A a", "h", &[]),
        node("Relu", "h", "r", &[]),
        node("Gemm", "r B b", "l", &[]),
        node("Softmax", "l", "P", &[attribute("axis", 1)]),
    ];
    let (x, p) = (port("X", FLOAT, &[batch, 40]), port("P", FLOAT, &[batch, 3]));
    file(&graph(&nodes, &constants, &[x], &[p]))
}

/// A convolution over two series of 16, four filters of three, then 3 classes.
pub fn cnn() -> Vec<u8> {
    let constants = [
        floats("K", &[4, 2, 3], &weights(24, 5)),
        floats("k", &[4], &weights(4, 6)),
        floats("B", &[64, 3], &weights(192, 7)),
        floats("b", &[3], &weights(3, 8)),
    ];
    let nodes = [
        node(
            "Conv",
            "X K k",
            "c",
            &[attributes("kernel_shape", &[3]), attributes("pads", &[1, 1])],
        ),
        node("Relu", "c", "r", &[]),
        node("Flatten", "r", "f", &[attribute("axis", 1)]),
        node("Gemm", "f B b", "l", &[]),
        node("Softmax", "l", "P", &[attribute("axis", 1)]),
    ];
    let (x, p) = (port("X", FLOAT, &[-1, 2, 16]), port("P", FLOAT, &[-1, 3]));
    file(&graph(&nodes, &constants, &[x], &[p]))
}

/// One operator and its constants between 2 columns and an output of these dimensions.
pub fn one(node: Vec<u8>, constants: &[Vec<u8>], dims: &[i64]) -> Vec<u8> {
    file(&graph(&[node], constants, &[port("X", FLOAT, &[-1, 2])], &[port("P", FLOAT, dims)]))
}
