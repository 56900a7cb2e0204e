//! Whole records as text.

use std::io::{self, Write};

/// Records one behind the other, and where each of them ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The text of all records.
    pub bytes: Vec<u8>,
    /// Where each record ends, as an offset into the text.
    pub ends: Vec<usize>,
}

impl Lines {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The record whose text was just appended ends here.
    pub fn end_record(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends the first `records` records of others.
    pub(super) fn append(&mut self, others: &Self, records: usize) {
        let start = self.bytes.len();
        let end = if records == others.ends.len() {
            others.bytes.len()
        } else {
            records.checked_sub(1).map_or(0, |last| others.ends[last])
        };
        self.bytes.extend_from_slice(&others.bytes[..end]);
        self.ends.extend(others.ends[..records].iter().map(|end| start + end));
    }
}

/// Takes whole records as text. Every [`Write`] is one.
pub trait RecordWriter: Send {
    /// Takes all records, and leaves `lines` empty whatever the result: part of them may have been
    /// written, and a record that is lost can be counted, while one that is written twice cannot be
    /// told from a second one.
    ///
    /// # Errors
    /// When what lies behind the writer fails.
    fn take(&mut self, lines: &mut Lines) -> io::Result<()>;

    /// Makes sure that what was taken has left, or will leave without another call.
    ///
    /// # Errors
    /// When what lies behind the writer fails.
    fn flush(&mut self) -> io::Result<()>;
}

impl<W: Write + Send> RecordWriter for W {
    fn take(&mut self, lines: &mut Lines) -> io::Result<()> {
        let result = self.write_all(&lines.bytes);
        lines.clear();
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

impl RecordWriter for Box<dyn RecordWriter> {
    fn take(&mut self, lines: &mut Lines) -> io::Result<()> {
        (**self).take(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        RecordWriter::flush(&mut **self)
    }
}
