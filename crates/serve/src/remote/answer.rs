//! What a server answered, and whether it is what was asked for.

use serveflow_model::remote::{InferenceRequest, RemoteSpec};

/// Largest answer that is read, bytes.
pub(super) const MOST_BYTES: usize = 64 << 20;
/// How far a probability may lie outside of 0 to 1: sums of rounded numbers do.
const ROUNDING: f32 = 1e-3;

/// Why a server gave no answer that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is the server's: another one may do better.
    Server(String),
    /// It is the question's, or the model's: another server would not do better.
    Question(String),
}

/// A tensor that came back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Its dimensions.
    pub(super) shape: Vec<i64>,
    /// Its values.
    pub(super) values: Vec<f32>,
}

/// The index of the output that was asked for: that of its name, or the last.
pub(super) fn choose<'a>(
    names: impl ExactSizeIterator<Item = &'a str>,
    spec: &RemoteSpec,
) -> Result<usize, String> {
    let names: Vec<&str> = names.collect();
    let index = match &spec.output {
        Some(wanted) => names.iter().position(|name| name == wanted),
        None => names.len().checked_sub(1),
    };
    let expected =
        || spec.output.as_ref().map_or("an output".to_owned(), |o| format!("output `{o}`"));
    index.ok_or_else(|| format!("expected {}, found [{}]", expected(), names.join(", ")))
}

/// The values of a tensor that came as bytes.
pub(super) fn from_bytes(datatype: &str, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let size = if is_double(datatype)? { 8 } else { 4 };
    if !bytes.len().is_multiple_of(size) {
        return Err(format!("expected values of {size} bytes, found {} bytes", bytes.len()));
    }
    let value = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
        _ => f32::NAN,
    };
    Ok(bytes.chunks_exact(size).map(value).collect())
}

/// Whether values are of 64 bits; an error where they are neither of 64 nor of 32.
pub(super) fn is_double(datatype: &str) -> Result<bool, String> {
    match datatype {
        "FP32" => Ok(false),
        "FP64" => Ok(true),
        found => Err(format!("datatype: expected FP32 or FP64, found `{found}`")),
    }
}

impl Answer {
    /// The values, if they are a probability for each class of each row.
    pub(super) fn checked(self, request: &InferenceRequest<'_>) -> Result<Vec<f32>, String> {
        let (rows, classes) = (request.rows, request.spec.classes);
        let expected = [rows as i64, classes as i64];
        if self.shape != expected {
            return Err(format!("shape: expected {expected:?}, found {:?}", self.shape));
        }
        if self.values.len() != rows * classes {
            let found = self.values.len();
            return Err(format!("values: expected {}, found {found}", rows * classes));
        }
        let fits = |value: f32| (-ROUNDING..=1.0 + ROUNDING).contains(&value);
        if let Some(index) = self.values.iter().position(|&value| !fits(value)) {
            let found = self.values[index];
            let (row, class) = (index / classes, index % classes);
            return Err(format!("row {row}, class {class}: expected a probability, found {found}"));
        }
        Ok(self.values)
    }
}

/// The dimensions of a request's input.
pub(super) fn input_shape(request: &InferenceRequest<'_>) -> Vec<i64> {
    let behind = request.spec.shape.iter().map(|&size| size as i64);
    std::iter::once(request.rows as i64).chain(behind).collect()
}

/// At most so much of a text that a server sent, in one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_model::binding::Binding;

    fn spec(more: &str) -> RemoteSpec {
        let text = format!("model = \"m\"\ninput = \"X\"\nclasses = 2\n{more}");
        RemoteSpec::read(text.as_bytes(), &Binding::bits(3).unwrap()).unwrap()
    }

    #[test]
    fn an_answer_is_a_probability_for_each_class_of_each_row() {
        let spec = spec("");
        let request = InferenceRequest { spec: &spec, rows: 1, values: &[0.0; 3] };
        let checked = |shape: &[i64], values: &[f32]| {
            Answer { shape: shape.to_vec(), values: values.to_vec() }.checked(&request)
        };
        assert_eq!(checked(&[1, 2], &[0.25, 0.75]), Ok(vec![0.25, 0.75]));
        assert_eq!(checked(&[2], &[0.5; 2]), Err("shape: expected [1, 2], found [2]".to_owned()));
        assert_eq!(checked(&[1, 2], &[0.5]), Err("values: expected 2, found 1".to_owned()));
        for wrong in [f32::NAN, f32::INFINITY, -0.5, 7.0] {
            let error = checked(&[1, 2], &[0.5, wrong]).unwrap_err();
            assert!(error.starts_with("row 0, class 1: expected a probability"), "{error}");
        }
        assert_eq!(input_shape(&request), [1, 3]);
    }

    #[test]
    fn the_output_is_that_of_the_name_or_the_last() {
        let (named, last) = (spec("output = \"p\""), spec(""));
        let of = |names: &[&'static str], spec| choose(names.iter().copied(), spec);
        assert_eq!(of(&["label", "p"], &last), Ok(1));
        assert_eq!(of(&["p", "label"], &named), Ok(0));
        assert!(of(&["q"], &named).unwrap_err().contains("`p`, found [q]"));
        assert!(of(&[], &last).is_err());
    }

    #[test]
    fn bytes_are_numbers_of_32_or_64_bits() {
        let bytes =
            |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(from_bytes("FP32", &bytes(&[0.5, -1.0])), Ok(vec![0.5, -1.0]));
        assert_eq!(from_bytes("FP64", &0.25f64.to_le_bytes()), Ok(vec![0.25]));
        assert!(from_bytes("FP32", &[0; 5]).is_err() && from_bytes("INT64", &[0; 8]).is_err());
        assert_eq!(excerpt(&"ä ".repeat(300)).chars().count(), 203);
    }
}
