//! Frames that are in memory already.

use serveflow_core::packet::{LinkType, Packet};

use crate::batch::Batch;
use crate::error::{Severity, SourceError};
use crate::source::Source;

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFrame {
    /// Capture time, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Length on the wire in bytes.
    pub orig_len: u32,
    /// What the first byte of `data` belongs to.
    pub link: LinkType,
    /// The captured bytes.
    pub data: Vec<u8>,
    /// The note that the capture holds for the frame.
    pub note: Option<String>,
}

impl OwnedFrame {
    /// A copy of a packet and its note.
    #[must_use]
    pub fn new(packet: &Packet<'_>, note: Option<&str>) -> Self {
        Self {
            ts_ns: packet.ts_ns,
            orig_len: packet.orig_len,
            link: packet.link,
            data: packet.data.to_vec(),
            note: note.map(str::to_owned),
        }
    }
}

/// Hands out frames from memory, in batches of a chosen size.
///
/// Tests use it to show that the split into batches changes no verdict, and benches to measure
/// without a disk.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    frames: Vec<OwnedFrame>,
    next: usize,
    batch_size: usize,
}

impl MemorySource {
    /// A source over these frames, whose batches are as large as the caller asks for.
    #[must_use]
    pub fn new(frames: Vec<OwnedFrame>) -> Self {
        Self { frames, next: 0, batch_size: usize::MAX }
    }

    /// Reads another source to its end.
    ///
    /// # Errors
    /// The first damage of that source.
    pub fn read(source: &mut dyn Source) -> Result<Self, SourceError> {
        let (mut batch, mut frames) = (Batch::new(), Vec::new());
        loop {
            match source.fill(&mut batch, 1024) {
                Ok(0) => return Ok(Self::new(frames)),
                Ok(_) => {}
                Err(error) if error.severity() == Severity::Damage => return Err(error),
                Err(_) => continue,
            }
            let copies = batch.iter().enumerate();
            frames.extend(copies.map(|(i, packet)| OwnedFrame::new(&packet, batch.note(i))));
        }
    }

    /// Limits each batch to `frames` frames (0 is taken as 1), whatever the caller asks for.
    #[must_use]
    pub fn with_batch_size(mut self, frames: usize) -> Self {
        self.batch_size = frames.max(1);
        self
    }

    /// Goes back to the first frame.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// All frames, handed out or not.
    #[must_use]
    pub fn frames(&self) -> &[OwnedFrame] {
        &self.frames
    }
}

impl Source for MemorySource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        let rest = &self.frames[self.next..];
        let count = rest.len().min(self.batch_size).min(max_frames.max(1));
        for frame in &rest[..count] {
            let OwnedFrame { ts_ns, orig_len, link, ref data, ref note } = *frame;
            match note {
                Some(note) => batch.push_with_note(ts_ns, orig_len, link, data, note),
                None => batch.push(ts_ns, orig_len, link, data),
            }
        }
        self.next += count;
        Ok(count)
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_size_hands_out_the_same_frames() {
        let frame = |n: u8| OwnedFrame {
            ts_ns: n.into(),
            orig_len: 60,
            link: LinkType::Ethernet,
            data: vec![n; n.into()],
            note: n.is_multiple_of(2).then(|| format!("{n},label")),
        };
        let frames: Vec<OwnedFrame> = (0..10).map(frame).collect();
        for size in [0, 1, 3, 10, 99] {
            let mut source = MemorySource::new(frames.clone()).with_batch_size(size);
            assert_eq!(MemorySource::read(&mut source).unwrap().frames(), frames);
            let mut batch = Batch::new();
            assert_eq!(source.fill(&mut batch, 5).unwrap(), 0);
            source.rewind();
            assert_eq!(source.fill(&mut batch, 5).unwrap(), size.clamp(1, 5));
        }
    }
}
