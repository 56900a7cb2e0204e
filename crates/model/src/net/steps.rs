//! Whether the memory that a net takes is bounded, found out before a runtime reads its file.
//!
//! A graph may compute how large its values are: repeat a row as often as the product of two
//! constants says, or make a list up to a number. What that comes to is seen only by computing it.
//! So the net is stepped through once for each number of rows that it will ever get, an operator at
//! a time, on rows of zeros. Before an operator runs, a rule tells from the sizes of its inputs
//! what it may take at most (see `sizes`), and it does not run if that is too much.
//!
//! What holds for zeros holds for all rows, since nothing that decides about a size may come from
//! the values of a row. Nor may it come from what another runtime could compute otherwise: the one
//! that steps has whole numbers of 32 bits and floats of 32 bits, and knows of others only that
//! they are not alike.
//!
//! Numbers of rows are powers of two, and other batches are made of them. So no net meets a number
//! of rows that it was not stepped through with, whatever it computes from it.

use super::MOST_ROWS;
use super::file::{Graph, MOST_LISTED, Node, Ports};
use super::pure::{alone, refused};
use super::sizes::{ALIKE, Call, Kind, elements, kind};
use rten::{
    DataType, Dimension, Model, ModelOptions, NodeId, ShapeInferenceMode, Value, ValueOrView,
    ValueType, ValueView,
};
use rten_tensor::prelude::*;
use std::collections::HashMap;

/// The most elements that all values of a run with one row may have together: 1 GiB of floats.
const MOST_ELEMENTS: u64 = 1 << 28;
/// As much with more rows: 64 MiB, beyond which a run with twice the rows takes twice the time or
/// more.
const MOST_WITH_MORE: u64 = 1 << 24;
/// The most dimensions of a value. Runtimes recurse over them, or take memory for each.
const MOST_DIMS: usize = 16;
/// Whole numbers from here on may be others in another runtime.
const LARGE: f64 = (1 << 30) as f64;

/// Why a net is not stepped through.
enum Refusal {
    /// It takes too much memory, with so many rows.
    Large(String),
    /// It is refused, with however many rows.
    Other(String),
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

/// A value of the graph.
struct Held {
    /// The value, or nothing where it stands in the file.
    value: Option<Value>,
    id: NodeId,
    dims: Vec<usize>,
    /// Whether the values of a row go into it.
    from_row: bool,
    /// Whether another runtime may have other numbers.
    is_vague: bool,
}

/// A walk through a graph with some rows.
struct Walk<'a> {
    model: &'a Model,
    /// How many operators still take a value.
    uses: HashMap<&'a str, usize>,
    held: HashMap<&'a str, Held>,
    /// Elements of all values so far.
    total: u64,
    /// The most that they may be.
    most: u64,
}

/// How many rows a net may get at once: the largest power of two up to [`MOST_ROWS`] with which it
/// keeps to the memory that it may take.
///
/// # Errors
/// When there is none, or what it takes is not known beforehand, in one sentence.
pub(super) fn most_rows(file: &[u8], graph: &Graph<'_>, ports: &Ports) -> Result<usize, String> {
    let mut options = ModelOptions::with_all_ops();
    options.enable_optimization(false).shape_inference(ShapeInferenceMode::Off);
    let model = options.load(file.to_vec()).map_err(|error| refused(&error))?;
    let mut most = 0;
    let counts = (0..).map(|power| 1 << power).take_while(|&rows| rows <= MOST_ROWS);
    for rows in counts.take(if ports.single { 1 } else { usize::MAX }) {
        let limit = if rows == 1 { MOST_ELEMENTS } else { MOST_WITH_MORE };
        match Walk::new(&model, graph, limit).run(graph, ports, rows) {
            Ok(()) => most = rows,
            Err(Refusal::Large(_)) if most > 0 => break,
            Err(Refusal::Large(words) | Refusal::Other(words)) => return Err(words),
        }
    }
    Ok(most)
}

impl<'a> Walk<'a> {
    fn new(model: &'a Model, graph: &Graph<'a>, most: u64) -> Self {
        let mut uses = HashMap::new();
        for input in graph.nodes.iter().flat_map(|node| &node.inputs) {
            *uses.entry(*input).or_default() += 1;
        }
        Self { model, uses, held: HashMap::new(), total: 0, most }
    }

    fn run(mut self, graph: &'a Graph<'a>, ports: &'a Ports, rows: usize) -> Result<(), Refusal> {
        for (name, element) in &graph.constants {
            self.hold_constant(name, !ALIKE.contains(element))?;
        }
        let dims: Vec<usize> = [rows].iter().chain(&ports.dims).copied().collect();
        self.take(elements(&dims), || format!("{rows} rows"))?;
        // An input that no operator takes is not in the graph.
        if let Some(id) = self.model.find_node(&ports.input) {
            let zeros = vec![0.0_f32; dims.iter().product()];
            let value = Value::from_shape(&dims, zeros).map_err(|error| refused(&error))?;
            let (from_row, is_vague) = (true, true);
            self.hold(&ports.input, Held { value: Some(value), id, dims, from_row, is_vague })?;
        }
        graph.nodes.iter().try_for_each(|node| self.step(node))
    }

    /// Keeps a constant, which the model has.
    fn hold_constant(&mut self, name: &'a str, is_vague: bool) -> Result<(), Refusal> {
        let Some(id) = self.model.find_node(name) else { return Ok(()) };
        let info = self.model.node_info(id);
        let dims = info.and_then(|info| info.shape()).unwrap_or_default();
        let dims = dims.into_iter().map(|dim| match dim {
            Dimension::Fixed(dim) => dim,
            Dimension::Symbolic(_) => 0,
        });
        let dims = dims.collect();
        self.hold(name, Held { value: None, id, dims, from_row: false, is_vague })
    }

    /// Counts elements that are about to be made.
    fn take(&mut self, made: u64, by: impl Fn() -> String) -> Result<(), Refusal> {
        self.total = self.total.saturating_add(made);
        match self.total {
            found if found > self.most => Err(Refusal::Large(format!(
                "expected at most {} elements of all values, found up to {found} with those of {}",
                self.most,
                by()
            ))),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, name: &'a str, held: Held) -> Result<(), Refusal> {
        let found = held.dims.len();
        if found > MOST_DIMS {
            let words =
                format!("expected at most {MOST_DIMS} dimensions of `{name}`, found {found}");
            return Err(words.into());
        }
        self.held.insert(name, held);
        Ok(())
    }
}

impl<'a> Walk<'a> {
    /// Runs an operator, if it may.
    fn step(&mut self, node: &'a Node<'a>) -> Result<(), Refusal> {
        let operator = node.operator;
        let kind = kind(operator).filter(|_| node.is_plain()).ok_or_else(|| {
            format!("expected operators whose sizes are known beforehand, found `{operator}`")
        })?;
        let call = self.call(node, kind)?;
        let need = kind.need(&call).ok_or_else(|| {
            format!("expected inputs that `{operator}` takes, found {:?}", call.inputs)
        })?;
        let before = self.total;
        let by = || format!("`{operator}`");
        self.take(need.outputs.saturating_add(need.beside), by)?;
        self.total = before;
        let from_row = !is_of_dims(node) && self.inputs(node).any(|input| input.from_row);
        let is_vague = from_row || self.is_vague(node, kind)?;
        let made = self.compute(node)?;
        let found: u64 = made.iter().map(|(_, _, value)| elements(value.shape().as_ref())).sum();
        if found > need.outputs {
            let most = need.outputs;
            let words = format!("expected at most {most} elements of `{operator}`, found {found}");
            return Err(words.into());
        }
        self.take(found, by)?;
        self.release(node);
        for (name, id, value) in made {
            let dims = value.shape().to_vec();
            // What nobody takes is not kept.
            let value = self.uses.contains_key(name).then_some(value);
            self.hold(name, Held { value, id, dims, from_row, is_vague })?;
        }
        Ok(())
    }

    fn inputs(&self, node: &Node<'a>) -> impl Iterator<Item = &Held> {
        node.inputs.iter().filter_map(|name| self.held.get(name))
    }

    /// What goes into an operator, if what decides about its outputs is known beforehand.
    fn call(&self, node: &'a Node<'a>, kind: Kind) -> Result<Call<'a>, Refusal> {
        let operator = node.operator;
        let mut call = Call { node, inputs: Vec::new(), values: Vec::new() };
        for (at, &name) in node.inputs.iter().enumerate() {
            if name.is_empty() {
                call.inputs.push(None);
                call.values.push(None);
                continue;
            }
            let input = self.held.get(name).ok_or_else(|| {
                format!(
                    "expected operators behind those whose values they take, found `{operator}` \
                     before `{name}`"
                )
            })?;
            call.inputs.push(Some(input.dims.clone()));
            let decides = kind.controls.contains(&at);
            let values = if decides { Some(self.deciding(input, name, operator)?) } else { None };
            call.values.push(values);
        }
        Ok(call)
    }

    /// The numbers of a value that decides about sizes.
    fn deciding(&self, value: &Held, name: &str, operator: &str) -> Result<Vec<f64>, Refusal> {
        let expected = if value.from_row {
            "sizes that do not depend on the values of a row"
        } else if value.is_vague {
            "sizes that every runtime computes alike"
        } else if let Some(numbers) = self.numbers(value)? {
            return Ok(numbers);
        } else {
            "sizes of a few numbers"
        };
        Err(format!("expected {expected}, found `{operator}` with `{name}`").into())
    }

    /// The numbers of a value, unless they are very many.
    fn numbers(&self, of: &Held) -> Result<Option<Vec<f64>>, Refusal> {
        if elements(&of.dims) > MOST_LISTED as u64 {
            return Ok(None);
        }
        if let Some(value) = &of.value {
            return Ok(Some(as_numbers(value)));
        }
        let found = self.model.run(Vec::new(), &[of.id], Some(alone()));
        let found = found.map_err(|error| refused(&error))?;
        Ok(found.first().map(as_numbers))
    }

    fn is_of_floats(&self, of: &Held) -> bool {
        let told = || self.model.node_info(of.id).and_then(|info| info.dtype());
        let kind = of.value.as_ref().map(Value::dtype).or_else(told);
        kind == Some(ValueType::Tensor(DataType::Float))
    }

    /// Whether another runtime may compute other numbers.
    fn is_vague(&self, node: &Node<'a>, kind: Kind) -> Result<bool, Refusal> {
        let mut made_of = node.attributes.iter().filter_map(|attribute| attribute.tensor);
        let to = node.attribute("to").and_then(|attribute| attribute.int);
        // Some divide by multiplying, which rounds otherwise.
        let divides = |input: &Held| node.operator == "Div" && self.is_of_floats(input);
        let is_other = !kind.is_exact
            || self.inputs(node).any(|input| input.is_vague || divides(input))
            || made_of.any(|tensor| !ALIKE.contains(&tensor.element))
            || to.is_some_and(|to| ![1, 6, 7].contains(&to));
        match node.operator {
            "Shape" | "Size" => Ok(false),
            _ if is_other => Ok(true),
            _ => self.is_large(node),
        }
    }

    /// Whether what goes into an operator, or may come out, is larger than what every runtime
    /// holds. A number that is none is, too.
    fn is_large(&self, node: &Node<'a>) -> Result<bool, Refusal> {
        let mut most = Vec::new();
        // From where to where a slice goes is held against the dimensions.
        let counting = if node.operator == "Slice" { 1 } else { usize::MAX };
        for input in self.inputs(node).take(counting) {
            let Some(numbers) = self.numbers(input)? else { return Ok(true) };
            if !numbers.iter().all(|number| number.abs() < LARGE) {
                return Ok(true);
            }
            most.push(numbers.iter().fold(0.0, |most: f64, number| most.max(number.abs())));
        }
        let reach = match node.operator {
            "Add" | "Sub" => most.iter().sum(),
            "Mul" => most.iter().product(),
            "ReduceProd" => {
                let factors = self.inputs(node).next().map_or(1, |input| elements(&input.dims));
                most.first().copied().unwrap_or(0.0).powf(factors as f64)
            }
            _ => 0.0,
        };
        Ok(reach >= LARGE)
    }

    /// Runs an operator: the names of its outputs, and what they are.
    fn compute(&self, node: &Node<'a>) -> Result<Vec<(&'a str, NodeId, Value)>, Refusal> {
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = Vec::new();
        for input in self.inputs(node) {
            let is_new = inputs.iter().all(|(id, _)| *id != input.id);
            if let Some(value) = input.value.as_ref().filter(|_| is_new) {
                inputs.push((input.id, ValueView::from(value).into()));
            }
        }
        let names = node.outputs.iter().filter(|name| !name.is_empty());
        let ids = names.clone().map(|name| self.model.node_id(name));
        let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|error| refused(&error))?;
        let made = self.model.run(inputs, &ids, Some(alone()));
        let operator = node.operator;
        let made = made.map_err(|error| refused(&format_args!("`{operator}`: {error}")))?;
        Ok(names.copied().zip(ids).zip(made).map(|((name, id), value)| (name, id, value)).collect())
    }

    /// Lets go of values that no operator takes any more.
    fn release(&mut self, node: &Node<'a>) {
        for name in &node.inputs {
            let Some(left) = self.uses.get_mut(name) else { continue };
            *left -= 1;
            if let (0, Some(held)) = (*left, self.held.get_mut(name)) {
                held.value = None;
            }
        }
    }
}

/// Whether an operator takes the dimensions of its input alone.
fn is_of_dims(node: &Node<'_>) -> bool {
    matches!(node.operator, "Shape" | "Size")
}

fn as_numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::FloatTensor(of) => of.iter().map(|&number| f64::from(number)).collect(),
        Value::Int32Tensor(of) => of.iter().map(|&number| f64::from(number)).collect(),
        Value::Int8Tensor(of) => of.iter().map(|&number| f64::from(number)).collect(),
        Value::UInt8Tensor(of) => of.iter().map(|&number| f64::from(number)).collect(),
        _ => Vec::new(),
    }
}
