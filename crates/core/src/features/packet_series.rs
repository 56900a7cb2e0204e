//! `packet_series`: sizes, gaps, directions, TCP flags and payload sizes, packet by packet.

use super::layout::HeaderLayout;
use super::{Encoder, EncoderEntry, FeatureSpec, packet_column};
use crate::record::{FlowRecord, PacketMeta};
use crate::rows::{Column, Place, RowShape};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "packet_series",
    doc: "per packet: signed size (bytes), gap to the previous packet (us), direction, TCP flags, \
          payload (bytes)",
    build: |spec| Box::new(PacketSeries::new(spec)),
};

const NAMES: [&str; 5] = ["size", "gap_us", "direction", "tcp_flags", "payload"];
/// What a packet that never came shows: no real packet has a size of 0, and the rest are never
/// negative.
const MISSING: [f32; 5] = [0.0, -1.0, -1.0, -1.0, -1.0];

#[derive(Debug)]
struct PacketSeries {
    packets: u16,
}

impl PacketSeries {
    fn new(spec: &FeatureSpec) -> Self {
        Self { packets: spec.packets }
    }
}

/// Microseconds between two packets; 0 when the later one carries an earlier time.
pub(super) fn gap_us(before: &PacketMeta, now: &PacketMeta) -> f32 {
    (now.ts_ns.saturating_sub(before.ts_ns) as f64 / 1e3) as f32
}

impl Encoder for PacketSeries {
    fn shape(&self) -> RowShape {
        RowShape { words: 0, numbers: NAMES.len() * usize::from(self.packets) }
    }

    fn columns(&self) -> Vec<Column> {
        let names = (0..self.packets)
            .flat_map(|packet| NAMES.map(|name| packet_column(self.packets, packet, name)));
        let place = |(index, name)| Column { name, place: Place::Number(index as u32) };
        names.enumerate().map(place).collect()
    }

    fn layout(&self) -> HeaderLayout {
        HeaderLayout::new(&[])
    }

    fn encode(&self, record: &FlowRecord<'_>, _words: &mut [u32], numbers: &mut [f32]) {
        let mut packets = record.packets();
        let mut before: Option<&PacketMeta> = None;
        for row in numbers.chunks_exact_mut(NAMES.len()) {
            let Some(packet) = packets.next() else {
                row.copy_from_slice(&MISSING);
                continue;
            };
            let meta = packet.meta;
            let size = f32::from(meta.size);
            row[0] = if meta.backward { -size } else { size };
            row[1] = before.map_or(0.0, |before| gap_us(before, meta));
            row[2] = f32::from(u8::from(meta.backward));
            row[3] = f32::from(meta.flags);
            row[4] = f32::from(meta.payload);
            before = Some(meta);
        }
    }
}
