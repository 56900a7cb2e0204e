//! What an ONNX file says of itself, looked at before a runtime reads it.
//!
//! A runtime takes a file at its word: it recurses into graphs within graphs, and takes memory for the
//! dimensions that are written there. A stack that overflows or memory that is not there ends the
//! process, and nothing can catch that. So whatever a net of features needs none of is refused here,
//! by the same rules and in the same words for every runtime.

use super::wire::{Damaged, Fields, Value};

/// Number of `FLOAT` among the element types of ONNX.
const FLOAT: u64 = 1;
/// Largest number of elements that a tensor may declare, or that an operator may be told to make: at most
/// 1 GiB of floats.
const MOST_ELEMENTS: u64 = 1 << 28;
/// Largest number among the attributes of an operator. Real ones are kernels, strides, paddings, axes.
const MOST_ATTRIBUTE: u64 = 1 << 20;
/// Operators that make tensors of a size that stands in the values of an input: which one, and whether it
/// is the product of these values that counts, and not the largest.
const MAKERS: [(&[u8], usize, bool); 7] = [
    (b"ConstantOfShape", 0, true),
    (b"Expand", 1, true),
    (b"Tile", 1, true),
    (b"Resize", 3, true),
    (b"Pad", 1, false),
    (b"Range", 1, false),
    (b"OneHot", 1, false),
];

/// A tensor that goes in or comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// Number of the element type, 0 where there is none.
    element: u64,
    /// Its dimensions, where there are any; those without a number are `None`.
    dims: Option<Vec<Option<u64>>>,
}

/// A net's input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// Name of the input.
    pub(super) input: String,
    /// The input's dimensions after the batch.
    pub(super) dims: Vec<usize>,
    /// Whether the net takes one row at a time.
    pub(super) single: bool,
    /// Name of the output.
    pub(super) output: String,
}

/// The name of a constant, and its whole numbers.
type Sizes<'a> = (&'a [u8], Vec<u64>);

/// What of a graph matters here.
#[derive(Default)]
struct Graph<'a> {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    constants: Vec<&'a [u8]>,
    /// The whole numbers of small constants, by name.
    sizes: Vec<Sizes<'a>>,
    nodes: Vec<Fields<'a>>,
}

/// Looks into a file that is to take so many columns.
///
/// # Errors
/// When it is no ONNX file, or not one of these nets, in one sentence.
pub(super) fn look(bytes: &[u8], columns: usize) -> Result<Ports, String> {
    let graph = read(bytes)?;
    for node in &graph.nodes {
        check_node(*node, &graph.sizes)?;
    }
    let mut inputs = graph.inputs;
    inputs.retain(|port| !graph.constants.contains(&port.name.as_bytes()));
    let [input] = inputs.as_slice() else {
        return Err(format!("expected one input, found {}", inputs.len()));
    };
    let (dims, single) = input_dims(input, columns)?;
    let mut tables = graph.outputs.iter().filter(|port| port.is_table());
    let output = tables.next();
    if let (Some(first), Some(second)) = (output, tables.next()) {
        let (first, second) = (first.in_words(), second.in_words());
        return Err(format!(
            "expected one output of floats [N, classes], found {first} and {second}"
        ));
    }
    let output = output.ok_or_else(|| {
        let found: Vec<String> = graph.outputs.iter().map(Port::in_words).collect();
        format!("expected an output of floats [N, classes], found {}", or_none(&found.join(", ")))
    })?;
    Ok(Ports { input: input.name.clone(), dims, single, output: output.name.clone() })
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

impl Port {
    /// Whether it may be one row of floats for each row.
    fn is_table(&self) -> bool {
        self.element == FLOAT && self.dims.as_ref().is_none_or(|dims| dims.len() == 2)
    }

    fn in_words(&self) -> String {
        let dims = self.dims.iter().flatten();
        let dims = dims.map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()));
        let dims = dims.collect::<Vec<_>>().join(", ");
        let what = if self.element == FLOAT { "floats" } else { "another type" };
        format!("`{}` of {what} [{dims}]", self.name)
    }
}

/// The dimensions of an input after the batch, and whether the batch is one row.
fn input_dims(input: &Port, columns: usize) -> Result<(Vec<usize>, bool), String> {
    let refused =
        || format!("expected an input of floats [N, {columns}], found {}", input.in_words());
    let dims = input.dims.as_deref().unwrap_or_default();
    let Some((batch, dims)) = dims.split_first().filter(|_| input.element == FLOAT) else {
        return Err(refused());
    };
    let single = match batch {
        None => false,
        Some(1) => true,
        Some(_) => return Err(refused()),
    };
    let fixed: Option<Vec<usize>> =
        dims.iter().map(|dim| dim.and_then(|dim| usize::try_from(dim).ok())).collect();
    let fixed = fixed.filter(|dims| !dims.is_empty()).ok_or_else(refused)?;
    match fixed.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim)) {
        Some(product) if product == columns && columns > 0 => Ok((fixed, single)),
        _ => Err(refused()),
    }
}

fn damaged(_: Damaged) -> String {
    "expected an ONNX file, found damaged bytes".to_owned()
}

fn read(bytes: &[u8]) -> Result<Graph<'_>, String> {
    let (mut graph, mut versions, mut opsets) = (None, 0, 0);
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Int(_)) => versions += 1,
            (7, Value::Bytes(bytes)) if graph.replace(bytes).is_some() => {
                return Err("expected one graph, found another".to_owned());
            }
            (8, Value::Bytes(_)) => opsets += 1,
            _ => {}
        }
    }
    match graph {
        Some(graph) if versions > 0 && opsets > 0 => read_graph(graph),
        _ => Err("expected an ONNX file, found no version, operator set or graph in it".to_owned()),
    }
}

fn read_graph(bytes: &[u8]) -> Result<Graph<'_>, String> {
    let mut graph = Graph::default();
    for field in Fields(bytes) {
        let (number, value) = field.map_err(damaged)?;
        let bytes = value.bytes();
        match number {
            1 => graph.nodes.push(Fields(bytes)),
            5 => {
                let (name, sizes) = read_tensor(bytes)?;
                graph.constants.push(name);
                graph.sizes.push((name, sizes));
            }
            11 => graph.inputs.push(read_port(bytes)?),
            12 => graph.outputs.push(read_port(bytes)?),
            13 => drop(read_port(bytes)?),
            15 => return Err("expected dense tensors, found a sparse one".to_owned()),
            _ => {}
        }
    }
    for node in &graph.nodes {
        if let Some(constant) = constant(*node)? {
            graph.sizes.push(constant);
        }
    }
    Ok(graph)
}

fn read_port(bytes: &[u8]) -> Result<Port, String> {
    let mut port = Port::default();
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Bytes(name)) => port.name = String::from_utf8_lossy(name).into_owned(),
            (2, Value::Bytes(kind)) => {
                for field in Fields(kind) {
                    match field.map_err(damaged)? {
                        (1, Value::Bytes(tensor)) => read_type(tensor, &mut port)?,
                        (6, _) => {}
                        _ => return Err(format!("expected tensors, found `{}`", port.name)),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(port)
}

fn read_type(bytes: &[u8], port: &mut Port) -> Result<(), String> {
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Int(element)) => port.element = element,
            (2, Value::Bytes(shape)) => {
                let mut dims = Vec::new();
                for dim in Fields(shape) {
                    let (number, dim) = dim.map_err(damaged)?;
                    if number == 1 {
                        dims.push(read_dim(dim.bytes())?);
                    }
                }
                port.dims = Some(dims);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A dimension: a number, or `None` for a name or a negative number.
fn read_dim(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut dim = None;
    for field in Fields(bytes) {
        if let (1, Value::Int(size)) = field.map_err(damaged)? {
            dim = i64::try_from(size).is_ok().then_some(size);
        }
    }
    match dim {
        Some(size) if size > MOST_ELEMENTS => {
            Err(format!("expected dimensions of at most {MOST_ELEMENTS}, found {size}"))
        }
        dim => Ok(dim),
    }
}

/// The name of a constant, and its values where they are 64-bit numbers. Each element takes a byte of the
/// file at the least, or the file does not hold what it declares.
fn read_tensor(bytes: &[u8]) -> Result<Sizes<'_>, String> {
    let (mut name, mut dims, mut values, mut element, mut raw) =
        (&[][..], Vec::new(), Vec::new(), 0, &[][..]);
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, value) => value.ints(&mut dims).map_err(damaged)?,
            (2, Value::Int(found)) => element = found,
            (7, value) => value.ints(&mut values).map_err(damaged)?,
            (8, Value::Bytes(bytes)) => name = bytes,
            (9, Value::Bytes(bytes)) => raw = bytes,
            (13, _) | (14, Value::Int(1)) => {
                return Err("expected tensors in the file, found one in another file".to_owned());
            }
            _ => {}
        }
    }
    let declared = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    if declared.is_none_or(|declared| declared > bytes.len() as u64) {
        return Err(format!(
            "expected tensor `{}` to hold what it declares, found {} bytes for {dims:?}",
            String::from_utf8_lossy(name),
            bytes.len()
        ));
    }
    const INT64: u64 = 7;
    if element == INT64 {
        let (words, _) = raw.as_chunks();
        values.extend(words.iter().map(|word| u64::from_le_bytes(*word)));
    }
    Ok((name, if element == INT64 { values } else { Vec::new() }))
}

/// The name and the whole numbers of a node that is a constant.
fn constant(node: Fields<'_>) -> Result<Option<Sizes<'_>>, String> {
    let (mut name, mut is_constant, mut values) = (None, false, Vec::new());
    for field in node {
        match field.map_err(damaged)? {
            (2, Value::Bytes(output)) => name = Some(output),
            (4, Value::Bytes(operator)) => is_constant = operator == b"Constant",
            (5, Value::Bytes(attribute)) => {
                for field in Fields(attribute) {
                    match field.map_err(damaged)? {
                        (3 | 8, value) => value.ints(&mut values).map_err(damaged)?,
                        (5, Value::Bytes(tensor)) => values.extend(read_tensor(tensor)?.1),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(name.filter(|_| is_constant).map(|name| (name, values)))
}

/// No graph within, no huge attribute, no huge tensor made.
fn check_node(node: Fields<'_>, sizes: &[Sizes<'_>]) -> Result<(), String> {
    let (mut inputs, mut operator, mut attributes) = (Vec::new(), &[][..], Vec::new());
    for field in node {
        match field.map_err(damaged)? {
            (1, Value::Bytes(name)) => inputs.push(name),
            (4, Value::Bytes(name)) => operator = name,
            (5, Value::Bytes(attribute)) => attributes.push(attribute),
            _ => {}
        }
    }
    let name = String::from_utf8_lossy(operator);
    for attribute in attributes {
        let largest = check_attribute(attribute, &name)?;
        if largest > MOST_ATTRIBUTE && operator != b"Constant" {
            return Err(format!(
                "expected attributes of `{name}` of at most {MOST_ATTRIBUTE}, found {largest}"
            ));
        }
    }
    let Some(&(_, input, product)) = MAKERS.iter().find(|maker| maker.0 == operator) else {
        return Ok(());
    };
    let from = inputs.get(input).copied().unwrap_or_default();
    for (_, values) in sizes.iter().filter(|(name, _)| *name == from) {
        let values = values.iter().map(|&value| (value as i64).unsigned_abs().max(1));
        let made = values.fold(1, |a: u64, b| if product { a.saturating_mul(b) } else { a.max(b) });
        if made > MOST_ELEMENTS {
            return Err(format!(
                "expected `{name}` to make at most {MOST_ELEMENTS} elements, found {made}"
            ));
        }
    }
    Ok(())
}

/// The largest whole number of an attribute, or 0. The ends of slices, which mean the last, do not count.
fn check_attribute(bytes: &[u8], operator: &str) -> Result<u64, String> {
    let mut ints = Vec::new();
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (3 | 8, value) => value.ints(&mut ints).map_err(damaged)?,
            (5 | 10, Value::Bytes(tensor)) => drop(read_tensor(tensor)?),
            (6 | 11, _) => {
                return Err(format!(
                    "expected no graph within the graph, found one in `{operator}`"
                ));
            }
            (14 | 15 | 22 | 23, _) => {
                return Err(format!("expected numbers and tensors as attributes of `{operator}`"));
            }
            _ => {}
        }
    }
    let sizes = ints.iter().map(|&int| (int as i64).unsigned_abs());
    Ok(sizes.filter(|&size| size < i64::MAX as u64).max().unwrap_or(0))
}
