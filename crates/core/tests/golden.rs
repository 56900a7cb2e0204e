//! Captures against what the reference nPrint tool prints for them, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::captures::frames;
use common::frames::Frame;
use common::words::{column_names, column_values, packet_words};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::parse::{Header, KeyRules, Parsed, parse};
use std::path::{Path, PathBuf};

const ALL: [Header; 5] = [Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp, Header::Icmp];

/// Captures, frames in them, rows that the tool prints.
const CAPTURES: [(&str, usize, usize); 10] = [
    ("443-chrome.pcap", 1, 1),
    ("443-firefox.pcap", 667, 667),
    ("dns2tcp_tunnel.pcap", 50, 50),
    ("dtls2.pcap", 30, 30),
    // 18 frames of ARP.
    ("jabber.pcap", 376, 358),
    ("memcached.cap", 10, 10),
    ("quic_q46.pcap", 20, 20),
    ("sip.pcap", 112, 112),
    ("snapchat.pcap", 56, 56),
    // The tool drops the 12 frames with a VLAN tag.
    ("whois.pcapng", 23, 11),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nprint")
}

/// The flow as the tool writes it: source first, whichever end began.
fn flow_column(parsed: &Parsed) -> String {
    let flow = parsed.key.five_tuple(parsed.sender_is_low);
    let proto = match flow.proto {
        6 => "TCP",
        17 => "UDP",
        other => panic!("no golden capture holds protocol {other}"),
    };
    format!("{}_{}_{}_{}_{proto}", flow.src, flow.dst, flow.src_port, flow.dst_port)
}

/// A tag behind the addresses of an Ethernet frame: the tool does not look behind it.
fn is_tagged(frame: &Frame) -> bool {
    frame.data[12..14] == [0x81, 0]
}

/// Compares every row of the tool's table with a capture's frames; returns frames and rows.
fn compare(capture: &str, table: &str, layout: &HeaderLayout) -> (usize, usize) {
    let frames = frames(std::fs::read(folder().join(capture)).unwrap());
    let packed = std::fs::read(folder().join(table)).unwrap();
    let text = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(names[0], "flow");
    assert_eq!(names[1..], column_names(layout));
    let mut rows = 0;
    for (number, frame) in frames.iter().enumerate() {
        let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) else { continue };
        if is_tagged(frame) {
            continue;
        }
        let at = format!("{capture} frame {}", number + 1);
        let line = lines.next().unwrap_or_else(|| panic!("{at}: the tool has no row"));
        let (flow, values) = line.split_once(',').unwrap();
        assert_eq!(flow_column(&parsed), flow, "{at}");
        let values: Vec<i8> = values.split(',').map(|value| value.parse().unwrap()).collect();
        let ours = column_values(layout, &packet_words(layout, &frame.data, &parsed));
        assert_eq!(ours.len(), values.len(), "{at}");
        for ((ours, theirs), name) in ours.iter().zip(&values).zip(&names[1..]) {
            assert_eq!(ours, theirs, "{at} {name}");
        }
        rows += 1;
    }
    assert_eq!(lines.next(), None, "{capture}: the tool has a row that we have not");
    (frames.len(), rows)
}

#[test]
fn ipv4_tcp_udp_bits_are_those_of_the_reference_tool() {
    for (capture, frames, rows) in CAPTURES {
        let table = format!("{}.ipv4_tcp_udp.csv.zst", capture.split('.').next().unwrap());
        let found = compare(capture, &table, &HeaderLayout::default());
        assert_eq!(found, (frames, rows), "{capture}");
    }
}

#[test]
fn bits_of_all_five_protocols_are_those_of_the_reference_tool() {
    for (capture, frames, rows) in CAPTURES {
        let table = format!("{}.all.csv.zst", capture.split('.').next().unwrap());
        let found = compare(capture, &table, &HeaderLayout::new(&ALL));
        assert_eq!(found, (frames, rows), "{capture}");
    }
}
