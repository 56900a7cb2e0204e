//! Comma-separated values: a header line, then a line per row.

use super::{Key, Table, TableHead};
use serveflow_core::packet::LAST_NS;
use serveflow_core::rows::{Column, Place, Rows};
use std::io::{self, Write};

/// Bytes of text after which it is handed to the writer.
const HAND_OVER_AT: usize = 64 * 1024;
const NS_PER_S: u64 = 1_000_000_000;

/// Writes rows as they come and keeps none.
pub struct CsvTable<W: Write> {
    writer: W,
    text: Vec<u8>,
    columns: Vec<Column>,
}

impl<W: Write> CsvTable<W> {
    /// A table that writes to `writer` whole lines, many at a time, so that it needs no buffer.
    #[must_use]
    pub fn new(writer: W, head: TableHead) -> Self {
        let names: Vec<&str> = head.names().collect();
        let text = format!("{}\n", names.join(",")).into_bytes();
        Self { writer, text, columns: head.columns }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        // Forgotten whatever the result is: part of it may have been written.
        let result = self.writer.write_all(&self.text);
        self.text.clear();
        result
    }
}

impl<W: Write> Table for CsvTable<W> {
    fn push(&mut self, keys: &[Key<'_>], rows: &Rows, row: usize) -> io::Result<()> {
        let text = &mut self.text;
        for key in keys {
            push_key(text, key);
            text.push(b',');
        }
        let (words, numbers) = (rows.words(row), rows.numbers(row));
        for column in &self.columns {
            match column.place {
                Place::Bit { presence, .. } if !presence.get(words) => {
                    text.extend_from_slice(b"-1,");
                }
                Place::Bit { value, .. } => {
                    text.extend_from_slice(&[b'0' + u8::from(value.get(words)), b',']);
                }
                Place::Number(index) => {
                    let number = numbers[index as usize];
                    write!(text, "{number},").expect("writing to memory does not fail");
                }
            }
        }
        // The comma behind the last cell.
        text.pop();
        text.push(b'\n');
        if text.len() < HAND_OVER_AT { Ok(()) } else { self.hand_over() }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.writer.flush()
    }
}

fn push_key(text: &mut Vec<u8>, key: &Key<'_>) {
    let written = match key {
        Key::Text(words) if words.contains([',', '"', '\r', '\n']) => {
            write!(text, "\"{}\"", words.replace('"', "\"\""))
        }
        Key::Text(words) => write!(text, "{words}"),
        Key::Integer(number) => write!(text, "{number}"),
        Key::Time(ns) => {
            let ns = ns.min(&LAST_NS);
            write!(text, "{}.{:09}", ns / NS_PER_S, ns % NS_PER_S)
        }
    };
    written.expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_only_where_they_must_be_and_times_are_exact() {
        for (key, expected) in [
            (Key::Text("video".into()), "video"),
            (Key::Text("a,b".into()), "\"a,b\""),
            (Key::Text("say \"hi\"".into()), "\"say \"\"hi\"\"\""),
            (Key::Integer(443), "443"),
            (Key::Time(1), "0.000000001"),
            (Key::Time(u64::MAX), "9223372036.854775807"),
        ] {
            let mut text = Vec::new();
            push_key(&mut text, &key);
            assert_eq!(text, expected.as_bytes());
        }
    }
}
