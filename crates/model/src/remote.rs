//! A model that answers elsewhere: on a server that speaks the Open Inference Protocol.
//!
//! The bundle holds what the model is called there and what its tensors look like, a small TOML
//! file:
//!
//! ```toml
//! model = "cnn"
//! input = "X"
//! classes = 11
//! # And, where the defaults do not fit:
//! version = "2"             # none: the server chooses
//! output = "probabilities"  # none: the last output
//! datatype = "INT8"         # FP32, INT8 or UINT8; FP32
//! shape = [10, 96]          # behind the rows; all columns in a line
//! max_rows = 64             # most rows of a request; none: a whole job
//! ```
//!
//! Where servers stand is the operator's, who hands in a connector. Without one, a bundle can be
//! read and checked, and what it asks of such a model fails.

use crate::binding::{Binding, Input};
use crate::model_file::{FormatError, LoadedModel};
use serde::Deserialize;
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// How values are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// Numbers of 32 bits: any column.
    #[default]
    Fp32,
    /// Numbers from -128 to 127: columns of header bits, -1 where absent.
    Int8,
    /// Numbers from 0 to 255: columns that are bits and always there.
    Uint8,
}

impl Datatype {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Int8 => "INT8",
            Self::Uint8 => "UINT8",
        }
    }

    /// Whether it holds each value of a column.
    fn holds(self, input: Input) -> bool {
        match self {
            Self::Fp32 => true,
            Self::Int8 => !matches!(input, Input::Number(_)),
            Self::Uint8 => matches!(input, Input::Bit(_)),
        }
    }
}

/// What a model is called on its server, and what its tensors look like.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSpec {
    /// Its name.
    pub model: String,
    /// Its version; empty leaves it to the server.
    #[serde(default)]
    pub version: String,
    /// Name of the input.
    pub input: String,
    /// Name of the output; none for the last one.
    #[serde(default)]
    pub output: Option<String>,
    /// How values are sent.
    #[serde(default)]
    pub datatype: Datatype,
    /// Dimensions of the input behind the rows.
    #[serde(default)]
    pub shape: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Most rows of a request; none for whole jobs.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// It is no TOML, or not with these keys.
    Written(String),
    /// Something that has to be there is empty.
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A name that cannot stand in an address.
    Name {
        /// The key.
        key: &'static str,
        /// What was found.
        found: String,
    },
    /// The dimensions are those of another number of columns.
    Shape {
        /// Columns of the stage.
        expected: usize,
        /// The dimensions.
        found: Vec<usize>,
    },
    /// A column has values that the datatype does not hold.
    Datatype {
        /// Name of the datatype.
        datatype: &'static str,
        /// Index of the column.
        index: usize,
        /// What the column is, in words.
        column: &'static str,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(message) => f.write_str(message),
            Self::Empty { key } => write!(f, "{key}: expected at least 1, found nothing"),
            Self::Name { key, found } => {
                write!(f, "{key}: expected letters, digits, `.`, `_` and `-`, found `{found}`")
            }
            Self::Shape { expected, found } => {
                write!(f, "shape: expected {expected} columns as a product, found {found:?}")
            }
            Self::Datatype { datatype, index, column } => {
                write!(f, "datatype: column {index} is {column}, which {datatype} does not hold")
            }
        }
    }
}

impl std::error::Error for SpecError {}

impl RemoteSpec {
    /// Reads a spec for columns that are bound so, and checks it.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub fn read(bytes: &[u8], binding: &Binding) -> Result<Self, SpecError> {
        let text = std::str::from_utf8(bytes).map_err(|e| SpecError::Written(e.to_string()))?;
        let spec: Self = toml::from_str(text).map_err(|e| SpecError::Written(e.to_string()))?;
        spec.checked(binding)
    }

    fn checked(mut self, binding: &Binding) -> Result<Self, SpecError> {
        let counts = [("classes", Some(self.classes)), ("max_rows", self.max_rows)];
        let output = self.output.as_deref().unwrap_or("-");
        let names = [("model", self.model.as_str()), ("input", &self.input), ("output", output)];
        let names = names.map(|(key, name)| (key, Some(name.len())));
        let columns = [("columns", Some(binding.len()))];
        if let Some((key, _)) =
            counts.into_iter().chain(names).chain(columns).find(|c| c.1 == Some(0))
        {
            return Err(SpecError::Empty { key });
        }
        for (key, found) in [("model", &self.model), ("version", &self.version)] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !found.bytes().all(fits)
                || found.bytes().all(|byte| byte == b'.') && !found.is_empty()
            {
                return Err(SpecError::Name { key, found: found.clone() });
            }
        }
        if self.shape.is_empty() {
            self.shape = vec![binding.len()];
        }
        let product =
            self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if product != Some(binding.len()) {
            return Err(SpecError::Shape { expected: binding.len(), found: self.shape });
        }
        let misfit = binding.inputs().iter().position(|&input| !self.datatype.holds(input));
        if let Some(index) = misfit {
            let column = match binding.inputs()[index] {
                Input::Number(_) => "a number",
                Input::Ternary { .. } => "-1 where its header is absent",
                Input::Bit(_) => "a bit",
            };
            return Err(SpecError::Datatype { datatype: self.datatype.name(), index, column });
        }
        Ok(self)
    }
}

/// Rows that are to be scored elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct InferenceRequest<'a> {
    /// The model, and what its tensors look like.
    pub spec: &'a RemoteSpec,
    /// Number of rows.
    pub rows: usize,
    /// Their values, row by row.
    pub values: &'a [f32],
}

/// The way to the servers of a model.
pub trait RemoteTransport: Send + Sync + fmt::Debug {
    /// Scores the rows; `scores` becomes `rows` x `classes`. The caller waits, for a bounded time.
    ///
    /// # Errors
    /// When no server gave an answer that holds, with what each said.
    fn infer(&self, request: &InferenceRequest<'_>, scores: &mut Scores) -> Result<(), ScoreError>;
}

/// Why there is no way to the servers of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    /// What is missing, in one sentence.
    pub message: String,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {}

/// Finds the way to the servers of a model.
pub type Connect =
    dyn Fn(&RemoteSpec) -> Result<Arc<dyn RemoteTransport>, ConnectError> + Send + Sync;

/// A model that answers elsewhere.
#[derive(Debug)]
pub struct RemoteModel {
    spec: RemoteSpec,
    binding: Binding,
    transport: Option<Arc<dyn RemoteTransport>>,
}

/// Reads a spec and connects its model, if there is a connector.
///
/// # Errors
/// When the spec is refused, or the connector finds no way.
pub fn load(bytes: &[u8], binding: &Binding, connect: Option<&Connect>) -> LoadedModel {
    let refused = |message: String| FormatError::from(message);
    let spec = RemoteSpec::read(bytes, binding).map_err(|error| refused(error.to_string()))?;
    let transport = connect.map(|connect| connect(&spec)).transpose();
    let transport = transport.map_err(|error| refused(error.message))?;
    Ok(Arc::new(RemoteModel::new(spec, binding.clone(), transport)))
}

thread_local! {
    /// Values of a request, and the scores of one that holds a part of the rows.
    static OWN: RefCell<(Vec<f32>, Scores)> = RefCell::default();
}

impl RemoteModel {
    /// A model whose columns are bound so; without a transport, scoring it fails.
    #[must_use]
    pub fn new(
        spec: RemoteSpec,
        binding: Binding,
        transport: Option<Arc<dyn RemoteTransport>>,
    ) -> Self {
        Self { spec, binding, transport }
    }

    /// Scores as many rows at once as the server takes.
    fn score_parts(
        &self,
        transport: &dyn RemoteTransport,
        rows: &Rows,
        scores: &mut Scores,
        own: &mut (Vec<f32>, Scores),
    ) -> Result<(), ScoreError> {
        let (values, part) = own;
        let most = self.spec.max_rows.unwrap_or(usize::MAX).min(rows.len()).max(1);
        scores.reset(rows.len(), self.spec.classes);
        for start in (0..rows.len()).step_by(most) {
            let count = most.min(rows.len() - start);
            values.resize(count * self.binding.len(), 0.0);
            for (row, out) in values.chunks_exact_mut(self.binding.len()).enumerate() {
                self.binding.expand(rows, start + row, out);
            }
            transport.infer(&InferenceRequest { spec: &self.spec, rows: count, values }, part)?;
            if (part.len(), part.classes()) != (count, self.spec.classes) {
                let message = format!("{}: scores of another number of rows", self.spec.model);
                return Err(ScoreError { message });
            }
            (0..count).for_each(|row| scores.row_mut(start + row).copy_from_slice(part.row(row)));
        }
        Ok(())
    }
}

impl Model for RemoteModel {
    fn shape(&self) -> RowShape {
        self.binding.shape()
    }

    fn classes(&self) -> usize {
        self.spec.classes
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        let Some(transport) = &self.transport else {
            let model = &self.spec.model;
            let message = format!("model `{model}` is remote, and no endpoints are configured");
            return Err(ScoreError { message });
        };
        let mut own = OWN.take();
        let scored = self.score_parts(transport.as_ref(), rows, scores, &mut own);
        OWN.set(own);
        scored
    }
}

#[cfg(test)]
mod tests;
