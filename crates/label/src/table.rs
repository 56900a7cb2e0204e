//! `labels.csv`: one line per flow.

use super::book::Writer;
use super::header::{COLUMNS, Header, SPLIT, separator};
use super::{LabelBook, LabelError, Labelled, Split};
use csv::StringRecord;
use serveflow_core::verdict::FiveTuple;
use std::path::Path;
use std::str::FromStr;

/// Protocols that may be named; all may be numbered.
const PROTOCOLS: [(&str, u8); 7] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmp6", 58),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("sctp", 132),
];

/// A table and where its columns stand.
struct Table<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, bytes: &'a [u8], header: &StringRecord) -> Result<Self, LabelError> {
        Ok(Self { path, bytes, header: Header::new(path, header)? })
    }

    fn text<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        let field = self.header.positions[column].and_then(|at| record.get(at));
        field.unwrap_or_default().trim()
    }

    /// The capture that a flow was cut from, and whose it is; `None` when the table does not say.
    fn source<'r>(&self, record: &'r StringRecord) -> Option<[&'r str; 2]> {
        let text = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default().trim();
        let source = self.header.source.map(text);
        (!source[0].is_empty()).then_some(source)
    }

    fn line(&self, record: &StringRecord) -> u64 {
        record.position().map_or(0, |position| line(self.bytes, position))
    }

    fn bad(&self, record: &StringRecord, column: usize, expected: &'static str) -> LabelError {
        LabelError::BadField {
            path: self.path.to_owned(),
            line: self.line(record),
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

    fn proto(&self, record: &StringRecord) -> Result<u8, LabelError> {
        let text = self.text(record, 3);
        let named = PROTOCOLS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        match named {
            Some(&(_, number)) => Ok(number),
            None => self.parse(record, 3, "an IP protocol number or tcp, udp, icmp, icmp6 or sctp"),
        }
    }

    /// A port; protocols that have none may leave it out.
    fn port(&self, record: &StringRecord, column: usize, proto: u8) -> Result<u16, LabelError> {
        let has_ports = matches!(proto, 6 | 17 | 33 | 132 | 136);
        match self.text(record, column) {
            "" if !has_ports => Ok(0),
            _ => self.parse(record, column, "a port number"),
        }
    }

    fn flow(&self, record: &StringRecord) -> Result<FiveTuple, LabelError> {
        let proto = self.proto(record)?;
        Ok(FiveTuple {
            proto,
            src: self.parse(record, 4, "an IP address")?,
            src_port: self.port(record, 5, proto)?,
            dst: self.parse(record, 6, "an IP address")?,
            dst_port: self.port(record, 7, proto)?,
            vlan: None,
        })
    }

    fn first_us(&self, record: &StringRecord) -> Result<u64, LabelError> {
        self.parse(record, 8, "microseconds since the epoch")
    }

    /// What to say of a record whose flow an earlier line has under another label or split.
    fn contradiction(&self, record: &StringRecord) -> LabelError {
        let identity = |record: &StringRecord| {
            let flow = self.flow(record).ok().map(|flow| flow.key().0);
            (plain(self.text(record, 0)).to_owned(), flow, self.first_us(record).ok())
        };
        let words = |record: &StringRecord| match self.text(record, SPLIT) {
            "" => format!("`{}`", self.text(record, 2)),
            split => format!("`{}` ({split})", self.text(record, 2)),
        };
        let own = identity(record);
        // The table is read again rather than the line of every flow kept.
        let mut reader = reader(self.bytes);
        let mut records = reader.records().flatten();
        let earlier = records.find(|earlier| identity(earlier) == own);
        let earlier = earlier.as_ref().unwrap_or(record);
        LabelError::Contradiction {
            path: self.path.to_owned(),
            line: self.line(record),
            found: words(record),
            earlier: self.line(earlier),
            expected: words(earlier),
        }
    }

    fn split(&self, record: &StringRecord) -> Result<Option<Split>, LabelError> {
        match self.text(record, SPLIT) {
            "" => Ok(None),
            name => Split::from_name(name).map(Some).ok_or_else(|| {
                self.bad(record, SPLIT, "train, val, test (in any case) or nothing")
            }),
        }
    }
}

/// A capture's name; under two spellings it would be read twice.
fn plain(file: &str) -> &str {
    file.trim_start_matches("./")
}

fn reader(bytes: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(separator(bytes)).from_reader(bytes)
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

/// Reads a label table; its `file` column is relative to `captures`. Fields are separated by
/// commas, or by semicolons or tabs where the header shows it.
///
/// # Errors
/// When the table cannot be read, lacks columns or a field is not what its column says: the error
/// names the line, the column, what was expected and what was found.
pub fn read_table(path: &Path, captures: &Path) -> Result<LabelBook, LabelError> {
    let io = |message: String| LabelError::Io { path: path.to_owned(), message };
    let bytes = std::fs::read(path).map_err(|error| io(error.to_string()))?;
    let mut reader = reader(&bytes);
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
        let first_us = table.first_us(&record)?;
        let (key, _) = table.flow(&record)?.key();
        if !book.flow(captures.join(plain(file)), key, first_us, labelled) {
            return Err(table.contradiction(&record));
        }
    }
    if book.is_empty() {
        return Err(LabelError::Nothing { path: path.to_owned(), expected: "a line per flow" });
    }
    book.finish(path, captures, &bytes)
}
