//! The names of a model's columns, from the tables and texts that users have.

use anyhow::{Context, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serveflow::table::{FLOW_KEYS, LABEL_KEYS, PACKET_KEYS};
use std::path::Path;

/// First bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";

/// The columns that a file names: a table of features without its flow keys, or one name per line.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let place = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(place)?;
    let names = if bytes.starts_with(PARQUET) {
        parquet(path)?
    } else {
        text(&bytes).with_context(place)?
    };
    ensure!(!names.is_empty(), "{}: expected names of columns, found none", place());
    Ok(names)
}

fn parquet(path: &Path) -> anyhow::Result<Vec<String>> {
    let place = || path.display().to_string();
    let table = SerializedFileReader::new(std::fs::File::open(path).with_context(place)?);
    let table = table.with_context(place)?;
    let fields = table.metadata().file_metadata().schema_descr().columns().iter();
    Ok(without_keys(fields.map(|field| field.name().to_owned()).collect()))
}

fn text(bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).context("expected text in UTF-8")?;
    let first = text.lines().next().unwrap_or_default();
    if first.contains(',') {
        return Ok(without_keys(
            first.split(',').map(|name| name.trim_matches('"').to_owned()).collect(),
        ));
    }
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Leaves out what tells of the flow.
fn without_keys(names: Vec<String>) -> Vec<String> {
    let keys = FLOW_KEYS.iter().chain(&LABEL_KEYS).chain(&PACKET_KEYS);
    let keys: Vec<&str> = keys.map(|key| key.name).collect();
    names.into_iter().filter(|name| !keys.contains(&name.as_str())).collect()
}
