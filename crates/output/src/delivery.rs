//! Records on their way into a transport: in order, whole, each once.

use super::lines::Lines;
use std::io;

/// Where records go.
pub trait Transport: Send {
    /// Most bytes of a write, unless a single record is longer: none that is shorter may be written
    /// in part where what was written cannot be taken back.
    fn most_bytes(&self) -> usize;

    /// Makes ready for `bytes` more: opens or rotates what has to be, writes the heading of what is
    /// empty. `reopen` asks for what stands at its place now. Whether what is written from now on
    /// goes elsewhere.
    ///
    /// # Errors
    /// When that cannot be done now.
    fn prepare(&mut self, bytes: usize, reopen: bool) -> io::Result<bool>;

    /// Writes the beginning of a text; how many bytes it was.
    ///
    /// # Errors
    /// When nothing can be written now.
    fn write(&mut self, text: &[u8]) -> io::Result<usize>;

    /// Takes back the last bytes that were written, part of a record; false where that cannot be
    /// done.
    fn take_back(&mut self, bytes: usize) -> bool;

    /// Whether it may work again after the last error.
    fn can_recover(&self) -> bool {
        true
    }

    /// Whether whoever reads it may leave for good, which is looked for while nothing is written.
    fn may_be_left(&self) -> bool {
        false
    }

    /// Whether it has been left for good; then the next [`prepare`](Self::prepare) is an error.
    fn is_left(&mut self) -> bool {
        false
    }

    /// Whether it has failed of late only because nobody reads yet: that is waited for also where
    /// nothing may be lost.
    fn awaits_reader(&self) -> bool {
        false
    }

    /// Adds what happened to a status.
    fn tell(&self, _status: &mut super::OutputStatus) {}
}

/// A text of whole records, how much of it a transport has taken, and the transport.
pub(super) struct Delivery<T> {
    pub(super) transport: T,
    /// Bytes that may always be written at once, whatever the transport says.
    least_bytes: usize,
    /// What is being written.
    pub(super) lines: Lines,
    /// Bytes written.
    at: usize,
    /// Records written whole.
    records: usize,
}

impl<T: Transport> Delivery<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, least_bytes: 0, lines: Lines::default(), at: 0, records: 0 }
    }

    /// The same for an output that is written to its end: a write that waits in the middle of a
    /// record does no harm, so that more go at once.
    pub(super) fn waiting_for_its_reader(self) -> Self {
        Self { least_bytes: 64 * 1024, ..self }
    }

    /// Bytes and records that are left.
    pub(super) fn left(&self) -> (usize, usize) {
        (self.lines.bytes.len() - self.whole(), self.lines.ends.len() - self.records)
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.lines.bytes.len()
    }

    /// Forgets what was written, so that other records may come.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        (self.at, self.records) = (0, 0);
    }

    /// Where the last record ends that was written whole.
    fn whole(&self) -> usize {
        self.records.checked_sub(1).map_or(0, |last| self.lines.ends[last])
    }

    /// Makes the transport ready where there is nothing to write.
    pub(super) fn prepare(&mut self, reopen: bool) -> io::Result<()> {
        if self.transport.prepare(0, reopen)? {
            self.at = self.whole();
        }
        Ok(())
    }

    /// Writes some more.
    pub(super) fn step(&mut self, reopen: bool) -> io::Result<()> {
        let end = self.next_end();
        if self.transport.prepare(end - self.at, reopen)? {
            // Half a record stays with what was before; all of it goes where writing goes on.
            self.at = self.whole();
        }
        match self.transport.write(&self.lines.bytes[self.at..end]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.at += count;
                let ends = &self.lines.ends[self.records..];
                self.records += ends.partition_point(|&end| end <= self.at);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => {
                let part = self.at - self.whole();
                if part > 0 && self.transport.take_back(part) {
                    self.at -= part;
                }
                Err(error)
            }
        }
    }

    /// Where the next write ends: behind as many whole records as it may hold, and at least one.
    fn next_end(&self) -> usize {
        let most = self.whole() + self.transport.most_bytes().max(self.least_bytes);
        let ends = &self.lines.ends[self.records..];
        let whole = ends.partition_point(|&end| end <= most).max(1);
        ends.get(whole - 1).copied().unwrap_or(self.lines.bytes.len())
    }
}
