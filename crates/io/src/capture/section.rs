//! What the blocks of a pcapng section mean: its interfaces, and the frames they captured.

use std::borrow::Cow;

use serveflow_core::packet::LinkType;

use super::clock::Clock;
use super::decode::{Flaw, Tally, is_plain};
use super::options::find;
use super::order::Order;
use super::pcapng::SECTION;
use crate::batch::Batch;

const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Interfaces that a section may have; real captures have a few dozen.
const MAX_INTERFACES: usize = 65_536;

/// Option of a packet block: a note in UTF-8.
const COMMENT: u16 = 1;
/// Option of an interface: the unit of its time stamps.
const TS_RESOLUTION: u16 = 9;
/// Option of an interface: seconds to add to its time stamps.
const TS_OFFSET: u16 = 14;

/// Expected of a packet whose length field points outside its block.
const CAPTURED_LENGTH: &str = "a captured length within the block";

/// Whether blocks of this type matter here; all others may be skipped.
#[inline]
pub(super) fn is_known(kind: u32) -> bool {
    matches!(kind, SECTION | INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET)
}

/// A block that is there in full.
pub(super) struct Block<'a> {
    /// Byte order of its section.
    pub(super) order: Order,
    /// Block type.
    pub(super) kind: u32,
    /// Its offset in the capture.
    pub(super) start: u64,
    /// What stands between its two lengths.
    pub(super) body: &'a [u8],
    /// Where the body stands in the bytes that are being decoded.
    pub(super) at: usize,
}

impl Block<'_> {
    /// Its length in the capture, bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.body.len() + 12
    }

    /// Checks that the body has its fixed part.
    #[inline]
    fn require(&self, body_len: usize, expected: &'static str) -> Result<(), Flaw> {
        if self.body.len() < body_len {
            return Err(self.flaw(expected, self.len() as u64));
        }
        Ok(())
    }

    /// This block holds what it cannot hold.
    fn flaw(&self, expected: &'static str, found: impl Into<u64>) -> Flaw {
        Flaw::field(self.start, expected, found)
    }
}

/// An interface that frames were captured on.
struct Interface {
    link: LinkType,
    clock: Clock,
    /// Longest captured frame, bytes; 0 is no limit.
    snaplen: u32,
}

/// What the blocks of a section so far say about those that follow.
#[derive(Default)]
pub(super) struct Section {
    interfaces: Vec<Interface>,
    /// Time of the packet before, nanoseconds since the epoch.
    last_ns: u64,
    /// Of all sections so far.
    tally: Tally,
}

impl Section {
    /// What was met until now that is no damage.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes a known block in: a frame goes to the batch.
    #[inline]
    pub(super) fn take(&mut self, block: &Block<'_>, batch: &mut Batch) -> Result<(), Flaw> {
        match block.kind {
            ENHANCED_PACKET | OBSOLETE_PACKET => self.packet(block, batch),
            SIMPLE_PACKET => self.simple_packet(block, batch),
            INTERFACE => self.interface(block),
            _ => self.restart(block),
        }
    }

    /// A packet with an interface, a time, two lengths and options.
    ///
    /// The obsolete layout differs from the enhanced one in nothing but the width of the
    /// interface's number: the other half of its 32 bits counts drops.
    #[inline]
    fn packet(&mut self, block: &Block<'_>, batch: &mut Batch) -> Result<(), Flaw> {
        block.require(20, "a packet block of at least 32 bytes")?;
        let (order, body) = (block.order, block.body);
        let id = match block.kind {
            ENHANCED_PACKET => order.u32(body, 0),
            _ => order.u16(body, 0).into(),
        };
        let Some(interface) = self.interfaces.get(id as usize) else {
            return Err(block.flaw("the number of an interface of this section", id));
        };
        let ticks = u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8));
        let captured = order.u32(body, 12);
        let Some(data) = body[20..].get(..captured as usize) else {
            return Err(block.flaw(CAPTURED_LENGTH, captured));
        };
        let ((ts_ns, is_meant), wire) = (interface.clock.ns(ticks), order.u32(body, 16));
        self.last_ns = ts_ns;
        if !is_meant {
            self.tally.see_time(block.start);
        }
        if !is_plain(interface.link) {
            self.tally.see(interface.link, data, block.start);
        }
        batch.push_span(ts_ns, wire, interface.link, block.at + 20, captured);
        if let Some(note) = comment(order, &body[20..], data.len()) {
            batch.note_last(&note);
        }
        Ok(())
    }

    /// A packet of the first interface without a time of its own.
    ///
    /// It takes the time of the packet before it, so that time does not fall back to 1970.
    fn simple_packet(&mut self, block: &Block<'_>, batch: &mut Batch) -> Result<(), Flaw> {
        block.require(4, "a simple packet block of at least 16 bytes")?;
        let Some(interface) = self.interfaces.first() else {
            return Err(block.flaw("an interface before a simple packet", 0u32));
        };
        let wire = block.order.u32(block.body, 0);
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = wire.min(limit);
        let Some(data) = block.body[4..].get(..captured as usize) else {
            return Err(block.flaw(CAPTURED_LENGTH, captured));
        };
        if !is_plain(interface.link) {
            self.tally.see(interface.link, data, block.start);
        }
        batch.push_span(self.last_ns, wire, interface.link, block.at + 4, captured);
        Ok(())
    }

    fn interface(&mut self, block: &Block<'_>) -> Result<(), Flaw> {
        block.require(8, "an interface block of at least 20 bytes")?;
        if self.interfaces.len() == MAX_INTERFACES {
            let expected = "at most 65536 interfaces in a section";
            return Err(block.flaw(expected, MAX_INTERFACES as u64 + 1));
        }
        let (order, options) = (block.order, &block.body[8..]);
        // A clock that is guessed gives wrong features in silence, so an odd one is damage.
        let resolution = match find(order, options, TS_RESOLUTION) {
            None => None,
            Some(&[resolution]) => Some(resolution),
            Some(other) => {
                return Err(block.flaw("an if_tsresol option of 1 byte", other.len() as u64));
            }
        };
        let offset_s = match find(order, options, TS_OFFSET) {
            None => 0,
            Some(value) if value.len() == 8 => order.u64(value, 0).cast_signed(),
            Some(other) => {
                return Err(block.flaw("an if_tsoffset option of 8 bytes", other.len() as u64));
            }
        };
        self.interfaces.push(Interface {
            link: LinkType::from_number(order.u16(block.body, 0)),
            clock: Clock::new(resolution, offset_s),
            snaplen: order.u32(block.body, 4),
        });
        Ok(())
    }

    /// A new section forgets the interfaces of the one before.
    fn restart(&mut self, block: &Block<'_>) -> Result<(), Flaw> {
        block.require(16, "a section block of at least 28 bytes")?;
        let major = block.order.u16(block.body, 4);
        if major != 1 {
            return Err(block.flaw("version 1 of the pcapng format", major));
        }
        self.interfaces.clear();
        Ok(())
    }
}

/// The note of a packet, which stands behind its frame of `len` bytes.
#[inline]
fn comment(order: Order, frame_and_options: &[u8], len: usize) -> Option<Cow<'_, str>> {
    let options = frame_and_options.get(len.next_multiple_of(4)..)?;
    if options.is_empty() {
        return None;
    }
    find(order, options, COMMENT).map(String::from_utf8_lossy)
}
