//! `header_bits`: the nPrint bits of each packet, masked.

use super::layout::{HeaderLayout, MOST_WORDS};
use super::{Encoder, EncoderEntry, FeatureSpec, Mask, MaskSet, packet_column};
use crate::parse::Header;
use crate::record::FlowRecord;
use crate::rows::{BitAt, Column, Place, RowShape};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "header_bits",
    doc: "nPrint header bits of each packet: -1 absent, 0, 1 (IPv4, TCP, UDP; IPv6 and ICMP as \
          options)",
    build: |spec| Box::new(HeaderBits::new(spec)),
};

#[derive(Debug)]
struct HeaderBits {
    packets: u16,
    layout: HeaderLayout,
    masks: MaskSet,
    /// One bit per value and presence bit of a packet: 1 = shown.
    keep: Vec<u32>,
}

impl HeaderBits {
    fn new(spec: &FeatureSpec) -> Self {
        let layout = spec.layout;
        let mut keep = vec![u32::MAX; layout.packet_words()];
        layout.each_bit(|field, _, word, bit| {
            if spec.masks.hides(field) {
                keep[word] &= !(1 << (31 - bit));
            }
        });
        Self { packets: spec.packets, layout, masks: spec.masks, keep }
    }
}

fn header_words(header: Header) -> usize {
    HeaderLayout::new(&[header]).value_words()
}

impl Encoder for HeaderBits {
    fn shape(&self) -> RowShape {
        RowShape { words: self.layout.packet_words() * usize::from(self.packets), numbers: 0 }
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for packet in 0..self.packets {
            let base = self.layout.packet_words() * usize::from(packet);
            self.layout.each_bit(|field, index, word, bit| {
                if self.masks.hides(field) {
                    return;
                }
                let (presence_word, presence_bit) = self.layout.presence(word);
                let value = BitAt { word: (base + word) as u32, bit: 31 - bit };
                let presence = BitAt { word: (base + presence_word) as u32, bit: presence_bit };
                columns.push(Column {
                    name: packet_column(self.packets, packet, &format!("{field}_{index}")),
                    place: Place::Bit { value, presence },
                });
            });
        }
        columns
    }

    fn layout(&self) -> HeaderLayout {
        self.layout
    }

    fn encode(&self, record: &FlowRecord<'_>, words: &mut [u32], _numbers: &mut [f32]) {
        let stride = self.layout.packet_words();
        for (packet, row) in record.packets().zip(words.chunks_exact_mut(stride)) {
            packet.headers.write(&self.layout, &self.keep, row);
            if self.masks.contains(Mask::TcpTimestamps) {
                clear_timestamps(&self.layout, row);
            }
        }
    }
}

const TCP_FIXED_WORDS: usize = 5;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_TIMESTAMPS: u8 = 8;
const TIMESTAMPS_LEN: usize = 10;

/// Zeroes the value and echo of a TCP timestamps option (RFC 7323), wherever it stands.
fn clear_timestamps(layout: &HeaderLayout, row: &mut [u32]) {
    let Some(first) = layout.first_word(Header::Tcp) else { return };
    let options = &mut row[first + TCP_FIXED_WORDS..first + header_words(Header::Tcp)];
    let mut bytes = [0; MOST_WORDS * 4];
    let bytes = &mut bytes[..options.len() * 4];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(options.iter()) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    let mut at = 0;
    while at + 1 < bytes.len() && bytes[at] != OPTION_END {
        if bytes[at] == OPTION_NOP {
            at += 1;
            continue;
        }
        let len = usize::from(bytes[at + 1]).max(2);
        if bytes[at] == OPTION_TIMESTAMPS && len == TIMESTAMPS_LEN && at + len <= bytes.len() {
            bytes[at + 2..at + len].fill(0);
        }
        at += len;
    }
    for (chunk, word) in bytes.chunks_exact(4).zip(options) {
        *word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_cleared_wherever_they_stand() {
        let layout = HeaderLayout::default();
        let options: [u8; 20] = [2, 4, 5, 180, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 7, 0, 0];
        let mut row = vec![0; layout.packet_words()];
        let first = layout.first_word(Header::Tcp).unwrap() + TCP_FIXED_WORDS;
        for (word, chunk) in row[first..].iter_mut().zip(options.chunks_exact(4)) {
            *word = u32::from_be_bytes(chunk.try_into().unwrap());
        }
        clear_timestamps(&layout, &mut row);
        let after: Vec<u8> = row[first..first + 5].iter().flat_map(|w| w.to_be_bytes()).collect();
        assert_eq!(after, [2, 4, 5, 180, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 7, 0, 0]);
    }
}
