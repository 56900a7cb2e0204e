//! Scores a table of numbers with a model file:
//! `score FORMAT MODEL KIND COLUMNS [MISSING] < rows > probabilities`.
//!
//! Rows are `f32` in little-endian bytes, as many to a row as there are columns; so are the
//! probabilities. KIND says how columns stand in our rows: `numbers` as they are, `bits` as bits of
//! value 0 or 1, `ternary` as header bits of value -1, 0 or 1. MISSING is the value that was
//! missing to the library. The Python side of the tests holds the readers of foreign models with it
//! against the libraries that wrote them.

use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows, Scores};
use serveflow_model::LoadOptions;
use serveflow_model::binding::Binding;
use serveflow_model::formats::FORMATS;
use std::error::Error;
use std::io::{Read, Write};

/// Where the columns stand, and the row's shape.
fn binding(kind: &str, columns: usize) -> Result<Binding, Box<dyn Error>> {
    let bit = |at: usize| BitAt { word: (at / 32) as u32, bit: (31 - at % 32) as u8 };
    let words = columns.div_ceil(32);
    let column = |at: usize| {
        let presence = bit(words * 32 + at);
        let place = match kind {
            "numbers" => Place::Number(at as u32),
            _ => Place::Bit { value: bit(at), presence },
        };
        Column { name: format!("f{at}"), place }
    };
    let all: Vec<Column> = (0..columns).map(column).collect();
    Ok(match kind {
        "numbers" => Binding::all(&all, RowShape { words: 0, numbers: columns }),
        "ternary" => Binding::all(&all, RowShape { words: 2 * words, numbers: 0 }),
        "bits" => Binding::bits(columns)?,
        _ => return Err(format!("expected numbers, bits or ternary, found {kind}").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [format, model, kind, columns, missing @ ..] = &args[..] else {
        return Err("expected FORMAT MODEL KIND COLUMNS [MISSING]".into());
    };
    let columns: usize = columns.parse()?;
    let missing = missing.first().map(|value| value.parse()).transpose()?;
    let binding = binding(kind, columns)?.with_missing(missing);
    let entry = FORMATS.iter().find(|entry| entry.name == format);
    let entry = entry.ok_or_else(|| format!("no format {format}"))?;
    let model = (entry.load)(&std::fs::read(model)?, &binding, &LoadOptions::default())?;
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let half = binding.shape().words / 2;
    let mut rows = Rows::with_capacity(binding.shape(), values.len() / columns);
    for row in values.chunks_exact(columns) {
        let (words, numbers) = rows.push();
        for (at, &value) in row.iter().enumerate() {
            let mask = 1 << (31 - at % 32);
            match kind.as_str() {
                "numbers" => numbers[at] = value,
                _ if value == 1.0 => words[at / 32] |= mask,
                _ => {}
            }
            if kind == "ternary" && value >= 0.0 {
                words[half + at / 32] |= mask;
            }
        }
    }
    let mut scores = Scores::default();
    model.score(&rows, &mut scores)?;
    let all = (0..scores.len()).flat_map(|row| scores.row(row).to_vec());
    let bytes: Vec<u8> = all.flat_map(f32::to_le_bytes).collect();
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}
