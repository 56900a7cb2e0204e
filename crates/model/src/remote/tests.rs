use super::*;
use serveflow_core::rows::{BitAt, Column, Place};
use std::sync::Mutex;

const SHAPE: RowShape = RowShape { words: 2, numbers: 1 };

fn binding(names: &[&str]) -> Binding {
    let presence = BitAt { word: 1, bit: 31 };
    let bit = |bit| Place::Bit { value: BitAt { word: 0, bit }, presence };
    let columns = [("a", bit(31)), ("b", bit(30)), ("size", Place::Number(0))];
    let columns = columns.map(|(name, place)| Column { name: name.to_owned(), place });
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    Binding::named(&columns, SHAPE, &names).unwrap()
}

fn read(text: &str, columns: &[&str]) -> Result<RemoteSpec, String> {
    let text = format!("model = \"cnn\"\ninput = \"X\"\nclasses = 2\n{text}");
    RemoteSpec::read(text.as_bytes(), &binding(columns)).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_written_has_a_default() {
    let spec = read("", &["a", "b", "size"]).unwrap();
    assert_eq!((spec.datatype, spec.shape, spec.version.as_str()), (Datatype::Fp32, vec![3], ""));
    assert_eq!((spec.output, spec.max_rows), (None, None));
    let spec = read("shape = [2, 1]\ndatatype = \"INT8\"", &["a", "b"]).unwrap();
    assert_eq!((spec.datatype.name(), spec.shape), ("INT8", vec![2, 1]));
}

#[test]
fn a_spec_that_does_not_fit_is_refused() {
    let refused = |text: &str, columns: &[&str]| read(text, columns).unwrap_err();
    let all = &["a", "b", "size"];
    assert!(refused("modle = 1", all).contains("unknown field `modle`"));
    assert!(refused("datatype = \"FP16\"", all).contains("FP16"));
    let shape = "shape: expected 3 columns as a product, found [2, 2]";
    assert_eq!(refused("shape = [2, 2]", all), shape);
    assert!(refused(&format!("shape = [{0}, {0}]", u32::MAX), all).contains("as a product"));
    let number = "datatype: column 2 is a number, which INT8 does not hold";
    assert_eq!(refused("datatype = \"INT8\"", all), number);
    let absent = "datatype: column 0 is -1 where its header is absent, which UINT8 does not hold";
    assert_eq!(refused("datatype = \"UINT8\"", all), absent);
    assert_eq!(refused("max_rows = 0", all), "max_rows: expected at least 1, found nothing");
    assert_eq!(refused("", &[]), "columns: expected at least 1, found nothing");
    for version in ["../x", "a/b", "..", "1?x=2", "ä"] {
        assert!(refused(&format!("version = \"{version}\""), all).starts_with("version: expected"));
    }
    assert!(RemoteSpec::read(&[0xff], &binding(all)).is_err());
    let bits = Binding::bits(4).unwrap();
    let text = b"model = \"cnn\"\ninput = \"X\"\nclasses = 2\ndatatype = \"UINT8\"";
    assert_eq!(RemoteSpec::read(text, &bits).unwrap().datatype, Datatype::Uint8);
}

/// Answers with the sum of a row, and keeps how many rows it was asked at once.
#[derive(Debug, Default)]
struct Sums {
    asked: Mutex<Vec<usize>>,
}

impl RemoteTransport for Sums {
    fn infer(&self, request: &InferenceRequest<'_>, scores: &mut Scores) -> Result<(), ScoreError> {
        self.asked.lock().unwrap().push(request.rows);
        scores.reset(request.rows, 2);
        for (row, values) in request.values.chunks(3).enumerate() {
            scores.row_mut(row).copy_from_slice(&[values.iter().sum(), 0.5]);
        }
        Ok(())
    }
}

fn rows() -> Rows {
    let mut rows = Rows::with_capacity(SHAPE, 5);
    (0..5).for_each(|row| rows.push().1[0] = row as f32);
    rows
}

#[test]
fn a_job_is_asked_in_parts_that_the_server_takes() {
    for (most, expected) in [("", vec![5]), ("max_rows = 2", vec![2, 2, 1])] {
        let sums = Arc::new(Sums::default());
        let (spec, binding) =
            (read(most, &["a", "b", "size"]).unwrap(), binding(&["a", "b", "size"]));
        let model =
            RemoteModel::new(spec, binding, Some(Arc::clone(&sums) as Arc<dyn RemoteTransport>));
        let mut scores = Scores::default();
        model.score(&rows(), &mut scores).unwrap();
        assert_eq!(*sums.asked.lock().unwrap(), expected);
        (0..5).for_each(|row| assert_eq!(scores.row(row), [row as f32 - 2.0, 0.5]));
    }
}

#[test]
fn without_a_connector_a_model_loads_and_says_why_it_cannot_answer() {
    let text = b"model = \"cnn\"\ninput = \"X\"\nclasses = 2";
    let model = load(text, &binding(&["a"]), None).unwrap();
    assert_eq!((model.shape(), model.classes()), (SHAPE, 2));
    let error = model.score(&rows(), &mut Scores::default()).unwrap_err();
    assert_eq!(error.message, "model `cnn` is remote, and no endpoints are configured");
}
