//! A tiny reader of capture files: the real one lives in another crate.

use super::frames::Frame;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, create_reader};
use serveflow_core::packet::LinkType;
use std::io::Cursor;

/// Frames of a pcap or pcapng file, until its end or the first thing that is no capture.
pub fn frames(bytes: Vec<u8>) -> Vec<Frame> {
    let size = bytes.len().max(1 << 16);
    let Ok(mut reader) = create_reader(size, Cursor::new(bytes)) else { return Vec::new() };
    let mut frames = Vec::new();
    let mut links: Vec<(LinkType, u64)> = Vec::new();
    loop {
        // The buffer holds the whole file: whatever is wrong now is wrong for good.
        let Ok((consumed, block)) = reader.next() else { return frames };
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let tick = if header.magic_number & 0xff == 0x4d { 1 } else { 1000 };
                links = vec![(LinkType::from_number(header.network.0 as u16), tick)];
            }
            PcapBlockOwned::Legacy(packet) => {
                let (link, tick) = links[0];
                let ts_ns =
                    u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_usec) * tick;
                frames.push(Frame {
                    ts_ns,
                    orig_len: packet.origlen,
                    link,
                    data: packet.data.to_vec(),
                });
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let per_second = interface.ts_resolution().unwrap_or(1_000_000).max(1);
                let link = LinkType::from_number(interface.linktype.0 as u16);
                links.push((link, 1_000_000_000 / per_second));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                if let Some(&(link, tick)) = links.get(packet.if_id as usize) {
                    let data = packet.packet_data().to_vec();
                    let ts_ns = ticks.saturating_mul(tick);
                    frames.push(Frame { ts_ns, orig_len: packet.origlen, link, data });
                }
            }
            PcapBlockOwned::NG(_) => {}
        }
        reader.consume(consumed);
    }
}
