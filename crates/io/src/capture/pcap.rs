//! Classic captures: a header of 24 bytes, then records of a header and a frame each.

use serveflow_core::packet::LinkType;

use super::decode::{Decode, Flaw, MAX_BATCH_BYTES, MAX_FRAME, Part, Step, Stop, Tally, is_plain};
use super::formats::header_in_mid_file;
use super::order::Order;
use crate::batch::Batch;

/// Length of the file header, bytes.
pub(crate) const HEADER_LEN: usize = 24;

/// Magic number of captures in microseconds.
pub(crate) const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Magic number of captures in nanoseconds.
pub(crate) const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Magic number of captures in microseconds whose record headers carry 8 more bytes (interface,
/// protocol, packet type), as a patched libpcap of the 1990s wrote them.
pub(crate) const PATCHED: u32 = 0xa1b2_cd34;

/// All of them.
pub(crate) const MAGICS: [u32; 3] = [MICROSECONDS, NANOSECONDS, PATCHED];
/// The version, before the point.
pub(crate) const VERSION: u16 = 2;

/// Offset of the link type in the file header.
const LINK_AT: usize = 20;
/// The bits of the link type's field that are the link type; the others tell of a frame check
/// sequence at the frames' ends, which is as good as padding to the parser.
const LINK_BITS: u32 = 0x03ff_ffff;

/// What the file header says about all records.
pub(crate) struct Pcap {
    order: Order,
    link: LinkType,
    /// Nanoseconds in a unit of the second time stamp field.
    ns_per_unit: u64,
    record_header: usize,
    /// Before version 2.4 the two lengths stood in either order.
    old_lengths: bool,
    tally: Tally,
}

impl Pcap {
    /// Reads the file header.
    ///
    /// # Panics
    /// When the header is not one of this format: the caller has seen its magic number.
    pub(crate) fn new(header: &[u8]) -> Result<Self, Flaw> {
        let order = [Order::Little, Order::Big]
            .into_iter()
            .find(|order| MAGICS.contains(&order.u32(header, 0)))
            .expect("the format was chosen by this magic number");
        let magic = order.u32(header, 0);
        let (major, minor) = (order.u16(header, 4), order.u16(header, 6));
        if major != VERSION {
            return Err(Flaw::field(4, "version 2 of the pcap format", major));
        }
        let link = order.u32(header, LINK_AT) & LINK_BITS;
        let Ok(number) = u16::try_from(link) else {
            return Err(Flaw::field(LINK_AT as u64, "a link type of at most 65535", link));
        };
        Ok(Self {
            order,
            link: LinkType::from_number(number),
            tally: Tally::default(),
            ns_per_unit: if magic == NANOSECONDS { 1 } else { 1000 },
            record_header: if magic == PATCHED { 24 } else { 16 },
            old_lengths: minor < 4,
        })
    }

    /// Time stamp, captured length and wire length of a record.
    #[inline]
    fn record(&self, header: &[u8]) -> (u64, u32, u32) {
        let [seconds, units, mut captured, mut wire] = self.order.u32s(header);
        let (seconds, units) = (u64::from(seconds), u64::from(units));
        if self.old_lengths && wire < captured {
            (captured, wire) = (wire, captured);
        }
        // 2^32 seconds and 2^32 microseconds are a quarter of what 64 bits of nanoseconds hold.
        (seconds * 1_000_000_000 + units * self.ns_per_unit, captured, wire)
    }
}

impl Decode for Pcap {
    fn decode(&mut self, bytes: &[u8], at: u64, batch: &mut Batch, max_frames: usize) -> Step {
        let mut used = 0;
        let stop = loop {
            if batch.len() >= max_frames || used >= MAX_BATCH_BYTES {
                break Stop::Full;
            }
            let rest = &bytes[used..];
            let start = at + used as u64;
            let Some((header, body)) = rest.split_at_checked(self.record_header) else {
                break Stop::Starved(Part::whole(start, self.record_header));
            };
            let (ts_ns, captured, wire) = self.record(header);
            // As a record, a file header has no bytes or far too many.
            if (captured == 0 || captured > MAX_FRAME)
                && let Some(format) = header_in_mid_file(rest)
            {
                break Stop::Damage(Flaw::SecondHeader { offset: start, format });
            }
            if captured > MAX_FRAME {
                let expected = "a captured length of at most 16777216";
                break Stop::Damage(Flaw::field(start, expected, captured));
            }
            let len = self.record_header + captured as usize;
            if body.len() < captured as usize {
                break Stop::Starved(Part::whole(start, len));
            }
            if !is_plain(self.link) {
                self.tally.see(self.link, &body[..captured as usize], start);
            }
            batch.push_span(ts_ns, wire, self.link, used + self.record_header, captured);
            used += len;
        };
        Step { used, stop }
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(magic: [u8; 4], minor: u8, link: [u8; 4]) -> Vec<u8> {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&[2, 0, minor, 0]);
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&link);
        bytes
    }

    #[test]
    fn check_sequence_flags_are_no_part_of_the_link_type() {
        let pcap = Pcap::new(&header(MICROSECONDS.to_le_bytes(), 4, [1, 0, 0, 0x24])).unwrap();
        assert_eq!(pcap.link, LinkType::Ethernet);
    }

    #[test]
    fn a_link_type_beyond_sixteen_bits_is_not_cut_down_to_a_known_one() {
        let flaw = Pcap::new(&header(MICROSECONDS.to_le_bytes(), 4, [1, 0, 1, 0])).err();
        assert!(matches!(flaw, Some(Flaw::Field { offset: 20, found: 0x1_0001, .. })));
    }

    #[test]
    fn lengths_of_old_captures_stand_in_either_order() {
        let mut record = vec![0; 8];
        record.extend_from_slice(&60u32.to_le_bytes());
        record.extend_from_slice(&4u32.to_le_bytes());
        let old = Pcap::new(&header(NANOSECONDS.to_le_bytes(), 3, [1, 0, 0, 0])).unwrap();
        assert_eq!(old.record(&record), (0, 4, 60));
        let new = Pcap::new(&header(NANOSECONDS.to_le_bytes(), 4, [1, 0, 0, 0])).unwrap();
        assert_eq!(new.record(&record), (0, 60, 4));
    }

    #[test]
    fn the_latest_time_does_not_overflow() {
        let pcap = Pcap::new(&header(MICROSECONDS.to_le_bytes(), 4, [1, 0, 0, 0])).unwrap();
        let (ts_ns, ..) = pcap.record(&[0xff; 16]);
        assert_eq!(ts_ns, 4_294_967_295 * 1_000_000_000 + 4_294_967_295_000);
    }
}
