//! What an ONNX file says of itself, looked at before a runtime reads it.
//!
//! A runtime takes a file at its word: it recurses into graphs within graphs, and takes memory for
//! the dimensions that are written there. A stack that overflows or memory that is not there ends
//! the process, and nothing can catch that. So whatever a net of features needs none of is refused
//! here, by the same rules and in the same words for every runtime.

use super::wire::{Damaged, Fields, Value};
use std::collections::{HashMap, HashSet};

/// Number of `FLOAT` among the element types of ONNX.
const FLOAT: u64 = 1;
/// Largest number among the attributes of an operator. Real ones are kernels, strides, paddings,
/// axes, and runtimes multiply them without a look at overflows.
const MOST_ATTRIBUTE: u64 = 1 << 20;
/// The most attributes of an operator.
const MOST_ATTRIBUTES: usize = 64;
/// The most operators of a graph: runtimes recurse from the last to the first, and stepping through
/// them takes time that grows with their square.
const MOST_NODES: usize = 1 << 12;
/// The most inputs, outputs or listed numbers of an operator: some are held against each other.
pub(super) const MOST_LISTED: usize = 1 << 12;
/// A tensor that goes in or comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// Number of the element type, 0 where there is none.
    pub(super) element: u64,
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

/// A value that stands in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Constant<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Number of its element type.
    pub(super) element: u64,
}

/// An attribute of a node.
#[derive(Debug, Default)]
pub(super) struct Attribute<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its whole number.
    pub(super) int: Option<i64>,
    /// Its list of whole numbers.
    pub(super) ints: Vec<i64>,
    /// Its text.
    pub(super) text: &'a [u8],
    /// The tensor that it holds.
    pub(super) tensor: Option<Constant<'a>>,
}

/// An operator at its place in the graph. A name that is empty is that of an input or an output
/// that is not there.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    /// Name of the operator.
    pub(super) operator: &'a str,
    /// Where the operator is defined; empty for those of ONNX itself.
    pub(super) domain: &'a str,
    /// Names of the inputs.
    pub(super) inputs: Vec<&'a str>,
    /// Names of the outputs.
    pub(super) outputs: Vec<&'a str>,
    /// Attributes.
    pub(super) attributes: Vec<Attribute<'a>>,
}

/// What of a graph matters here.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Values that are there before any node: the numbers of their element types, by name.
    pub(super) constants: HashMap<&'a str, u64>,
    /// Operators in the order of the file, without those that are constants.
    pub(super) nodes: Vec<Node<'a>>,
}

impl<'a> Graph<'a> {
    fn add(&mut self, constant: Constant<'a>) -> Result<(), String> {
        match self.constants.insert(constant.name, constant.element) {
            Some(_) => Err(format!("expected one constant `{}`, found another", constant.name)),
            None => Ok(()),
        }
    }

    /// Whether a value of this name stands in the file.
    pub(super) fn is_constant(&self, name: &str) -> bool {
        self.constants.contains_key(name)
    }
}

impl Node<'_> {
    /// Whether ONNX itself defines the operator.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.domain, "" | "ai.onnx")
    }

    /// The attribute of this name.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'_>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

/// Looks into a file that is to take so many columns.
///
/// # Errors
/// When it is no ONNX file, or not one of these nets, in one sentence.
pub(super) fn look(bytes: &[u8], columns: usize) -> Result<(Ports, Graph<'_>), String> {
    let graph = read(bytes)?;
    let inputs = graph.inputs.iter().filter(|port| !graph.is_constant(&port.name));
    let inputs: Vec<&Port> = inputs.collect();
    let [input] = inputs.as_slice() else {
        return Err(format!("expected one input, found {}", inputs.len()));
    };
    check_names(&graph, &input.name)?;
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
    let ports = Ports { input: input.name.clone(), dims, single, output: output.name.clone() };
    Ok((ports, graph))
}

/// Each value has one name, and each name one value: a runtime that is asked for one of two
/// computes which it likes.
fn check_names(graph: &Graph<'_>, input: &str) -> Result<(), String> {
    let mut names: HashSet<&str> = graph.constants.keys().copied().chain([input]).collect();
    let outputs = graph.nodes.iter().flat_map(|node| &node.outputs);
    match outputs.filter(|name| !name.is_empty()).find(|name| !names.insert(name)) {
        Some(name) => Err(format!("expected one value `{name}`, found another")),
        None => Ok(()),
    }
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

/// What is said of damage.
pub(super) fn damaged(_: Damaged) -> String {
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
            1 => {
                let node = read_node(bytes)?;
                match constant(&node) {
                    Some(constant) => graph.add(constant)?,
                    None => graph.nodes.push(node),
                }
            }
            5 => graph.add(read_tensor(bytes)?)?,
            11 => graph.inputs.push(read_port(bytes)?),
            12 => graph.outputs.push(read_port(bytes)?),
            15 => return Err("expected dense tensors, found a sparse one".to_owned()),
            _ => {}
        }
    }
    match graph.nodes.len() {
        found if found > MOST_NODES => {
            Err(format!("expected at most {MOST_NODES} operators, found {found}"))
        }
        _ => Ok(graph),
    }
}

/// Reads an input or an output.
pub(super) fn read_port(bytes: &[u8]) -> Result<Port, String> {
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
    Ok(dim)
}

/// A constant. Each element takes a byte of the file at the least, or the file does not hold what
/// it declares.
fn read_tensor(bytes: &[u8]) -> Result<Constant<'_>, String> {
    let (mut constant, mut dims) = (Constant::default(), Vec::new());
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, value) => value.ints(&mut dims).map_err(damaged)?,
            (2, Value::Int(found)) => constant.element = found,
            (8, Value::Bytes(bytes)) => constant.name = text(bytes)?,
            (13, _) | (14, Value::Int(1)) => {
                return Err("expected tensors in the file, found one in another file".to_owned());
            }
            _ => {}
        }
    }
    let declared = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim.max(1)));
    match declared {
        Some(declared) if declared <= bytes.len() as u64 => Ok(constant),
        _ => Err(format!(
            "expected tensor `{}` to hold what it declares, found {} bytes for {dims:?}",
            constant.name,
            bytes.len()
        )),
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| damaged(Damaged))
}

/// The constant that a node is, if it is one.
fn constant<'a>(node: &Node<'a>) -> Option<Constant<'a>> {
    let tensors = || node.attributes.iter().filter_map(|attribute| attribute.tensor);
    let is_constant = node.operator == "Constant" && node.is_plain();
    let &name = node.outputs.first().filter(|_| is_constant)?;
    // Without a tensor it is of numbers that every runtime has.
    Some(Constant { name, element: tensors().next().map_or(FLOAT, |tensor| tensor.element) })
}

/// No graph within, no huge attribute, no long list.
fn read_node(bytes: &[u8]) -> Result<Node<'_>, String> {
    let (mut node, mut attributes) = (Node::default(), Vec::new());
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Bytes(name)) => node.inputs.push(text(name)?),
            (2, Value::Bytes(name)) => node.outputs.push(text(name)?),
            (4, Value::Bytes(name)) => node.operator = text(name)?,
            (5, Value::Bytes(attribute)) if attributes.len() < MOST_ATTRIBUTES => {
                attributes.push(attribute);
            }
            (5, _) => {
                return Err(format!("expected at most {MOST_ATTRIBUTES} attributes, found more"));
            }
            (7, Value::Bytes(name)) => node.domain = text(name)?,
            _ => {}
        }
    }
    let name = node.operator;
    for attribute in attributes {
        let attribute = read_attribute(attribute, name)?;
        if node.attribute(attribute.name).is_some() {
            return Err(format!(
                "expected one attribute `{}` of `{name}`, found another",
                attribute.name
            ));
        }
        node.attributes.push(attribute);
    }
    if name == "Constant" {
        return Ok(node);
    }
    let listed = node.attributes.iter().map(|attribute| attribute.ints.len());
    let listed = listed.chain([node.inputs.len(), node.outputs.len()]).max().unwrap_or(0);
    if listed > MOST_LISTED {
        return Err(format!(
            "expected at most {MOST_LISTED} inputs, outputs or numbers of `{name}`, found {listed}"
        ));
    }
    let ints =
        node.attributes.iter().flat_map(|attribute| attribute.ints.iter().chain(&attribute.int));
    // The ends of slices may mean the last.
    let is_end = |size: &u64| name == "Slice" && *size >= i64::MAX as u64;
    let sizes = ints.map(|int| int.unsigned_abs()).filter(|size| !is_end(size));
    match sizes.max() {
        Some(largest) if largest > MOST_ATTRIBUTE => Err(format!(
            "expected attributes of `{name}` of at most {MOST_ATTRIBUTE}, found {largest}"
        )),
        _ => Ok(node),
    }
}

fn read_attribute<'a>(bytes: &'a [u8], operator: &str) -> Result<Attribute<'a>, String> {
    let (mut attribute, mut ints) = (Attribute::default(), Vec::new());
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Bytes(name)) => attribute.name = text(name)?,
            (3, Value::Int(int)) => attribute.int = Some(int as i64),
            (4, Value::Bytes(text)) => attribute.text = text,
            (5, Value::Bytes(tensor)) if attribute.tensor.is_none() => {
                attribute.tensor = Some(read_tensor(tensor)?);
            }
            (8, value) => value.ints(&mut ints).map_err(damaged)?,
            (6 | 11, _) => {
                return Err(format!(
                    "expected no graph within the graph, found one in `{operator}`"
                ));
            }
            (5 | 10 | 14 | 15 | 22 | 23, _) => {
                return Err(format!(
                    "expected numbers or a tensor as attributes of `{operator}`, found more"
                ));
            }
            _ => {}
        }
    }
    attribute.ints = ints.into_iter().map(|int| int as i64).collect();
    Ok(attribute)
}
