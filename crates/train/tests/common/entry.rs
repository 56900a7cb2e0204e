//! What the fuzzers of files run, and the plain tests over their corpus too: bytes in, no panic.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use serveflow_core::lane::Model;
use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows, Scores};
use serveflow_label::{LabelBook, read_table, sort_labels};
use serveflow_model::LoadOptions;
use serveflow_model::binding::Binding;
use serveflow_model::bundle::{Bundle, sha256};
use serveflow_model::forest::import::{self, Foreign, ImportError};
use serveflow_model::forest::{BoundForest, Forest, naive};
use serveflow_model::net::Net;
use std::path::{Path, PathBuf};

/// Any bytes as a capture file: how many frames it has, and whether it is damaged.
pub fn fuzz_capture(bytes: &[u8]) -> (usize, bool) {
    let (frames, error) = serveflow_io::read_all(bytes);
    if let Some(error) = &error {
        assert!(!error.to_string().is_empty() && error.path() == Path::new("<memory>"));
    }
    (frames, error.is_some())
}

/// Widest rows that are scored, in words and in numbers: a forest may name any width.
const WIDEST: usize = 1 << 16;

/// Rows of a shape that hold little, much, and everything between.
fn rows(model: &dyn Model) -> Rows {
    let mut rows = Rows::with_capacity(model.shape(), 5);
    for fill in [0, u32::MAX, 0x5555_5555, 0x8000_0001, 0x7fc0_0000] {
        let (words, numbers) = rows.push();
        words.fill(fill);
        numbers.fill(f32::from_bits(fill));
    }
    rows
}

fn probabilities(scores: &Scores, rows: usize) {
    for row in 0..rows {
        assert!(scores.row(row).iter().all(|score| !score.is_infinite()));
    }
}

/// Any bytes as a model file: what is read is written the same, and both scorers agree.
pub fn fuzz_forest(bytes: &[u8]) -> bool {
    let Ok(forest) = Forest::from_json(bytes) else { return false };
    assert_eq!(Forest::from_json(&forest.to_json()).unwrap(), forest);
    let shape = forest.shape();
    if shape.words > WIDEST || shape.numbers > WIDEST || forest.classes() > 1000 {
        return true;
    }
    same_scores(&forest);
    true
}

/// Most columns and classes of a foreign model that is bound and scored.
const MOST: usize = 4096;

type Reader = fn(&[u8]) -> Result<Foreign, ImportError>;

/// Foreign models that are one byte, which says what they are, and a file: what is read is bound to
/// bits, to header bits and to numbers, and both scorers agree.
pub fn fuzz_import(bytes: &[u8]) -> bool {
    let [kind, file @ ..] = bytes else { return false };
    let readers: [Reader; 7] = [
        import::lightgbm,
        import::lightgbm_json,
        import::xgboost,
        import::xgboost_ubjson,
        import::catboost,
        import::onnx,
        import::sklearn,
    ];
    let foreign = match readers[usize::from(*kind) % readers.len()](file) {
        Ok(foreign) => foreign,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let head = foreign.head();
    let columns = head.columns.unwrap_or(8);
    if columns > MOST || head.classes > MOST {
        return true;
    }
    let bit =
        |word: usize, at: usize| BitAt { word: (word + at / 32) as u32, bit: (at % 32) as u8 };
    let words = columns.div_ceil(32);
    let ternary = |at: usize| Place::Bit { value: bit(0, at), presence: bit(words, at) };
    let number = |at: usize| Place::Number(at as u32);
    let named = |place: &dyn Fn(usize) -> Place| -> Vec<Column> {
        (0..columns).map(|at| Column { name: format!("f{at}"), place: place(at) }).collect()
    };
    let bindings = [
        Binding::bits(columns).unwrap(),
        Binding::all(&named(&ternary), RowShape { words: 2 * words, numbers: 0 }),
        Binding::all(&named(&number), RowShape { words: 0, numbers: columns }),
    ];
    for binding in bindings {
        match foreign.bind(&binding) {
            Ok(forest) => same_scores(&forest),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    true
}

fn same_scores(forest: &Forest) {
    let bound = BoundForest::new(forest);
    let rows = rows(&bound);
    let (mut fast, mut slow) = (Scores::default(), Scores::default());
    bound.score(&rows, &mut fast);
    naive::score(forest, &rows, &mut slow);
    probabilities(&fast, rows.len());
    for row in 0..rows.len() {
        let bits = |scores: &Scores| -> Vec<u32> {
            scores.row(row).iter().map(|score| score.to_bits()).collect()
        };
        assert_eq!(bits(&fast), bits(&slow));
    }
}

/// Columns of the net that any bytes may be.
pub const NET_COLUMNS: usize = 40;

/// Any bytes as an ONNX file: refused in words, or a net that scores or says why not.
pub fn fuzz_net(bytes: &[u8]) -> bool {
    let columns = Binding::bits(NET_COLUMNS).unwrap();
    let net = match Net::load(bytes, &columns, None) {
        Ok(net) => net,
        Err(error) => {
            assert!(!error.message.is_empty());
            return false;
        }
    };
    let rows = rows(&net);
    let mut scores = Scores::default();
    match net.score(&rows, &mut scores) {
        Ok(()) => {
            assert_eq!((scores.len(), scores.classes()), (rows.len(), net.classes()));
            for row in 0..rows.len() {
                assert!(scores.row(row).iter().all(|score| score.is_finite()));
            }
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
    true
}

/// A directory of this process.
fn folder(name: &str) -> PathBuf {
    let id = format!("serveflow-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    // Tests have a directory of their own, fuzzers the system's.
    let root = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(id).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Two bytes of length, that much of `plan.toml`, and a model that every stage may name.
pub fn fuzz_bundle(bytes: &[u8]) -> bool {
    let [low, high, rest @ ..] = bytes else { return false };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (plan, model) = rest.split_at(len);
    let dir = folder("bundle");
    let mut sums = String::new();
    for (name, bytes) in [("plan.toml", plan), ("model.json", model)] {
        std::fs::write(dir.join(name), bytes).unwrap();
        sums += &format!("{}  {name}\n", sha256(bytes));
    }
    std::fs::write(dir.join("SHA256SUMS"), sums).unwrap();
    match Bundle::open(&dir, &LoadOptions::default()) {
        Ok(bundle) => {
            assert_eq!(bundle.models.len(), bundle.cascade.stages().len());
            for model in bundle.models {
                let rows = rows(model.as_ref());
                let mut scores = Scores::default();
                model.score(&rows, &mut scores).unwrap();
                assert_eq!(scores.classes(), bundle.cascade.labels().len());
                probabilities(&scores, rows.len());
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// Any bytes as a label table: every label of the book has an index, and errors name the file.
pub fn fuzz_labels(bytes: &[u8]) -> Option<LabelBook> {
    let path = folder("labels").join("labels.csv");
    std::fs::write(&path, bytes).unwrap();
    match read_table(&path, Path::new("captures")) {
        Ok(book) => {
            let mut in_order = book.labels.clone();
            sort_labels(&mut in_order);
            assert!(!book.labels.is_empty() && book.labels == in_order);
            let listed: usize = book.files.values().map(|file| file.listed()).sum();
            assert!(listed > 0 && book.labels.len() <= listed);
            Some(book)
        }
        Err(error) => {
            assert!(error.to_string().contains("labels.csv"));
            None
        }
    }
}
