//! Model files that were cut short or changed: refused, or the same model.
#![allow(clippy::unwrap_used)]

#[path = "common/bundles.rs"]
mod bundles;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/onnx.rs"]
mod onnx;

use foreign::{Sample, samples, sized};
use serveflow_core::lane::Model;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::LoadOptions;
use serveflow_model::formats::FORMATS;
use std::sync::Arc;

/// The formats that are text.
const TEXTS: [&str; 6] =
    ["lightgbm", "lightgbm-json", "xgboost", "catboost", "sklearn-tree", "forest"];

fn read(sample: &Sample, bytes: &[u8]) -> Result<Arc<dyn Model>, String> {
    let entry = FORMATS.iter().find(|entry| entry.name == sample.format).unwrap();
    let model = (entry.load)(bytes, &sample.binding(), &LoadOptions::default());
    model.map_err(|error| error.to_string())
}

/// What a model says of rows of all kinds of values.
fn answers(model: &dyn Model) -> Vec<u32> {
    let mut rows = Rows::with_capacity(model.shape(), 8);
    for row in 0..8_u32 {
        let (words, numbers) = rows.push();
        let mut state = row.wrapping_mul(0x9e37_79b9) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        words.iter_mut().for_each(|word| *word = next());
        numbers.iter_mut().for_each(|number| *number = (next() % 4096) as f32 / 16.0 - 8.0);
    }
    let mut scores = Scores::default();
    model.score(&rows, &mut scores).unwrap();
    (0..rows.len()).flat_map(|row| scores.row(row).iter().map(|s| s.to_bits())).collect()
}

/// A changed file is refused with a sentence, or answers as the whole one does.
fn holds(sample: &Sample, whole: &[u32], changed: &[u8], what: &str) -> bool {
    match read(sample, changed) {
        Err(message) => {
            assert!(!message.is_empty());
            false
        }
        Ok(model) => {
            assert_eq!(answers(model.as_ref()), whole, "{}: {what}", sample.name);
            true
        }
    }
}

/// The first model of each format is cut at every byte, the others here and there and in all of
/// their last bytes.
#[test]
fn a_file_that_was_cut_is_refused_at_every_byte() {
    let mut seen = Vec::new();
    for sample in samples() {
        let whole = answers(read(&sample, &sample.bytes).unwrap().as_ref());
        let first = !seen.contains(&sample.format);
        seen.push(sample.format);
        let len = sample.bytes.len();
        let cuts = (0..len).filter(|at| first || at % 61 == 0 || at + 300 > len);
        for at in cuts {
            let same = holds(&sample, &whole, &sample.bytes[..at], &format!("cut at {at}"));
            // Of a tree not one byte may be missing.
            let text = String::from_utf8_lossy(&sample.bytes);
            if sample.format == "lightgbm" && same {
                assert!(at >= text.find("end of trees").unwrap() + 12, "cut at {at}");
            }
        }
    }
    assert!(["lightgbm", "xgboost-ubj", "onnx", "forest"].iter().all(|f| seen.contains(f)));
}

/// Categories of a data frame stand in the last line: no cut hides them.
#[test]
fn a_cut_does_not_hide_the_categories_of_a_data_frame() {
    for name in ["lightgbm-categories", "lightgbm-one-hot"] {
        let mut sample = samples().into_iter().find(|sample| sample.name == name).unwrap();
        let text = String::from_utf8(sample.bytes.clone()).unwrap();
        let frame = text.replace("pandas_categorical:null", "pandas_categorical:[[\"a\", \"b\"]]");
        assert_ne!(frame, text);
        for at in 0..=frame.len() {
            sample.bytes = frame.as_bytes()[..at].to_vec();
            assert!(read(&sample, &sample.bytes).is_err(), "{name}: cut at {at}");
        }
    }
}

/// Of a LightGBM text, a byte that is taken out of a tree or put into one is noticed, and so is a
/// tree.
#[test]
fn a_tree_that_does_not_have_its_size_is_refused() {
    let sample = samples().into_iter().find(|sample| sample.name == "lightgbm-multiclass").unwrap();
    let text = String::from_utf8(sample.bytes.clone()).unwrap();
    assert_eq!(sized(&text), text, "sizes are those that the library writes");
    let (start, end) = (text.find("Tree=0").unwrap(), text.find("end of trees").unwrap());
    for at in start..end {
        let mut less = sample.bytes.clone();
        less.remove(at);
        assert!(read(&sample, &less).is_err(), "without byte {at}");
        let mut more = sample.bytes.clone();
        more.insert(at, b'1');
        assert!(read(&sample, &more).is_err(), "one more at byte {at}");
    }
    let trees: Vec<usize> = text.match_indices("Tree=").map(|(at, _)| at).collect();
    for pair in trees.windows(2) {
        let without = format!("{}{}", &text[..pair[0]], &text[pair[1]..]);
        assert!(read(&sample, without.as_bytes()).is_err());
    }
    for (from, to) in [
        ("tree_sizes=", "tree_size="),
        ("average_output", "averaged_output"),
        ("objective=multiclass", "objective=multiclass rate:2"),
        ("end of trees", "end of tree"),
        ("\nnum_leaves=4\n", "\nnum_leaves=4\nnum_leaves=4\n"),
    ] {
        let changed = sized(&text.replacen(from, to, 1));
        assert!(changed == text || read(&sample, changed.as_bytes()).is_err(), "{to}");
    }
}

/// Whatever stands behind the end of a model: itself once more, another one, or a part of one. A
/// file of [`TEXTS`] is one model and nothing else.
#[test]
fn two_files_one_behind_the_other_are_no_model() {
    let samples: Vec<Sample> =
        samples().into_iter().filter(|sample| TEXTS.contains(&sample.format)).collect();
    let others: Vec<(&str, &[u8])> = TEXTS
        .iter()
        .filter_map(|format| samples.iter().find(|sample| sample.format == *format))
        .map(|sample| (sample.format, sample.bytes.as_slice()))
        .collect();
    assert_eq!(others.len(), TEXTS.len());
    for sample in &samples {
        let own = (sample.format, sample.bytes.as_slice());
        for (format, other) in others.iter().copied().chain([own]) {
            for between in ["", "\n", "\n\n"] {
                let joined = [&sample.bytes, between.as_bytes(), other].concat();
                assert!(read(sample, &joined).is_err(), "{}, then {format}", sample.name);
            }
            // Any line of another model that says something.
            for line in other.split(|&byte| byte == b'\n').filter(|line| line.len() > 1) {
                let joined = [&sample.bytes, b"\n".as_slice(), line, b"\n"].concat();
                let line = String::from_utf8_lossy(line);
                assert!(read(sample, &joined).is_err(), "{}, then `{line}`", sample.name);
            }
        }
    }
}

/// Bytes that are others, or not there: no panic, whatever they are.
#[test]
fn a_file_with_other_bytes_is_read_or_refused() {
    for sample in samples() {
        for at in (0..sample.bytes.len()).step_by(97) {
            for bit in [1_u8, 0x10, 0x80] {
                let mut flipped = sample.bytes.clone();
                flipped[at] ^= bit;
                let _ = read(&sample, &flipped);
            }
            let mut less = sample.bytes.clone();
            less.remove(at);
            let _ = read(&sample, &less);
        }
    }
}
