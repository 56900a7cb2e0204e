//! `serveflow bench models`: the cost of scoring on this machine, and its error.
//!
//! It takes a directory of reference models, each with test rows and the class shares that the
//! library which trained it gives them, all compressed by zstd. It scores all rows in batches of
//! several sizes, over and over, and shows the median time of a flow.

use super::args::BenchModelsArgs;
use crate::commands::{Session, print, reports, write_file};
use anyhow::{Context, ensure};
use serde::Serialize;
use serveflow_core::lane::Model;
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_model::binding::Binding;
use serveflow_model::formats::FORMATS;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Rows of a reference matrix.
const ROWS: usize = 4096;
/// Batch sizes that are measured.
const BATCHES: [usize; 4] = [1, 16, 64, 1024];
/// Flows of a sample, if batches are smaller.
const SAMPLE: usize = 64;
/// Times that all rows are scored at the least.
const LEAST_ROUNDS: usize = 5;

/// A reference model: its name, file, format and columns.
const KNOWN: &[(&str, &str, &str, usize)] = &[
    ("dt_1024", "dt_1024.tree.json", "sklearn-tree", 1024),
    ("dt_10240", "dt_10240.tree.json", "sklearn-tree", 10_240),
    ("lgb_small_1024", "lgb_small_1024.txt", "lightgbm", 1024),
    ("lgb_small_10240", "lgb_small_10240.txt", "lightgbm", 10_240),
    ("lgb_large_1024", "lgb_large_1024.txt", "lightgbm", 1024),
    ("xgb_small_1024", "xgb_small_1024.json", "xgboost", 1024),
    ("xgb_small_10240", "xgb_small_10240.json", "xgboost", 10_240),
    ("rf_10240", "rf_10240.onnx", "onnx", 10_240),
    ("mlp_1024", "mlp_1024.onnx", "onnx", 1024),
    ("cnn_1024", "cnn_1024.onnx", "onnx", 1024),
    ("cnn_10240", "cnn_10240.onnx", "onnx", 10_240),
    ("transformer_1024", "transformer_1024.onnx", "onnx", 1024),
];

/// What was measured of a model.
#[derive(Serialize)]
struct Figures {
    model: String,
    format: &'static str,
    columns: usize,
    max_difference: f64,
    batches: Vec<BatchFigures>,
}

/// What was measured of a batch size.
#[derive(Serialize)]
struct BatchFigures {
    batch: usize,
    samples: usize,
    ns_per_flow: f64,
    fastest_ns_per_flow: f64,
}

/// Measures the known models of a directory.
pub(crate) fn models(session: &Session, args: &BenchModelsArgs) -> anyhow::Result<ExitCode> {
    reports::claim(&args.json)?;
    let mut all = Vec::new();
    print(&heading())?;
    for &(name, file, format, columns) in KNOWN {
        if !compressed(&args.models, file).exists() {
            continue;
        }
        let figures = measure(session, args, name, file, format, columns)?;
        print(&line(&figures))?;
        all.push(figures);
    }
    ensure!(!all.is_empty(), "{}: expected reference models, found none", args.models.display());
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn heading() -> String {
    let batches = BATCHES.map(|batch| format!("{:>10}", format!("B={batch}")));
    format!("{:<16}{}{:>14}   (ns per flow, median)\n", "model", batches.concat(), "difference")
}

fn line(figures: &Figures) -> String {
    let mut line = format!("{:<16}", figures.model);
    for batch in &figures.batches {
        let _ = write!(line, "{:>10.1}", batch.ns_per_flow);
    }
    let _ = writeln!(line, "{:>14.1e}", figures.max_difference);
    line
}

fn measure(
    session: &Session,
    args: &BenchModelsArgs,
    name: &str,
    file: &str,
    format: &'static str,
    columns: usize,
) -> anyhow::Result<Figures> {
    let entry = FORMATS.iter().find(|entry| entry.name == format);
    let load = entry.expect("each known model is of a format that is there").load;
    let bytes = read(&args.models, file)?;
    let model = load(&bytes, &Binding::bits(columns)?, &session.models);
    let model = model.with_context(|| file.to_owned())?;
    let bits = read(&args.models, &format!("test_X_{columns}.bits.bin"))?;
    ensure!(
        bits.len() == ROWS * columns / 8,
        "test_X_{columns}: expected {} bytes, found {}",
        ROWS * columns / 8,
        bits.len()
    );
    let rows: Vec<&[u8]> = bits.chunks_exact(columns / 8).collect();
    let expected = read(&args.models, &format!("expected_{name}.f64.bin"))?;
    let max_difference = difference(&*model, &batch(model.shape(), &rows), &expected)?;
    let per_batch = |size| time(session, &*model, &rows, size, args.seconds);
    let batches = BATCHES.into_iter().map(per_batch).collect::<anyhow::Result<_>>()?;
    Ok(Figures { model: name.to_owned(), format, columns, max_difference, batches })
}

/// Largest difference to the expected class shares.
fn difference(model: &dyn Model, rows: &Rows, expected: &[u8]) -> anyhow::Result<f64> {
    let mut scores = Scores::default();
    model.score(rows, &mut scores)?;
    let found = (0..scores.len()).flat_map(|row| scores.row(row));
    let bytes = rows.len() * model.classes() * 8;
    ensure!(expected.len() == bytes, "expected {bytes} bytes of shares, found {}", expected.len());
    let (expected, _) = expected.as_chunks();
    let pairs = found.zip(expected.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    Ok(pairs.map(|(found, expected)| (f64::from(*found) - expected).abs()).fold(0.0, f64::max))
}

/// Scores all rows in batches of one size until the time is over. A sample is a few batches, short
/// enough that most of them are not interrupted.
fn time(
    session: &Session,
    model: &dyn Model,
    rows: &[&[u8]],
    size: usize,
    seconds: f64,
) -> anyhow::Result<BatchFigures> {
    let batches: Vec<Rows> = rows.chunks(size).map(|rows| batch(model.shape(), rows)).collect();
    let mut scores = Scores::default();
    let begun = session.wall_ns();
    let mut samples = Vec::new();
    let mut rounds = 0;
    while rounds < LEAST_ROUNDS || ((session.wall_ns() - begun) as f64) < seconds * 1e9 {
        for sample in batches.chunks((SAMPLE / size).max(1)) {
            let started = session.wall_ns();
            for batch in sample {
                model.score(batch, &mut scores)?;
            }
            let flows: usize = sample.iter().map(Rows::len).sum();
            samples.push((session.wall_ns() - started) as f64 / flows as f64);
        }
        rounds += 1;
    }
    samples.sort_unstable_by(f64::total_cmp);
    Ok(BatchFigures {
        batch: size,
        samples: samples.len(),
        ns_per_flow: samples[samples.len() / 2],
        fastest_ns_per_flow: samples[0],
    })
}

/// Rows of a shape: words of which the first column is the most significant bit. Words that the
/// model does not use are left out.
fn batch(shape: RowShape, rows: &[&[u8]]) -> Rows {
    let mut batch = Rows::with_capacity(shape, rows.len());
    for row in rows {
        let (words, _) = batch.push();
        let (bytes, _) = row.as_chunks();
        words.iter_mut().zip(bytes).for_each(|(word, bytes)| *word = u32::from_be_bytes(*bytes));
    }
    batch
}

fn compressed(dir: &Path, file: &str) -> std::path::PathBuf {
    dir.join(format!("{file}.zst"))
}

fn read(dir: &Path, file: &str) -> anyhow::Result<Vec<u8>> {
    let path = compressed(dir, file);
    let read = || zstd::decode_all(std::fs::File::open(&path)?);
    read().with_context(|| format!("{}: cannot read", path.display()))
}
