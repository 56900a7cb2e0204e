//! The capture reader against an independent one, on real captures.
//!
//! `SERVEFLOW_CAPTURES=dir cargo test -p serveflow-io --test differential` adds those in `dir`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use serveflow_core::packet::LinkType;
use serveflow_io::OwnedFrame;

/// What the independent reader makes of a capture, up to its first error.
fn reference(bytes: &[u8]) -> Vec<OwnedFrame> {
    let mut frames = Vec::new();
    let Ok(mut reader) = create_reader(1 << 20, bytes) else {
        return frames;
    };
    let (mut link, mut unit) = (LinkType::Ethernet, 1000);
    let mut interfaces = Vec::new();
    loop {
        match reader.next() {
            Ok((used, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        link = LinkType::from_number(header.network.0 as u16);
                        unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        let ns = u64::from(packet.ts_sec) * 1_000_000_000
                            + u64::from(packet.ts_usec) * unit;
                        frames.push(owned(ns, packet.origlen, link, packet.data, packet.caplen));
                    }
                    PcapBlockOwned::NG(block) => take(&block, &mut interfaces, &mut frames),
                }
                reader.consume(used);
            }
            Err(PcapError::Incomplete(_)) => {
                if reader.refill().is_err() {
                    return frames;
                }
            }
            Err(_) => return frames,
        }
        if reader.reader_exhausted() && reader.data().is_empty() {
            return frames;
        }
    }
}

fn take(block: &Block<'_>, interfaces: &mut Vec<(LinkType, u8)>, frames: &mut Vec<OwnedFrame>) {
    match block {
        Block::SectionHeader(_) => interfaces.clear(),
        Block::InterfaceDescription(interface) => {
            let link = LinkType::from_number(interface.linktype.0 as u16);
            interfaces.push((link, interface.if_tsresol));
        }
        Block::EnhancedPacket(packet) => {
            let (link, resolution) = interfaces[packet.if_id as usize];
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let ns = ticks * 10u64.pow(9 - u32::from(resolution));
            frames.push(owned(ns, packet.origlen, link, packet.data, packet.caplen));
        }
        _ => {}
    }
}

fn owned(ts_ns: u64, wire: u32, link: LinkType, data: &[u8], captured: u32) -> OwnedFrame {
    let data = data[..captured as usize].to_vec();
    OwnedFrame { ts_ns, orig_len: wire.max(captured), link, data, note: None }
}

/// Compares the two readers on one capture; the number of frames.
fn compare(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let (frames, error) = common::read(&bytes);
    let expected = reference(&bytes);
    let at = frames.iter().zip(&expected).position(|(one, other)| one != other);
    assert_eq!(at, None, "{}: frames differ; ended by {error:?}", path.display());
    assert_eq!(frames.len(), expected.len(), "{}: ended by {error:?}", path.display());
    frames.len()
}

#[test]
fn both_readers_see_the_same_frames() {
    let counts: BTreeMap<String, usize> = common::fixtures()
        .iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), compare(path)))
        .collect();
    assert_eq!(counts.len(), 17);
    assert_eq!((counts["isup.pcap"], counts["bgp-role.pcapng"], counts["empty.pcapng"]), (6, 9, 0));
    let Some(outside) = std::env::var_os("SERVEFLOW_CAPTURES") else {
        return;
    };
    let captures = serveflow_io::InputSet::find(&[outside]).unwrap().paths();
    let total: usize =
        captures.iter().filter(|path| common::is_capture(path)).map(|path| compare(path)).sum();
    assert!(total > 0, "there are frames in the captures");
}
