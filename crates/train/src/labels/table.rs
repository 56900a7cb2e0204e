//! `labels.csv`: one line per flow.

use super::book::Writer;
use super::{LabelBook, LabelError, Labelled, Split};
use csv::StringRecord;
use serveflow_core::verdict::FiveTuple;
use std::path::Path;
use std::str::FromStr;

/// The columns that are read; any others are left alone.
const COLUMNS: [&str; 9] =
    ["file", "split", "label", "proto", "src_ip", "src_port", "dst_ip", "dst_port", "first_ts_us"];

/// The columns that say which capture a flow was cut from, where that is not its file; the second
/// is read beside the first alone. Flows of one capture resemble each other, so what is said of how
/// sure a figure is goes by captures.
const SOURCE: [&str; 2] = ["source_capture", "source_repo"];

/// Positions of [`COLUMNS`] in a table.
struct Table<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    positions: [usize; COLUMNS.len()],
    /// Positions of [`SOURCE`], which a table need not have.
    source: [Option<usize>; 2],
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, bytes: &'a [u8], header: &StringRecord) -> Result<Self, LabelError> {
        let mut positions = [0; COLUMNS.len()];
        for (position, column) in positions.iter_mut().zip(COLUMNS) {
            let found = header.iter().position(|name| name.trim() == column);
            let missing = || LabelError::MissingColumn { path: path.to_owned(), column };
            *position = found.ok_or_else(missing)?;
        }
        let source = SOURCE.map(|column| header.iter().position(|name| name.trim() == column));
        Ok(Self { path, bytes, positions, source })
    }

    fn text<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        record.get(self.positions[column]).unwrap_or_default().trim()
    }

    /// The capture that a flow was cut from, and whose it is; `None` when the table does not say.
    fn source<'r>(&self, record: &'r StringRecord) -> Option<[&'r str; 2]> {
        let text = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default().trim();
        let source = self.source.map(text);
        (!source[0].is_empty()).then_some(source)
    }

    fn bad(&self, record: &StringRecord, column: usize, expected: &'static str) -> LabelError {
        LabelError::BadField {
            path: self.path.to_owned(),
            line: record.position().map_or(0, |position| line(self.bytes, position)),
            column: COLUMNS[column],
            expected,
            found: self.text(record, column).to_owned(),
        }
    }

    fn parse<T: FromStr>(
        &self,
        record: &StringRecord,
        column: usize,
        expected: &'static str,
    ) -> Result<T, LabelError> {
        self.text(record, column).parse().map_err(|_| self.bad(record, column, expected))
    }

    fn flow(&self, record: &StringRecord) -> Result<FiveTuple, LabelError> {
        Ok(FiveTuple {
            proto: self.parse(record, 3, "an IP protocol number")?,
            src: self.parse(record, 4, "an IP address")?,
            src_port: self.parse(record, 5, "a port number")?,
            dst: self.parse(record, 6, "an IP address")?,
            dst_port: self.parse(record, 7, "a port number")?,
            vlan: None,
        })
    }

    fn split(&self, record: &StringRecord) -> Result<Option<Split>, LabelError> {
        match self.text(record, 1) {
            "" => Ok(None),
            name => Split::from_name(name)
                .map(Some)
                .ok_or_else(|| self.bad(record, 1, "train, val, test or nothing")),
        }
    }
}

/// The line that a record starts on, from 1. The reader's position is the end of the record before
/// it, so blank lines and what is left of a line end are stepped over here.
fn line(bytes: &[u8], position: &csv::Position) -> u64 {
    let (before, behind) = bytes.split_at(bytes.len().min(position.byte() as usize));
    let ends = behind.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    before.iter().chain(ends).filter(|&&byte| byte == b'\n').count() as u64 + 1
}

/// What is wrong with a record that is none.
fn malformed(bytes: &[u8], error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(position), expected_len, len } => {
            let line = line(bytes, position);
            format!("line {line}: expected {expected_len} fields as in line 1, found {len}")
        }
        csv::ErrorKind::Utf8 { pos: Some(position), .. } => {
            format!("line {}: expected UTF-8 text", line(bytes, position))
        }
        _ => error.to_string(),
    }
}

/// Reads a label table; its `file` column is relative to `captures`.
///
/// # Errors
/// When the table cannot be read, lacks a column or a field is not what its column says: the error
/// names the line, the column, what was expected and what was found.
pub fn read_table(path: &Path, captures: &Path) -> Result<LabelBook, LabelError> {
    let io = |message: String| LabelError::Io { path: path.to_owned(), message };
    let bytes = std::fs::read(path).map_err(|error| io(error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes.as_slice());
    let malformed = |error: csv::Error| io(malformed(&bytes, &error));
    let header = reader.headers().map_err(malformed)?.clone();
    let table = Table::new(path, &bytes, &header)?;
    let mut book = Writer::default();
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let file = table.text(&record, 0);
        if file.is_empty() {
            return Err(table.bad(&record, 0, "a capture file"));
        }
        let label = table.text(&record, 2);
        if label.is_empty() {
            return Err(table.bad(&record, 2, "a label"));
        }
        let labelled = Labelled {
            label: book.label(label),
            split: table.split(&record)?,
            source: table.source(&record).map(|source| book.source(source)),
        };
        let first_us = table.parse(&record, 8, "microseconds since the epoch")?;
        let (key, _) = table.flow(&record)?.key();
        if !book.flow(captures.join(file), key, first_us, labelled) {
            return Err(table.bad(&record, 2, "the label and split of this flow's earlier line"));
        }
    }
    if book.is_empty() {
        return Err(LabelError::Nothing { path: path.to_owned(), expected: "a line per flow" });
    }
    book.finish(path, serveflow_model::bundle::sha256(&bytes))
}
