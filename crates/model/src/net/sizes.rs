//! How much memory an operator may take at most, told from what goes into it.
//!
//! Each operator has a rule for the elements of its outputs and for what it needs beside them while
//! it computes. Rules err on the large side, but never on the small one: an operator runs only
//! after its rule has said that it may. A dimension of none counts as one, since a sum over none of
//! a million columns is a million sums.

use super::file::Node;

/// Numbers of the element types whose values every runtime holds alike: floats, whole numbers of 32
/// and of 64 bits, truth values.
pub(super) const ALIKE: [u64; 4] = [1, 6, 7, 9];

/// How the elements of the outputs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// As many as all inputs have when each is spread over the others.
    Spread,
    /// As many as the first input has, for each output.
    First,
    /// As many as the first input has, for all outputs together.
    Parts,
    /// One for each dimension of the first input.
    Dims,
    Concat,
    MatMul,
    Gemm,
    Conv,
    ConvTranspose,
    Pool,
    Gather,
    /// As many as the second input has.
    Second,
    GatherNd,
    GridSample,
    Tile,
    Expand,
    Fill,
    Range,
    Pad,
    Resize,
    OneHot,
    TopK,
    NonZero,
    Recurrent,
    Einsum,
}

/// What is known of an operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    rule: Rule,
    /// Which inputs decide by their values how large outputs are.
    pub(super) controls: &'static [usize],
    /// Whether every runtime computes the same numbers, to the last bit.
    pub(super) is_exact: bool,
}

/// What goes into an operator.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The operator.
    pub(super) node: &'a Node<'a>,
    /// Dimensions of the inputs, where they are there.
    pub(super) inputs: Vec<Option<Vec<usize>>>,
    /// Values of those inputs that decide.
    pub(super) values: Vec<Option<Vec<f64>>>,
}

/// What an operator takes at most, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// All outputs together.
    pub(super) outputs: u64,
    /// What is needed beside inputs and outputs.
    pub(super) beside: u64,
}

/// Operators that one rule holds for.
struct Known {
    rule: Rule,
    controls: &'static [usize],
    is_exact: bool,
    /// Their names, with spaces between them.
    names: &'static str,
}

/// All that are known.
const KNOWN: &[Known] = &[
    Known {
        rule: Rule::Spread,
        controls: &[],
        is_exact: true,
        names: "Abs Add And Ceil Div Equal Floor Greater GreaterOrEqual Less \
            LessOrEqual Max Min Mod Mul Neg Not Or Sub Where Xor",
    },
    Known {
        rule: Rule::First,
        controls: &[],
        is_exact: true,
        names: "Cast Flatten Identity Size Transpose",
    },
    Known {
        rule: Rule::First,
        controls: &[1],
        is_exact: true,
        names: "ReduceMax ReduceMin ReduceProd Reshape Squeeze Unsqueeze",
    },
    Known { rule: Rule::First, controls: &[1, 2, 3, 4], is_exact: true, names: "Slice" },
    Known { rule: Rule::Parts, controls: &[1], is_exact: true, names: "Split" },
    Known { rule: Rule::Dims, controls: &[], is_exact: true, names: "Shape" },
    Known { rule: Rule::Concat, controls: &[], is_exact: true, names: "Concat" },
    Known { rule: Rule::Gather, controls: &[], is_exact: true, names: "Gather" },
    Known { rule: Rule::Tile, controls: &[1], is_exact: true, names: "Tile" },
    Known { rule: Rule::Expand, controls: &[1], is_exact: true, names: "Expand" },
    Known { rule: Rule::Fill, controls: &[0], is_exact: true, names: "ConstantOfShape" },
    Known { rule: Rule::Range, controls: &[0, 1, 2], is_exact: true, names: "Range" },
    Known {
        rule: Rule::Spread,
        controls: &[],
        is_exact: false,
        names: "Acos Acosh Asin Asinh Atan Atanh BatchNormalization Cos Cosh \
            DequantizeLinear Elu Erf Exp Gelu HardSigmoid HardSwish \
            InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Log Mean \
            PRelu Pow QuantizeLinear RMSNormalization Reciprocal Relu Round Sigmoid \
            Sign Sin Sinh Softplus Softsign Sqrt Sum Swish Tan Tanh",
    },
    Known {
        rule: Rule::First,
        controls: &[],
        is_exact: false,
        names: "ArgMax ArgMin CastLike Clip CumSum DepthToSpace DynamicQuantizeLinear \
            EyeLike GlobalAveragePool GlobalMaxPool LogSoftmax LpNormalization \
            ReverseSequence Scatter ScatterElements ScatterND Softmax Trilu",
    },
    Known {
        rule: Rule::First,
        controls: &[1],
        is_exact: false,
        names: "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceSum \
            ReduceSumSquare",
    },
    Known { rule: Rule::TopK, controls: &[1], is_exact: false, names: "TopK" },
    Known { rule: Rule::MatMul, controls: &[], is_exact: false, names: "MatMul MatMulInteger" },
    Known { rule: Rule::Gemm, controls: &[], is_exact: false, names: "Gemm" },
    Known { rule: Rule::Conv, controls: &[], is_exact: false, names: "Conv ConvInteger" },
    Known { rule: Rule::ConvTranspose, controls: &[], is_exact: false, names: "ConvTranspose" },
    Known { rule: Rule::Pool, controls: &[], is_exact: false, names: "AveragePool MaxPool" },
    Known { rule: Rule::Second, controls: &[], is_exact: false, names: "GatherElements" },
    Known { rule: Rule::GatherNd, controls: &[], is_exact: false, names: "GatherND" },
    Known { rule: Rule::GridSample, controls: &[], is_exact: false, names: "GridSample" },
    Known { rule: Rule::Pad, controls: &[1, 3], is_exact: false, names: "Pad" },
    Known { rule: Rule::Resize, controls: &[1, 2, 3], is_exact: false, names: "Resize" },
    Known { rule: Rule::Resize, controls: &[1], is_exact: false, names: "Upsample" },
    Known { rule: Rule::OneHot, controls: &[1], is_exact: false, names: "OneHot" },
    Known { rule: Rule::NonZero, controls: &[0], is_exact: false, names: "NonZero" },
    Known { rule: Rule::Recurrent, controls: &[], is_exact: false, names: "GRU LSTM" },
    Known { rule: Rule::Einsum, controls: &[], is_exact: false, names: "Einsum" },
];

/// What is known of an operator of ONNX, if anything is.
pub(super) fn kind(operator: &str) -> Option<Kind> {
    let known = KNOWN.iter().find(|known| known.names.split(' ').any(|name| name == operator))?;
    Some(Kind { rule: known.rule, controls: known.controls, is_exact: known.is_exact })
}

/// The elements of a tensor.
pub(super) fn elements(dims: &[usize]) -> u64 {
    product(dims.iter().map(|&dim| dim as u64))
}

fn product(of: impl IntoIterator<Item = u64>) -> u64 {
    of.into_iter().fold(1, |product: u64, dim| product.saturating_mul(dim.max(1)))
}

/// A number of elements from a value of the graph; what is no number is as large as can be.
fn count(value: f64) -> u64 {
    if value.is_nan() { u64::MAX } else { value.max(0.0) as u64 }
}

impl Kind {
    /// What a call takes at most, or `None` where its inputs are none that the operator has.
    pub(super) fn need(self, call: &Call<'_>) -> Option<Need> {
        let each = call.node.outputs.len().max(1) as u64;
        let of = |outputs, beside| Some(Need { outputs, beside });
        match self.rule {
            Rule::Spread => of(call.spread(&[])?.saturating_mul(each), 0),
            Rule::First => of(elements(call.dims(0)?).saturating_mul(each), 0),
            Rule::Parts => of(elements(call.dims(0)?), 0),
            Rule::Dims => of(call.dims(0)?.len().max(1) as u64, 0),
            Rule::Concat => of(call.inputs.iter().flatten().map(|dims| elements(dims)).sum(), 0),
            Rule::MatMul => of(call.matmul()?, 0),
            Rule::Gemm => of(call.gemm()?, 0),
            Rule::Conv => call.conv(),
            Rule::ConvTranspose => call.conv_transpose(),
            Rule::Pool => of(call.pool()?.saturating_mul(each), 0),
            Rule::Gather => of(call.gather()?, 0),
            Rule::Second => of(elements(call.dims(1)?), 0),
            Rule::GatherNd => of(call.gather_nd()?, 0),
            Rule::GridSample => of(call.grid_sample()?, 0),
            Rule::Tile => of(elements(call.dims(0)?).saturating_mul(call.fill(1)?), 0),
            Rule::Expand => of(call.spread(call.values(1)?)?, 0),
            Rule::Fill => of(call.fill(0)?, 0),
            Rule::Range => of(call.range()?, 0),
            Rule::Pad => of(call.pad()?, 0),
            Rule::Resize => of(call.resize()?, 0),
            Rule::OneHot => {
                let depth = count(call.values(1)?.first().copied()?);
                of(elements(call.dims(0)?).saturating_mul(depth.max(1)), 0)
            }
            // Some make room for what they are asked for before they look at what there is.
            Rule::TopK => of(call.top()?.saturating_mul(each), 0),
            Rule::NonZero => {
                let dims = call.dims(0)?;
                of(elements(dims).saturating_mul(dims.len().max(1) as u64), 0)
            }
            Rule::Recurrent => {
                let made = call.recurrent()?;
                // Four gates, before and after their functions.
                of(made.saturating_mul(each), made.saturating_mul(8))
            }
            Rule::Einsum => call.einsum().map(|all| Need { outputs: all, beside: all }),
        }
    }
}

impl Call<'_> {
    fn dims(&self, input: usize) -> Option<&[usize]> {
        self.inputs.get(input)?.as_deref()
    }

    fn values(&self, input: usize) -> Option<&[f64]> {
        self.values.get(input)?.as_deref()
    }

    fn int(&self, name: &str, or: i64) -> i64 {
        self.node.attribute(name).and_then(|attribute| attribute.int).unwrap_or(or)
    }

    /// A number of a list that is an attribute, or this.
    fn listed(&self, name: &str, at: usize, or: u64) -> u64 {
        let attribute = self.node.attribute(name);
        let found = attribute.and_then(|attribute| attribute.ints.get(at));
        found.map_or(or, |&int| int.max(0) as u64)
    }

    /// Product of the largest dimensions, counted from the last, over all inputs and this one.
    fn spread(&self, and: &[f64]) -> Option<u64> {
        let and: Vec<u64> = and.iter().map(|&dim| count(dim)).collect();
        let inputs = self.inputs.iter().flatten();
        let longest = inputs.clone().map(Vec::len).chain([and.len()]).max()?;
        let at = |from_last: usize| {
            let all = inputs.clone().filter_map(move |dims| dims.iter().rev().nth(from_last));
            let all = all.map(|&dim| dim as u64).chain(and.iter().rev().nth(from_last).copied());
            all.max().unwrap_or(1)
        };
        Some(product((0..longest).map(at)))
    }

    fn matmul(&self) -> Option<u64> {
        let (a, b) = (self.dims(0)?, self.dims(1)?);
        // Vectors are rows on the left and columns on the right, whose dimension is summed over.
        let (over_a, rows) = a.split_at(a.len().saturating_sub(2));
        let (over_b, columns) = b.split_at(b.len().saturating_sub(2));
        let at =
            |dims: &[usize], from_last| dims.iter().rev().nth(from_last).map_or(1, |&d| d as u64);
        let over = (0..over_a.len().max(over_b.len())).map(|i| at(over_a, i).max(at(over_b, i)));
        let rows = if rows.len() == 2 { rows[0] } else { 1 };
        let columns = if columns.len() == 2 { columns[1] } else { 1 };
        Some(product(over.chain([rows as u64, columns as u64])))
    }

    fn gemm(&self) -> Option<u64> {
        let (&[a, k], &[l, b]) = (self.dims(0)?, self.dims(1)?) else { return None };
        let rows = if self.int("transA", 0) == 0 { a } else { k };
        let columns = if self.int("transB", 0) == 0 { b } else { l };
        Some(elements(&[rows, columns]))
    }

    /// The places of a window of this size along a dimension after the first two.
    fn places(&self, at: usize, kernel: u64, dim: usize, dims: usize) -> u64 {
        let (dim, stride) = (dim as u64, self.listed("strides", at, 1).max(1));
        let same = dim.div_ceil(stride);
        let pads = self.listed("pads", at, 0) + self.listed("pads", at + dims, 0);
        let reach = self.listed("dilations", at, 1).saturating_mul(kernel.max(1) - 1) + 1;
        let up = u64::from(self.int("ceil_mode", 0) != 0);
        let fixed = (dim + pads).saturating_sub(reach) / stride + 1 + up;
        let is_same =
            self.node.attribute("auto_pad").is_some_and(|pad| pad.text.starts_with(b"SAME"));
        if is_same { same.max(fixed) } else { fixed }
    }

    fn conv(&self) -> Option<Need> {
        let ([rows, _, dims @ ..], [filters, weights @ ..]) = (self.dims(0)?, self.dims(1)?) else {
            return None;
        };
        let kernel = weights.get(1..).filter(|kernel| kernel.len() == dims.len())?;
        let places = dims.iter().zip(kernel).enumerate();
        let places = product(
            places.map(|(at, (&dim, &kernel))| self.places(at, kernel as u64, dim, dims.len())),
        );
        Some(Need {
            outputs: elements(&[*rows, *filters]).saturating_mul(places),
            // A column of inputs for each place, of one row at a time.
            beside: elements(weights).saturating_mul(places),
        })
    }

    fn conv_transpose(&self) -> Option<Need> {
        let ([rows, _, dims @ ..], [_, weights @ ..]) = (self.dims(0)?, self.dims(1)?) else {
            return None;
        };
        let kernel = weights.get(1..).filter(|kernel| kernel.len() == dims.len())?;
        let place = |(at, (&dim, &kernel)): (usize, (&usize, &usize))| {
            let reach = self.listed("dilations", at, 1).saturating_mul((kernel as u64).max(1));
            let more = self.listed("output_padding", at, 0) + reach;
            let told =
                self.listed("output_shape", at, 0).max(self.listed("output_shape", at + 2, 0));
            let apart = self.listed("strides", at, 1).saturating_mul(dim as u64);
            apart.saturating_add(more).max(told)
        };
        let places = product(dims.iter().zip(kernel).enumerate().map(place));
        let filters = weights[0] as u64;
        let groups = self.int("group", 1).max(1) as u64;
        Some(Need {
            outputs: product([*rows as u64, filters, groups, places]),
            beside: elements(weights).saturating_mul(elements(dims)),
        })
    }

    fn pool(&self) -> Option<u64> {
        let [rows, channels, dims @ ..] = self.dims(0)? else { return None };
        let place = |(at, &dim): (usize, &usize)| {
            self.places(at, self.listed("kernel_shape", at, 1), dim, dims.len())
        };
        let places = product(dims.iter().enumerate().map(place));
        Some(elements(&[*rows, *channels]).saturating_mul(places))
    }

    fn gather(&self) -> Option<u64> {
        let (data, indices) = (self.dims(0)?, elements(self.dims(1)?));
        let axis = axis(self.int("axis", 0) as f64, data.len())?;
        let others = data.iter().enumerate().filter(|(at, _)| *at != axis);
        Some(product(others.map(|(_, &dim)| dim as u64)).saturating_mul(indices))
    }

    fn gather_nd(&self) -> Option<u64> {
        let (data, (&picked, indices)) = (self.dims(0)?, self.dims(1)?.split_last()?);
        let first = picked.checked_add(usize::try_from(self.int("batch_dims", 0)).ok()?)?;
        Some(elements(indices).saturating_mul(elements(data.get(first..)?)))
    }

    fn grid_sample(&self) -> Option<u64> {
        let ([rows, channels, ..], [_, grid @ ..]) = (self.dims(0)?, self.dims(1)?) else {
            return None;
        };
        Some(elements(&[*rows, *channels]).saturating_mul(elements(grid)))
    }

    /// The product of the values of an input.
    fn fill(&self, input: usize) -> Option<u64> {
        Some(product(self.values(input)?.iter().map(|&dim| count(dim))))
    }

    fn range(&self) -> Option<u64> {
        let scalar = |input| self.values(input)?.first().copied();
        let (start, limit, step): (f64, f64, f64) = (scalar(0)?, scalar(1)?, scalar(2)?);
        Some(count((limit - start) / step).saturating_add(2))
    }

    fn pad(&self) -> Option<u64> {
        let mut dims: Vec<u64> = self.dims(0)?.iter().map(|&dim| dim as u64).collect();
        let mut pad = |pads: &[f64], axes: &[f64]| {
            for (at, &pad) in pads.iter().enumerate() {
                let axis = axis(axes[at % axes.len()], dims.len())?;
                dims[axis] = dims[axis].saturating_add(count(pad));
            }
            Some(())
        };
        let every: Vec<f64> = (0..self.dims(0)?.len()).map(|axis| axis as f64).collect();
        if let Some(attribute) = self.node.attribute("pads").filter(|_| !every.is_empty()) {
            let pads: Vec<f64> = attribute.ints.iter().map(|&pad| pad as f64).collect();
            pad(&pads, &every)?;
        }
        let axes = self.values(3).unwrap_or(&every);
        if let Some(pads) = self.values(1).filter(|_| !axes.is_empty()) {
            pad(pads, axes)?;
        }
        Some(product(dims))
    }

    fn resize(&self) -> Option<u64> {
        let dims = self.dims(0)?;
        let given = |input| self.values(input).filter(|values: &&[f64]| !values.is_empty());
        // `Upsample` has its scales where `Resize` has what it cuts out, which it may not do here.
        let is_resize = self.node.operator == "Resize";
        let (scales, sizes) = match is_resize {
            true => (given(2), given(3)),
            false => (given(1), None),
        };
        let of_all = [scales, sizes].iter().flatten().all(|values| values.len() == dims.len());
        if !of_all || (scales.is_none() && sizes.is_none()) || (is_resize && given(1).is_some()) {
            return None;
        }
        let scaled = scales.map(|scales| {
            product(dims.iter().zip(scales).map(|(&dim, scale)| count((dim as f64 * scale).ceil())))
        });
        let told = sizes.map(|sizes| product(sizes.iter().map(|&size| count(size))));
        scaled.max(told)
    }

    fn top(&self) -> Option<u64> {
        let dims = self.dims(0)?;
        let axis = axis(self.int("axis", -1) as f64, dims.len())?;
        let asked = count(self.values(1)?.first().copied()?);
        (asked <= dims[axis] as u64).then(|| elements(dims))
    }

    fn recurrent(&self) -> Option<u64> {
        let ([steps, rows, _], [ways, ..], [_, _, hidden]) =
            (self.dims(0)?, self.dims(1)?, self.dims(2)?)
        else {
            return None;
        };
        let hidden = (*hidden as u64).max(self.int("hidden_size", 0).max(0) as u64);
        Some(product([*steps as u64, *rows as u64, (*ways).max(2) as u64, hidden]))
    }

    /// The product of all dimensions that have a letter. No value on the way has a dimension twice.
    fn einsum(&self) -> Option<u64> {
        let equation = str::from_utf8(self.node.attribute("equation")?.text).ok()?;
        let terms = equation.split_once("->").map_or(equation, |(terms, _)| terms);
        let mut letters: Vec<(char, u64)> = Vec::new();
        for (input, term) in terms.split(',').enumerate() {
            let term = term.chars().filter(|letter| !letter.is_whitespace());
            let dims = self.dims(input)?;
            if term.clone().count() != dims.len() || term.clone().any(|letter| letter == '.') {
                return None;
            }
            for (letter, &dim) in term.zip(dims) {
                match letters.iter_mut().find(|(of, _)| *of == letter) {
                    Some((_, most)) => *most = (*most).max(dim as u64),
                    None => letters.push((letter, dim as u64)),
                }
            }
        }
        Some(product(letters.into_iter().map(|(_, dim)| dim)))
    }
}

/// The axis that this number means.
fn axis(value: f64, dims: usize) -> Option<usize> {
    let axis = if value < 0.0 { value + dims as f64 } else { value };
    (axis >= 0.0 && axis < dims as f64).then_some(axis as usize)
}
