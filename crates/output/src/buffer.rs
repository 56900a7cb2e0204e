//! What is between whoever makes records and the thread that writes them, and the accounting of it.

use super::lines::Lines;
use std::io;

/// Why a record never reached its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The output took records too slowly, or none at all, and the buffer was full.
    Slow,
    /// The disk, a quota or the allowed size of a file was full.
    DiskFull,
    /// Nothing reads the pipe.
    NoReader,
    /// Another error of writing.
    WriteFailed,
    /// The process ended before the output took the record.
    Shutdown,
}

impl LossReason {
    /// All of them, in the order of [`OutputStatus::lost`].
    pub const ALL: [Self; 5] =
        [Self::Slow, Self::DiskFull, Self::NoReader, Self::WriteFailed, Self::Shutdown];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::DiskFull => "disk_full",
            Self::NoReader => "no_reader",
            Self::WriteFailed => "write_failed",
            Self::Shutdown => "shutdown",
        }
    }

    /// Why records are lost while writing fails with this error.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull,
            io::ErrorKind::BrokenPipe => Self::NoReader,
            _ => Self::WriteFailed,
        }
    }
}

/// How an output is, to the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputStatus {
    /// Records that the output took.
    pub written: u64,
    /// Records that wait for it.
    pub buffered: u64,
    /// Bytes of these.
    pub buffered_bytes: u64,
    /// Records that never reached it, by [`LossReason::ALL`].
    pub lost: [u64; LossReason::ALL.len()],
    /// Whether it has taken nothing for longer than
    /// [`OutputLimits::stall_ns`](super::OutputLimits::stall_ns) although something waits.
    pub is_stalled: bool,
    /// Whether a [`hold`](super::Output::hold) keeps it from writing at the moment.
    pub is_held: bool,
    /// The error that keeps it from writing at the moment.
    pub trouble: Option<String>,
    /// Why own rotation failed last, if it did.
    pub rotation_trouble: Option<String>,
    /// Times that another file took the place of the one before, by a signal or because it was
    /// gone.
    pub reopened: u64,
    /// Times that the file was rotated by this process.
    pub rotated: u64,
    /// Times that another process cut the file.
    pub truncated: u64,
}

impl OutputStatus {
    /// Records lost for any reason.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Records handed over so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.written + self.buffered + self.all_lost()
    }
}

/// Records that wait, within a limit of bytes, and those that the writer has taken out and not
/// written yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    most_bytes: usize,
    pending: Lines,
    /// Of those that were taken out.
    taken_bytes: usize,
    taken_records: usize,
    pub(super) written: u64,
    pub(super) lost: [u64; LossReason::ALL.len()],
}

impl Buffer {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.pending.bytes.len() + self.taken_bytes
    }

    pub(super) fn records(&self) -> u64 {
        (self.pending.ends.len() + self.taken_records) as u64
    }

    /// Whether anything waits that the writer has not taken out.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether all of these find room. What is larger than the whole buffer finds room in an empty
    /// one.
    pub(super) fn has_room_for(&self, lines: &Lines) -> bool {
        self.bytes() == 0 || self.bytes() + lines.bytes.len() <= self.most_bytes
    }

    /// Takes all of them in.
    pub(super) fn put(&mut self, lines: &mut Lines) {
        self.pending.append(lines, lines.ends.len());
        lines.clear();
    }

    /// Takes in the first ones, as many as there is room for; the others are lost.
    pub(super) fn put_what_fits(&mut self, lines: &mut Lines, why: LossReason) {
        let room = self.most_bytes.saturating_sub(self.bytes());
        let fits = lines.ends.partition_point(|&end| end <= room);
        self.pending.append(lines, fits);
        self.lose((lines.ends.len() - fits) as u64, why);
        lines.clear();
    }

    pub(super) fn lose(&mut self, records: u64, why: LossReason) {
        self.lost[why as usize] += records;
    }

    /// Exchanges all that waits for an empty text, whose memory is used again.
    pub(super) fn take_out(&mut self, into: &mut Lines) {
        assert!(into.is_empty() && self.taken_bytes == 0, "what was taken out before is written");
        std::mem::swap(&mut self.pending, into);
        (self.taken_bytes, self.taken_records) = (into.bytes.len(), into.ends.len());
    }

    /// So much of what was taken out is still to be written; the rest has been.
    pub(super) fn left(&mut self, bytes: usize, records: usize) {
        self.written += (self.taken_records - records) as u64;
        (self.taken_bytes, self.taken_records) = (bytes, records);
    }

    /// Loses all that waits, taken out or not.
    pub(super) fn lose_all(&mut self, why: LossReason) {
        self.lose(self.records(), why);
        self.pending.clear();
        (self.taken_bytes, self.taken_records) = (0, 0);
    }
}
