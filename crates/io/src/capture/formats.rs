//! The explicit lists of capture formats and compressions, known by their first bytes.

use std::io::{self, Read};
use std::ops::RangeInclusive;

use super::decode::{Decode, Flaw};
use super::members::{self, Leftover};
use super::order::Order;
use super::pcap::{self, Pcap};
use super::pcapng::{self, Pcapng};

/// A stream of bytes, compressed or not.
pub(crate) type Bytes = Box<dyn Read + Send>;

/// Reads a header; the decoder, and how many bytes of the header it will not see again.
pub(crate) type Start = fn(&[u8]) -> Result<(Box<dyn Decode>, usize), Flaw>;

/// Bytes that are enough to tell what a file is.
pub(crate) const MAGIC_LEN: usize = 4;

/// A capture format: one line of [`FORMATS`].
pub struct Format {
    /// Short name.
    pub name: &'static str,
    /// What it is, in one line.
    pub doc: &'static str,
    /// The first four bytes of a capture, one entry for each variant and byte order.
    pub magics: &'static [[u8; 4]],
    /// Length of the header that `start` wants to see, bytes.
    pub(crate) header_len: usize,
    /// Makes a decoder from the header.
    pub(crate) start: Start,
}

/// The capture formats that can be read.
pub static FORMATS: &[Format] = &[
    Format {
        name: "pcap",
        doc: "classic capture, microseconds or nanoseconds, either byte order",
        magics: &[
            pcap::MICROSECONDS.to_le_bytes(),
            pcap::MICROSECONDS.to_be_bytes(),
            pcap::NANOSECONDS.to_le_bytes(),
            pcap::NANOSECONDS.to_be_bytes(),
            pcap::PATCHED.to_le_bytes(),
            pcap::PATCHED.to_be_bytes(),
        ],
        header_len: pcap::HEADER_LEN,
        start: |header| Ok((Box::new(Pcap::new(header)?), pcap::HEADER_LEN)),
    },
    Format {
        name: "pcapng",
        doc: "capture of blocks, with a link type per interface and packet comments",
        magics: &[pcapng::SECTION.to_le_bytes()],
        header_len: pcapng::SECTION_START_LEN,
        start: |_| Ok((Box::new(Pcapng::new()), 0)),
    },
];

/// A compression around a capture: one line of [`CODECS`].
pub struct Codec {
    /// Short name.
    pub name: &'static str,
    /// What it is, in one line.
    pub doc: &'static str,
    /// The first bytes of a compressed file: what the first may be, and those behind it.
    pub magics: &'static [(RangeInclusive<u8>, &'static [u8])],
    /// Wraps the compressed stream in a decompressor, which counts what is left over behind it.
    pub(crate) open: fn(Bytes, Leftover) -> io::Result<Bytes>,
}

/// The compressions that are undone.
pub static CODECS: &[Codec] = &[GZIP, ZSTD];

/// gzip.
pub(super) const GZIP: Codec = Codec {
    name: "gzip",
    doc: "gzip, one or several members",
    magics: &[(0x1f..=0x1f, &[0x8b])],
    open: members::gzip,
};

/// Zstandard.
pub(super) const ZSTD: Codec = Codec {
    name: "zstd",
    doc: "Zstandard, one or several frames",
    // Frames, and those that are to be skipped, which may stand anywhere: pzstd begins with one.
    magics: &[(0x28..=0x28, &[0xb5, 0x2f, 0xfd]), (0x50..=0x5f, &[0x2a, 0x4d, 0x18])],
    open: members::zstd,
};

/// The format whose magic number these bytes are.
pub(crate) fn format_of(magic: [u8; MAGIC_LEN]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.magics.contains(&magic))
}

/// The format of the capture whose header stands where a record should; eight bytes tell a pcap's,
/// and twelve a pcapng's.
pub(crate) fn header_in_mid_file(bytes: &[u8]) -> Option<&'static str> {
    let format = format_of(*bytes.first_chunk()?)?;
    let orders = [Order::Little, Order::Big];
    let is_header = match format.name {
        "pcap" => orders.iter().any(|order| {
            pcap::MAGICS.contains(&order.u32(bytes, 0))
                && bytes.len() >= 8
                && order.u16(bytes, 4) == pcap::VERSION
        }),
        _ => bytes.len() >= 12 && orders.iter().any(|order| pcapng::tells_order(*order, bytes)),
    };
    is_header.then_some(format.name)
}

/// The compression that a file with these first bytes is in.
pub(crate) fn codec_of(head: &[u8]) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.begins(head))
}

/// What a file with these first bytes is, plain or compressed.
pub(crate) fn kind_of(head: &[u8]) -> Option<&'static str> {
    let format = head.first_chunk().and_then(|magic| format_of(*magic));
    format.map(|format| format.name).or_else(|| codec_of(head).map(|codec| codec.name))
}

impl Codec {
    /// Whether a file with these first bytes is in this compression.
    pub(crate) fn begins(&self, head: &[u8]) -> bool {
        let Some((first, rest)) = head.split_first() else { return false };
        self.magics
            .iter()
            .any(|(firsts, behind)| firsts.contains(first) && rest.starts_with(behind))
    }

    /// Whether so few bytes at the end of a file may be the beginning of a member that was cut.
    pub(crate) fn may_begin(&self, head: &[u8]) -> bool {
        let Some((first, rest)) = head.split_first() else { return false };
        self.magics
            .iter()
            .any(|(firsts, behind)| firsts.contains(first) && behind.starts_with(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_documented_for_users_of_the_crate() {
        let docs = include_str!("../lib.rs");
        let names = FORMATS.iter().map(|format| (format.name, format.doc));
        for (name, doc) in names.chain(CODECS.iter().map(|codec| (codec.name, codec.doc))) {
            assert!(docs.contains(&format!("//! - `{name}`: ")), "{name} is in the crate's docs");
            assert!(!doc.is_empty() && !doc.contains('\n'), "{name} has a line of its own");
        }
    }

    #[test]
    fn no_two_entries_claim_the_same_bytes() {
        let magics: Vec<[u8; 4]> = FORMATS.iter().flat_map(|f| f.magics).copied().collect();
        for (index, magic) in magics.iter().enumerate() {
            assert!(!magics[index + 1..].contains(magic));
            assert!(codec_of(magic).is_none());
        }
    }
}
