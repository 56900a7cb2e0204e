//! Nets: neural networks from ONNX files.
//!
//! A [`Net`] expands a row's columns to floats, hands them to a runtime, and takes class
//! probabilities from it. There are two runtimes. The default one is written in Rust and always
//! there. ONNX Runtime is faster for some nets; it is used when the program is built with the
//! feature `ort` and the operator has named its library, see [`use_onnxruntime`]. What a file may
//! hold, and what memory its graph may take, is checked before a runtime sees it, by the same rules
//! for both.
//!
//! A net is scored by one thread at a time for each caller. Lanes decide how many cores a stage
//! gets, and a runtime that took the others would take them from workers that receive packets.

mod clean;
mod expand;
mod file;
#[cfg(feature = "ort")]
mod onnxruntime;
mod pure;
mod sizes;
mod steps;
mod wire;

use crate::binding::Binding;
use crate::formats::LoadedModel;
use expand::Expander;
use file::Ports;
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{RowShape, Rows, Scores};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// The most classes a net may have: labels are 16 bits wide.
pub const MAX_CLASSES: usize = 1 << 16;
/// Rows that a runtime gets at once at most, a power of two. More are cut into pieces: what a
/// runtime takes for its intermediate values grows with them, and beyond this nothing gets faster.
pub const MOST_ROWS: usize = 256;

/// A neural network from an ONNX file.
///
/// Its one input is of floats, `[N, ...]`: the columns in their order, in the dimensions that the
/// file declares after the batch. Where the file declares a batch of 1, rows are scored one by one.
/// Its answer is the last output of floats `[N, classes]`.
#[derive(Debug)]
pub struct Net {
    columns: Expander,
    /// Dimensions of a row.
    dims: Vec<usize>,
    /// Rows that the runtime gets at once.
    most_rows: usize,
    classes: usize,
    runtime: Runtime,
}

/// What scores a net.
#[derive(Debug)]
enum Runtime {
    Pure(Box<pure::Net>),
    #[cfg(feature = "ort")]
    OnnxRuntime(onnxruntime::Net),
}

/// Takes the dimensions and the values of an output.
type Take<'a> = &'a mut (dyn FnMut(&[usize], &[f32]) -> Result<(), String> + Send);

thread_local! {
    static VALUES: RefCell<Vec<f32>> = RefCell::default();
}

/// From now on, nets are scored by ONNX Runtime, whose library is this file. Nets that are loaded
/// already stay where they are.
///
/// # Errors
/// When the file is no such library, when another was named before, or when the program was built
/// without the feature `ort`.
pub fn use_onnxruntime(path: &Path) -> Result<(), String> {
    #[cfg(feature = "ort")]
    return guarded(|| onnxruntime::use_library(path));
    #[cfg(not(feature = "ort"))]
    Err(format!(
        "{}: expected a program built with the feature `ort`, which scores nets by ONNX Runtime, \
         found one without",
        path.display()
    ))
}

/// Reads a net, for the list of formats.
///
/// # Errors
/// See [`Net::load`].
pub fn load(bytes: &[u8], columns: &Binding) -> LoadedModel {
    Ok(Arc::new(Net::load(bytes, columns)?))
}

impl Net {
    /// Reads a net whose columns are bound so. It scores rows of zeros once, which tells the number
    /// of classes and shows that the runtime knows every operator.
    ///
    /// # Errors
    /// What was expected of the file and what was found, in one sentence.
    pub fn load(bytes: &[u8], columns: &Binding) -> Result<Self, String> {
        let (ports, graph) = file::look(bytes, columns.len())?;
        let file = clean::clean(bytes, &graph, &ports)?;
        let mut net = Self {
            columns: Expander::new(columns),
            dims: ports.dims.clone(),
            most_rows: guarded(|| steps::most_rows(&file, &graph, &ports))?,
            classes: 0,
            runtime: guarded(|| Runtime::open(&file, &ports))?,
        };
        net.classes = net.probe(1, &ports.output)?;
        // A batch that was written into the graph shows only when there are more rows.
        if net.most_rows > 1 && net.probe(2, &ports.output)? != net.classes {
            return Err(format!("expected `{}` of as many classes for each batch", ports.output));
        }
        net.is_alone(&ports.output)?;
        Ok(net)
    }

    /// Whether a row has the same answer beside another one as alone.
    fn is_alone(&self, output: &str) -> Result<(), String> {
        let columns = self.columns.binding().len();
        let value = |at: usize| [-1.0, 0.0, 1.0, 1.0, 0.0][(at * 7 + at / columns * 3) % 5];
        let rows: Vec<f32> = (0..2 * columns).map(value).collect();
        let answer = |values: &[f32], rows: usize| {
            let mut found = Vec::new();
            self.run(values, rows, &mut |_, scores| {
                found.extend_from_slice(scores);
                Ok(())
            })?;
            Ok::<_, String>(found)
        };
        if self.most_rows == 1 {
            return Ok(());
        }
        let both = answer(&rows, 2)?;
        let alone =
            rows.chunks_exact(columns).map(|row| answer(row, 1)).collect::<Result<Vec<_>, _>>()?;
        let apart = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3 * (1.0 + b.abs());
        match both.iter().zip(alone.iter().flatten()).any(apart) {
            true => Err(format!(
                "expected `{output}` to depend on its own row only, found values that depend on \
                 other rows of the batch"
            )),
            false => Ok(()),
        }
    }

    /// The number of classes that so many rows of zeros get.
    fn probe(&self, rows: usize, output: &str) -> Result<usize, String> {
        let mut classes = 0;
        self.run(
            &vec![0.0; rows * self.columns.binding().len()],
            rows,
            &mut |dims, _| match *dims {
                [found, of] if found == rows && (1..=MAX_CLASSES).contains(&of) => {
                    classes = of;
                    Ok(())
                }
                _ => Err(format!(
                    "expected `{output}` of dimensions [{rows}, classes] with 1 to {MAX_CLASSES} \
                 classes for a batch of {rows}, found {dims:?}"
                )),
            },
        )?;
        Ok(classes)
    }

    /// Scores the values of rows.
    fn run(&self, values: &[f32], rows: usize, take: Take<'_>) -> Result<(), String> {
        let mut dims = Vec::with_capacity(1 + self.dims.len());
        dims.push(rows);
        dims.extend(&self.dims);
        guarded(|| self.runtime.run(values, &dims, take))
    }

    /// Scores a piece of a batch.
    fn score_piece(
        &self,
        rows: &Rows,
        (start, len, given): (usize, usize, usize),
        values: &mut Vec<f32>,
        scores: &mut Scores,
    ) -> Result<(), String> {
        let columns = self.columns.binding().len();
        if values.len() < given * columns {
            values.resize(given * columns, 0.0);
        }
        // Rows of zeros fill it up, so that an answer is always the same.
        let values = &mut values[..given * columns];
        values[len * columns..].fill(0.0);
        for (row, values) in values.chunks_exact_mut(columns).take(len).enumerate() {
            self.columns.expand(rows, start + row, values);
        }
        self.run(values, given, &mut |dims, found| {
            if dims != [given, self.classes] {
                return Err(format!(
                    "expected scores of {:?}, found {dims:?}",
                    [given, self.classes]
                ));
            }
            for (row, found) in found.chunks_exact(self.classes).take(len).enumerate() {
                if let Some(score) = found.iter().find(|score| !score.is_finite()) {
                    return Err(format!("expected finite scores, found {score}"));
                }
                scores.row_mut(start + row).copy_from_slice(found);
            }
            Ok(())
        })
    }
}

impl Model for Net {
    fn shape(&self) -> RowShape {
        self.columns.binding().shape()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        assert_eq!(rows.shape(), self.shape(), "rows of the net's shape");
        scores.reset(rows.len(), self.classes);
        let mut values = VALUES.take();
        let mut pieces = pieces(rows.len(), self.most_rows);
        let scored =
            pieces.try_for_each(|piece| self.score_piece(rows, piece, &mut values, scores));
        VALUES.set(values);
        scored.map_err(|message| ScoreError { message })
    }
}

/// Where pieces of a batch start, how many rows they have, and how many a runtime gets for them:
/// powers of two up to this one, some of them not quite full, since few rows cost more each.
fn pieces(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = rows - start;
        let down = 1 << left.checked_ilog2()?;
        let up = left.next_power_of_two();
        let given = most.min(if left * 4 >= up * 3 { up } else { down });
        let len = given.min(left);
        start += len;
        Some((start - len, len, given))
    })
}

impl Runtime {
    fn open(bytes: &[u8], ports: &Ports) -> Result<Self, String> {
        #[cfg(feature = "ort")]
        if let Some(library) = onnxruntime::library() {
            return onnxruntime::Net::open(library, bytes, ports).map(Self::OnnxRuntime);
        }
        pure::Net::open(bytes, ports).map(Box::new).map(Self::Pure)
    }

    fn run(&self, values: &[f32], dims: &[usize], take: Take<'_>) -> Result<(), String> {
        match self {
            Self::Pure(net) => net.run(values, dims, take),
            #[cfg(feature = "ort")]
            Self::OnnxRuntime(net) => net.run(values, dims, take),
        }
    }
}

/// A panic within a runtime is its refusal of a net: a net must not end a worker.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let panicked = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("expected the runtime to score the net, found a panic: {text}"))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_that_cover_a_batch() {
        let all = |rows, most| pieces(rows, most).collect::<Vec<_>>();
        assert_eq!(all(0, 8), []);
        assert_eq!(all(3, 8), [(0, 3, 4)]);
        assert_eq!(all(21, 8), [(0, 8, 8), (8, 8, 8), (16, 4, 4), (20, 1, 1)]);
        assert_eq!(all(3, 1), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]);
        for rows in 0..600 {
            for most in [1, 2, 64, 256] {
                let mut next = 0;
                for (start, len, given) in pieces(rows, most) {
                    assert_eq!(start, next);
                    assert!(given.is_power_of_two() && given <= most);
                    assert!(len <= given && len * 4 >= given * 3);
                    next += len;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
