//! pcapng captures: blocks of a type, a length, a body and the length again.
//!
//! This file cuts a capture into blocks; [`Section`] knows what they mean. Blocks that bring no
//! frames and describe none are skipped without being held in memory.

use super::decode::{Decode, Flaw, MAX_BATCH_BYTES, MAX_FRAME, Part, Step, Stop, Tally};
use super::formats::header_in_mid_file;
use super::order::Order;
use super::section::{Block, Section, is_known};
use crate::batch::Batch;

/// Block type that starts a section. It reads the same in either byte order.
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
/// Bytes from a block's start to the end of the number that tells the byte order.
pub(crate) const SECTION_START_LEN: usize = 12;

/// The number behind a section's length, which tells the byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Bytes of a block around its body: type, length, and the length again.
const FRAMING: u32 = 12;
/// Longest block that is held in memory: a frame and generous options.
const MAX_BLOCK: u32 = MAX_FRAME + 1024 * 1024;

/// Where a decoder stands in a capture.
pub(crate) struct Pcapng {
    order: Order,
    section: Section,
    /// The block that is being skipped, if any.
    skipping: Option<Skip>,
}

/// A block without frames, on its way past.
#[derive(Clone, Copy)]
struct Skip {
    start: u64,
    len: u32,
    /// Bytes still to skip, the closing length included.
    left: u32,
}

impl Pcapng {
    /// A decoder that has seen nothing yet.
    pub(crate) fn new() -> Self {
        Self { order: Order::Little, section: Section::default(), skipping: None }
    }

    /// The block at `used` of `bytes`, which is at offset `start` of the capture; `None` when it is
    /// one to be skipped.
    #[inline]
    fn block<'a>(
        &mut self,
        bytes: &'a [u8],
        used: usize,
        start: u64,
    ) -> Result<Option<Block<'a>>, Stop> {
        let bytes = &bytes[used..];
        if bytes.len() < SECTION_START_LEN {
            return Err(Stop::Starved(Part::whole(start, SECTION_START_LEN)));
        }
        let kind = self.order.u32(bytes, 0);
        if kind == SECTION {
            self.order = section_order(bytes, start).map_err(Stop::Damage)?;
        }
        let len = self.order.u32(bytes, 4);
        if !is_known(kind)
            && let Some(format) = header_in_mid_file(bytes)
        {
            return Err(Stop::Damage(Flaw::SecondHeader { offset: start, format }));
        }
        if len < FRAMING || !len.is_multiple_of(4) {
            let expected = "a block length that is a multiple of 4 and at least 12";
            return Err(Stop::Damage(Flaw::field(start, expected, len)));
        }
        if !is_known(kind) {
            self.skipping = Some(Skip { start, len, left: len });
            return Ok(None);
        }
        if len > MAX_BLOCK {
            let expected = "a block length of at most 17825792";
            return Err(Stop::Damage(Flaw::field(start, expected, len)));
        }
        let Some(block) = bytes.get(..len as usize) else {
            return Err(Stop::Starved(Part::whole(start, len as usize)));
        };
        let (inner, closing) = block.split_at(block.len() - 4);
        self.check_closing(closing, start, len).map_err(Stop::Damage)?;
        Ok(Some(Block { order: self.order, kind, start, body: &inner[8..], at: used + 8 }))
    }

    /// Holds the length at a block's end against the one at its start.
    #[inline]
    fn check_closing(&self, closing: &[u8], start: u64, len: u32) -> Result<(), Flaw> {
        let found = self.order.u32(closing, 0);
        if found == len {
            return Ok(());
        }
        let end = start + u64::from(len) - 4;
        Err(Flaw::field(end, "the block's length again at its end", found))
    }

    /// Goes on with a block that is being skipped: the bytes used, and why it is not done if so.
    fn skip(&mut self, mut skip: Skip, bytes: &[u8]) -> (usize, Result<(), Stop>) {
        // The closing length stays until it can be read as a whole.
        let used = bytes.len().min(skip.left as usize - 4);
        skip.left -= used as u32;
        let closing = bytes[used..].get(..4).filter(|_| skip.left == 4);
        let Some(closing) = closing else {
            self.skipping = Some(skip);
            let want = if skip.left == 4 { 4 } else { 1 };
            let part = Part { start: skip.start, len: skip.len.into(), want };
            return (used, Err(Stop::Starved(part)));
        };
        self.skipping = None;
        match self.check_closing(closing, skip.start, skip.len) {
            Ok(()) => (used + 4, Ok(())),
            Err(flaw) => (used, Err(Stop::Damage(flaw))),
        }
    }
}

impl Decode for Pcapng {
    fn decode(&mut self, bytes: &[u8], at: u64, batch: &mut Batch, max_frames: usize) -> Step {
        let mut used = 0;
        loop {
            if let Some(skip) = self.skipping {
                let (count, done) = self.skip(skip, &bytes[used..]);
                used += count;
                if let Err(stop) = done {
                    return Step { used, stop };
                }
            }
            if batch.len() >= max_frames || used >= MAX_BATCH_BYTES {
                return Step { used, stop: Stop::Full };
            }
            let block = match self.block(bytes, used, at + used as u64) {
                Ok(Some(block)) => block,
                Ok(None) => continue,
                Err(stop) => return Step { used, stop },
            };
            if let Err(flaw) = self.section.take(&block, batch) {
                return Step { used, stop: Stop::Damage(flaw) };
            }
            used += block.len();
        }
    }

    fn tally(&self) -> &Tally {
        self.section.tally()
    }
}

/// Whether the section that starts here is in this byte order.
pub(crate) fn tells_order(order: Order, bytes: &[u8]) -> bool {
    order.u32(bytes, 8) == BYTE_ORDER
}

/// The byte order of the section that starts here.
fn section_order(bytes: &[u8], start: u64) -> Result<Order, Flaw> {
    let found = Order::Little.u32(bytes, 8);
    [Order::Little, Order::Big]
        .into_iter()
        .find(|&order| tells_order(order, bytes))
        .ok_or_else(|| Flaw::field(start, "the byte-order mark 0x1a2b3c4d", found))
}
