//! The arena that one fill of a source leaves behind.

mod edit;

pub use edit::OrderCount;

use serveflow_core::clock::Clock;
use serveflow_core::packet::{LinkType, Packet};
use std::sync::Arc;

/// Note index of a frame without a note.
const NO_NOTE: u32 = u32::MAX;

/// Where a frame's bytes stand in the arena, and what its capture said about it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    ts_ns: u64,
    /// What the clock of all frames said at this one, in a share of them; while frames are put in
    /// order, their turn where it is not their time stamp's; else 0.
    now_ns: u64,
    offset: usize,
    len: u32,
    orig_len: u32,
    note: u32,
    link: LinkType,
}

/// Bytes as they were read, shared by the reader and the batches whose frames lie in them.
pub(crate) type Block = Arc<Vec<u8>>;

/// A clock that starts over: what it said until then, and what it says from then on, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Until then.
    pub before_ns: u64,
    /// From then on.
    pub now_ns: u64,
}

/// Captured frames, all in one block of memory: either copies in the batch's own, which is used
/// again and again, or spans of a block that a reader lent, which are never copied.
///
/// Clearing keeps the batch's own memory, so that filling allocates nothing once the largest batch
/// has passed, and returns what was lent.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    data: Vec<u8>,
    /// What was lent, and where in it spans are counted from.
    lent: Option<(Block, usize)>,
    frames: Vec<Frame>,
    /// Whether the frames are a share of all, and go by the clock of all.
    is_share: bool,
    /// Whether that clock starts over before these frames.
    restart: Option<Restart>,
    /// Until when nothing came, where nothing did.
    quiet_until: Option<u64>,
    /// What was found while frames were put in order.
    order: OrderCount,
    /// Whether frames came as they happened.
    is_live: bool,
    notes: String,
    /// Start and end of each note in `notes`, bytes.
    note_spans: Vec<(usize, usize)>,
}

impl Batch {
    /// An empty batch that owns no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `frames` frames that hold `bytes` bytes together.
    #[must_use]
    pub fn with_capacity(frames: usize, bytes: usize) -> Self {
        Self {
            data: Vec::with_capacity(bytes),
            frames: Vec::with_capacity(frames),
            ..Self::default()
        }
    }

    /// Forgets all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.lent = None;
        self.is_share = false;
        self.restart = None;
        self.quiet_until = None;
        self.order = OrderCount::default();
        self.is_live = false;
        self.frames.clear();
        self.notes.clear();
        self.note_spans.clear();
    }

    /// Adds a copy of a frame.
    ///
    /// `ts_ns` is the capture time in nanoseconds since the epoch and `orig_len` the length on the
    /// wire in bytes. A wire length below the captured one is a writer's slip and is raised to it.
    ///
    /// # Panics
    /// When the frame is 4 GiB or longer: sources refuse such frames as damage.
    #[inline]
    pub fn push(&mut self, ts_ns: u64, orig_len: u32, link: LinkType, data: &[u8]) {
        assert!(self.lent.is_none(), "a batch of spans takes no copies");
        let len = u32::try_from(data.len()).expect("a frame is shorter than 4 GiB");
        let (offset, orig_len) = (self.data.len(), orig_len.max(len));
        self.data.extend_from_slice(data);
        self.frames.push(Frame { ts_ns, now_ns: 0, offset, len, orig_len, note: NO_NOTE, link });
    }

    /// Adds a copy of a frame and of the note that its capture holds for it.
    ///
    /// # Panics
    /// As [`Batch::push`].
    pub fn push_with_note(
        &mut self,
        ts_ns: u64,
        orig_len: u32,
        link: LinkType,
        data: &[u8],
        note: &str,
    ) {
        self.push(ts_ns, orig_len, link, data);
        self.note_last(note);
    }

    /// Adds the note that the capture holds for the last frame.
    pub(crate) fn note_last(&mut self, note: &str) {
        let last = self.frames.len().checked_sub(1).expect("a note belongs to a frame");
        self.note_frame(last, note);
    }

    fn note_frame(&mut self, index: usize, note: &str) {
        let number = u32::try_from(self.note_spans.len()).expect("fewer notes than 2^32");
        let start = self.notes.len();
        self.notes.push_str(note);
        self.note_spans.push((start, self.notes.len()));
        self.frames[index].note = number;
    }

    /// Lends an empty batch a block of bytes, in which its frames lie from `start` on.
    pub(crate) fn lend(&mut self, block: &Block, start: usize) {
        assert!(self.frames.is_empty(), "frames lie in one block");
        self.lent = Some((Arc::clone(block), start));
    }

    /// Runs a clock over the frames, and tells where in them it starts over, unless they come with
    /// a clock of their own.
    pub(crate) fn run_clock(&mut self, clock: &mut Clock, restarts: &mut Vec<(usize, Restart)>) {
        if let Some(restart) = self.restart {
            clock.start_at(restart.now_ns);
            restarts.push((0, restart));
        }
        if self.is_share {
            return;
        }
        for (index, frame) in self.frames.iter_mut().enumerate() {
            let before_ns = clock.now_ns();
            let tick = clock.tick(frame.ts_ns);
            frame.now_ns = tick.now_ns;
            self.order.stray_timestamps += u64::from(tick.ts_ns != frame.ts_ns);
            frame.ts_ns = tick.ts_ns;
            if tick.restarted {
                restarts.push((index, Restart { before_ns, now_ns: tick.now_ns }));
            }
        }
    }

    /// Empties it, to take a share of the frames of `other`, on which a clock was run, without
    /// copying them where they were lent.
    pub(crate) fn begin_share(&mut self, other: &Self, restart: Option<Restart>) {
        self.clear();
        self.lent.clone_from(&other.lent);
        self.is_share = true;
        self.restart = restart;
    }

    /// Whether the frames go by a clock that saw others too, which [`Self::iter_at`] tells: they
    /// are a share of all, or come from several captures that one flow table was asked for.
    #[must_use]
    pub fn is_share(&self) -> bool {
        self.is_share
    }

    /// Whether the frames came as they happened and nobody has looked ahead, so that time stamps
    /// may be anything; silence is told of.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// What was found while the frames up to these were put in order, since the batch before.
    #[must_use]
    pub fn order(&self) -> OrderCount {
        self.order
    }

    /// Whether the clock of all frames starts over before those of this share, which may be none.
    #[must_use]
    pub fn restart(&self) -> Option<Restart> {
        self.restart
    }

    /// Says that no frame came, until this time at least, nanoseconds since the epoch; 0 if that is
    /// not known.
    pub fn be_quiet(&mut self, until_ns: u64) {
        self.quiet_until = Some(until_ns);
    }

    /// Until when a live source had no frame, where it has none and is not at its end.
    #[must_use]
    pub fn quiet_until(&self) -> Option<u64> {
        self.quiet_until
    }

    /// Whether a fill that brought this has brought the end of its source.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_empty()
            && self.restart.is_none()
            && self.quiet_until.is_none()
            && self.order == OrderCount::default()
    }

    /// All frames of a share, in the order of capture, and what the clock of all said at each.
    pub fn iter_at(&self) -> impl ExactSizeIterator<Item = (Packet<'_>, u64)> {
        let arena = self.arena();
        self.frames.iter().map(move |frame| (view(arena, frame), frame.now_ns))
    }

    /// Adds a frame that is `len` bytes at `offset` of what was lent.
    #[inline]
    pub(crate) fn push_span(
        &mut self,
        ts_ns: u64,
        orig_len: u32,
        link: LinkType,
        offset: usize,
        len: u32,
    ) {
        let orig_len = orig_len.max(len);
        self.frames.push(Frame { ts_ns, now_ns: 0, offset, len, orig_len, note: NO_NOTE, link });
    }

    /// Moves all frames on in time, so that a capture can be played again behind itself.
    pub fn delay(&mut self, by_ns: u64) {
        for frame in &mut self.frames {
            frame.ts_ns = frame.ts_ns.saturating_add(by_ns);
        }
    }

    /// Number of frames.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frame `index`, in the order of capture.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[inline]
    #[must_use]
    pub fn packet(&self, index: usize) -> Packet<'_> {
        view(self.arena(), &self.frames[index])
    }

    /// The note of frame `index`: the first comment on the packet in a pcapng capture, if any.
    ///
    /// # Panics
    /// When `index` is out of range.
    #[must_use]
    pub fn note(&self, index: usize) -> Option<&str> {
        match self.frames[index].note {
            NO_NOTE => None,
            note => {
                let (start, end) = self.note_spans[note as usize];
                Some(&self.notes[start..end])
            }
        }
    }

    /// All frames, in the order of capture.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        let arena = self.arena();
        self.frames.iter().map(move |frame| view(arena, frame))
    }

    /// The bytes that the frames lie in.
    #[inline]
    fn arena(&self) -> &[u8] {
        match &self.lent {
            Some((block, start)) => &block[*start..],
            None => &self.data,
        }
    }
}

#[inline]
fn view<'a>(arena: &'a [u8], frame: &Frame) -> Packet<'a> {
    Packet {
        ts_ns: frame.ts_ns,
        orig_len: frame.orig_len,
        link: frame.link,
        data: &arena[frame.offset..frame.offset + frame.len as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(batch: &mut Batch) {
        batch.push(1, 60, LinkType::Ethernet, &[1, 2, 3]);
        batch.push_with_note(2, 4, LinkType::RawIp, &[4, 5, 6, 7], "7,video");
        batch.push(3, 0, LinkType::Unsupported(7), &[]);
    }

    #[test]
    fn frames_come_back_as_they_were_pushed() {
        let mut batch = Batch::new();
        sample(&mut batch);
        assert_eq!(batch.len(), 3);
        let packet = batch.packet(1);
        assert_eq!((packet.ts_ns, packet.orig_len), (2, 4));
        assert_eq!(packet.link, LinkType::RawIp);
        assert_eq!(packet.data, [4, 5, 6, 7]);
        assert_eq!(batch.note(0), None);
        assert_eq!(batch.note(1), Some("7,video"));
        let times: Vec<u64> = batch.iter().map(|packet| packet.ts_ns).collect();
        assert_eq!(times, [1, 2, 3]);
    }

    #[test]
    fn wire_length_is_at_least_the_captured_length() {
        let mut batch = Batch::new();
        batch.push(0, 1, LinkType::Ethernet, &[0; 9]);
        assert_eq!(batch.packet(0).orig_len, 9);
    }

    #[test]
    fn a_warm_batch_keeps_its_memory() {
        let mut batch = Batch::new();
        sample(&mut batch);
        let before = (batch.data.as_ptr(), batch.frames.as_ptr(), batch.notes.as_ptr());
        batch.clear();
        assert!(batch.is_empty());
        sample(&mut batch);
        let after = (batch.data.as_ptr(), batch.frames.as_ptr(), batch.notes.as_ptr());
        assert_eq!(before, after);
    }
}
