//! Captures that are odd, but not damaged.

use super::kit::{
    self, Ran, gzip, pcap, pcapng, put, run, sample_frames, scratch, serveflow, text,
};
use serveflow_core::packet::LinkType;
use serveflow_io::OwnedFrame;
use std::path::Path;

const START: u64 = 1_700_000_000_000_000_000;

fn frame(ts_ns: u64, ether_type: u16, packet: &[u8]) -> OwnedFrame {
    let data = [&[2; 12][..], &ether_type.to_be_bytes(), packet].concat();
    let orig_len = data.len() as u32;
    OwnedFrame { ts_ns, orig_len, link: LinkType::Ethernet, data, note: None }
}

fn udp(port: u16, payload: usize) -> Vec<u8> {
    let ports = [port.to_be_bytes(), 53u16.to_be_bytes()].concat();
    let rest = [((8 + payload) as u16).to_be_bytes(), [0, 0]].concat();
    [ports, rest, vec![7; payload]].concat()
}

fn ipv6(port: u16) -> Vec<u8> {
    let datagram = udp(port, 20);
    let mut packet = vec![0x60, 0, 0, 0, 0, datagram.len() as u8, 17, 64];
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(datagram);
    packet
}

fn ipv4(host: u8, port: u16, payload: usize) -> Vec<u8> {
    let datagram = udp(port, payload);
    let mut packet = vec![0x45, 0, 0, (20 + datagram.len()) as u8, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 0, 0, host, 10, 0, 0, 254]);
    packet.extend(datagram);
    packet
}

#[test]
fn frames_that_are_no_ip_are_counted_and_no_flow() {
    let frames: Vec<OwnedFrame> = (0..5).map(|n| frame(START + n, 0x0806, &[0; 28])).collect();
    let path = put(scratch("arp").join("arp.pcap"), pcap(&frames));
    let ran = run(&[&path], &[]).exits(0).says(&["not_ip 5"]);
    assert_eq!(ran.out, "");
}

#[test]
fn ipv6_is_served_by_models_of_ipv4() {
    let frame = |n: u64| frame(START + n * 1000, 0x86dd, &ipv6(1000 + n as u16 % 3));
    let frames: Vec<OwnedFrame> = (0..9).map(frame).collect();
    let path = put(scratch("ipv6").join("v6.pcap"), pcap(&frames));
    let verdicts = run(&[&path], &[]).exits(0).verdicts();
    assert_eq!(verdicts.len(), 3);
    assert!(verdicts.iter().all(|v| v["dst"] == "2001:db8::2" && v["label"].is_string()));
}

#[test]
fn nanoseconds_arrive_to_the_last_digit() {
    let frames: Vec<OwnedFrame> =
        (0..4).map(|n| frame(START + 1_000_000_007 * n, 0x0800, &ipv4(1, 9, 30))).collect();
    let dir = scratch("nanoseconds");
    for path in [put(dir.join("a"), pcapng(&frames)), put(dir.join("b"), pcap(&frames))] {
        let ran = run(&[&path], &[]).exits(0);
        assert!(ran.out.contains("\"first_ts\":1700000000.000000000,"), "{}", ran.out);
        let frames_back = kit::frames(&path);
        assert_eq!(frames_back, frames);
    }
}

#[test]
fn times_at_both_ends_and_in_any_order_are_served() {
    let at = |ts_ns: u64, host: u8| frame(ts_ns, 0x0800, &ipv4(host, 7, 10));
    let last = (u64::from(u32::MAX)) * 1_000_000_000;
    let orders: [&[u64]; 4] = [
        &[0, 0, 1],
        &[last, last, last],
        &[last, 0, last, 0, 5, 6, last, last],
        &[START + 500_000_000_000, START, START + 400_000_000_000, START],
    ];
    for (index, times) in orders.into_iter().enumerate() {
        let frames: Vec<OwnedFrame> =
            times.iter().enumerate().map(|(n, &time)| at(time, n as u8 % 2)).collect();
        let path = put(scratch(&format!("times-{index}")).join("a.pcap"), pcap(&frames));
        let ran = run(&[&path], &[]).exits(0);
        let flows = ran.account("flows");
        assert_eq!((flows[1], ran.verdicts().len() as u64), (flows[0], flows[0]), "{times:?}");
        assert_eq!(ran.account("packets")[0], times.len() as u64);
    }
}

#[test]
fn frames_of_no_bytes_and_cut_headers_are_counted() {
    let whole = frame(START, 0x0800, &ipv4(1, 9, 30));
    let cut = |len: usize| OwnedFrame { data: whole.data[..len].to_vec(), ..whole.clone() };
    let frames: Vec<OwnedFrame> = (0..=whole.data.len()).map(cut).collect();
    let path = put(scratch("cut-frames").join("a.pcap"), pcap(&frames));
    let ran = run(&[&path], &[]).exits(0);
    let packets = ran.account("packets");
    assert_eq!(packets[0], frames.len() as u64);
    assert!(packets[4] >= 34, "frames without a whole IP header: {packets:?}");
    assert_eq!(ran.verdicts().len() as u64, ran.account("flows")[0]);
}

/// A table of flows, which needs no bundle.
fn table(capture: &Path) -> Ran {
    let how = ["--packets", "2", "--features", "packet_series", "--out", "-"];
    serveflow(&[&["features", text(capture)], how.as_slice()].concat())
}

/// A link type that cannot be read is no damage, and told alike whatever the container.
#[test]
fn an_unsupported_link_type_is_3_and_named_in_every_container() {
    let dir = scratch("links");
    let mut frame = frame(START, 0x0800, &ipv4(1, 9, 30));
    for (link, expected) in [
        (1, None),
        (147, Some("147 (USER0) of 2 packets")),
        (127, Some("127 (IEEE802_11_RADIOTAP) of 2 packets")),
        (300, Some("300 (a type without a name here) of 2 packets")),
    ] {
        frame.link = LinkType::from_number(link);
        let frames = [frame.clone(), frame.clone()];
        let bytes = [pcap(&frames), pcapng(&frames), gzip(&pcap(&frames)), gzip(&pcapng(&frames))];
        let all: Vec<Ran> = bytes.map(|bytes| table(&put(dir.join("a"), bytes))).into();
        for ran in all {
            assert!(!ran.err.contains("damaged"), "{}", ran.err);
            let packets = ran.account("packets");
            match expected {
                None => assert_eq!((ran.code, packets[4]), (0, 0), "{}", ran.err),
                Some(words) => {
                    let line = format!("\nnot supported: link type {words}, the first at ");
                    let ran = ran.exits(3).says(&[&line, "unsupported_link 2"]);
                    assert_eq!(packets, [2, 0, 0, 0, 2, 0], "{}", ran.err);
                }
            }
        }
    }
}

#[test]
fn what_stands_behind_a_compressed_capture_is_padding_or_a_warning() {
    let dir = scratch("behind");
    let frames: Vec<OwnedFrame> =
        (0..5).map(|n| frame(START + n, 0x0800, &ipv4(1, 9, 30))).collect();
    let packed = gzip(&pcap(&frames));
    let zeros = put(dir.join("zeros.pcap.gz"), [packed.clone(), vec![0; 512]].concat());
    let garbage = put(dir.join("garbage.pcap.gz"), [packed.as_slice(), b"garbage"].concat());
    let (zeros, garbage) = (table(&zeros).exits(0), table(&garbage).exits(0));
    assert_eq!((zeros.account("packets")[0], garbage.account("packets")[0]), (5, 5));
    assert_eq!(zeros.out, garbage.out);
    assert!(!zeros.err.contains("warning"), "{}", zeros.err);
    garbage.says(&["\nwarning: ", "behind the gzip stream, found 7 bytes"]);
}

#[test]
fn captures_that_were_joined_by_cat_get_a_sentence_that_says_so() {
    let frames: Vec<OwnedFrame> =
        (0..5).map(|n| frame(START + n, 0x0800, &ipv4(1, 9, 30))).collect();
    let joined = put(scratch("joined").join("a.pcap"), [pcap(&frames), pcap(&frames)].concat());
    let ran = table(&joined).exits(3).says(&["damaged: another capture begins at ", "`cat`"]);
    assert_eq!(ran.account("packets")[0], 5);
}

#[test]
fn times_beyond_what_can_be_stated_are_a_warning() {
    let at = |ts_ns| frame(ts_ns, 0x0800, &ipv4(1, 9, 30));
    let frames = [at(i64::MAX as u64 - 1), at(1 << 63), at(u64::MAX)];
    let late = put(scratch("late").join("a.pcapng"), pcapng(&frames));
    let ran = table(&late).exits(0).says(&["\nwarning: 2 packets, the first at ", "2262-04-11"]);
    assert!(ran.out.contains(",9223372036.854775806,"), "{}", ran.out);
}

/// Names of files hold any character, and none of them commands the terminal of whoever reads of
/// them.
#[test]
fn no_file_name_commands_a_terminal() {
    let dir = scratch("names");
    let name = "a\u{1b}[31m\u{7}\u{7f}\u{9b}2J\r\n\u{202e}.pcap";
    let bytes = pcap(&sample_frames("test/llmnr.pcap.zst"));
    let cut = put(dir.join(name), &bytes[..bytes.len() - 7]);
    let (cut, none) = (text(&cut).to_owned(), format!("{}x", text(&cut)));
    let (bundle, out) = (text(kit::bundle()), dir.join("out.csv"));
    for args in [
        vec!["run", &cut, "--bundle", bundle],
        vec!["run", &none, "--bundle", bundle],
        vec!["run", &cut, "--bundle", &none],
        vec!["inspect", &cut],
        vec!["features", &cut, "--out", text(&out), "--overwrite"],
        vec!["bundle", "check", &none],
        vec!["control", "status", "--socket", &none],
        vec!["run", &cut, "--bundle", bundle, "--config", &cut],
    ] {
        let ran = serveflow(&args);
        let told = format!("{}{}", if args[0] == "run" { "" } else { &ran.out }, ran.err);
        assert!(told.contains("\\u{1b}[31m"), "{args:?}: {told}");
        let obeyed = |letter: &char| letter.is_control() && !"\n\t".contains(*letter);
        assert_eq!(told.chars().find(obeyed), None, "{args:?}: {told:?}");
    }
}
