//! What the capture formats have in common: whole records out of a run of bytes.
//!
//! A decoder does no I/O. It is handed the bytes that are there and says how many it used and what
//! it needs to go on, so that the same code serves files, pipes and tests at any cut.

use crate::batch::Batch;
use serveflow_core::packet::{LinkType, Packet};

/// Longest frame that is believed, bytes. The longest that a network brings are a few hundred KiB,
/// so a longer one is a damaged length field, which must not be waited for or allocated.
pub(crate) const MAX_FRAME: u32 = 16 * 1024 * 1024;

/// Bytes after which a batch is full, whatever number of frames was asked for.
pub(crate) const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Turns a capture's bytes into frames.
pub(crate) trait Decode: Send {
    /// Adds frames to the batch until it holds `max_frames` or the bytes run out.
    ///
    /// `bytes` go on where the last call's used ones ended, which is at offset `at` of the capture.
    /// They are lent to the batch: frames may be spans of them.
    fn decode(&mut self, bytes: &[u8], at: u64, batch: &mut Batch, max_frames: usize) -> Step;

    /// What was met until now that is no damage.
    fn tally(&self) -> &Tally;
}

/// What is no damage, but to be told at the end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Packets that cannot be parsed for their link type, by its number.
    pub(crate) links: Vec<(u16, Met)>,
    /// Packets whose time cannot be stated, and that have the nearest one that can.
    pub(crate) times: Option<Met>,
}

/// Packets of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    /// How many.
    pub(crate) packets: u64,
    /// Offset of the first in the capture.
    pub(crate) offset: u64,
}

impl Met {
    fn first(offset: u64) -> Self {
        Self { packets: 0, offset }
    }
}

/// Whether packets of this link type can be parsed whatever their bytes are.
pub(crate) fn is_plain(link: LinkType) -> bool {
    link.is_supported() && !link.is_wrapper()
}

impl Tally {
    /// Counts a packet, whose link type is not plain, if that cannot be parsed.
    #[cold]
    pub(crate) fn see(&mut self, link: LinkType, data: &[u8], offset: u64) {
        let packet = Packet { link, data, ..Packet::default() };
        let Some(number) = packet.unsupported_link() else { return };
        let at = self.links.iter().position(|&(other, _)| other == number);
        let at = at.unwrap_or_else(|| {
            self.links.push((number, Met::first(offset)));
            self.links.len() - 1
        });
        self.links[at].1.packets += 1;
    }

    /// Counts a packet whose time cannot be stated.
    #[cold]
    pub(crate) fn see_time(&mut self, offset: u64) {
        self.times.get_or_insert(Met::first(offset)).packets += 1;
    }
}

/// How far a decoder came.
#[derive(Debug)]
pub(crate) struct Step {
    /// Bytes that are done with.
    pub(crate) used: usize,
    /// Why it stopped.
    pub(crate) stop: Stop,
}

/// Why a decoder stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The batch is full.
    Full,
    /// The bytes end, here or inside a part of the capture.
    Starved(Part),
    /// Nothing from here on can be trusted.
    Damage(Flaw),
}

/// A header, record or block that is not there in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Its offset in the capture.
    pub(crate) start: u64,
    /// Its length in bytes as far as it is known.
    pub(crate) len: u64,
    /// Bytes that must follow the used ones before decoding can go on.
    pub(crate) want: usize,
}

impl Part {
    /// A part at offset `start` that has to be there in full.
    pub(crate) fn whole(start: u64, len: usize) -> Self {
        Self { start, len: len as u64, want: len }
    }
}

/// What is wrong with a capture.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
    /// A field holds what it cannot hold.
    Field {
        /// Offset of the header that the field belongs to.
        offset: u64,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: u64,
    },
    /// The header of another capture.
    SecondHeader {
        /// Its offset.
        offset: u64,
        /// The format of the other capture.
        format: &'static str,
    },
}

impl Flaw {
    /// A field that holds what it cannot hold.
    pub(crate) fn field(offset: u64, expected: &'static str, found: impl Into<u64>) -> Self {
        Self::Field { offset, expected, found: found.into() }
    }
}
