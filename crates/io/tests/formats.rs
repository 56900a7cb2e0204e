//! Each format in each byte order, made by hand and read back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Bytes, ORDERS, Order, gzip, open, read, read_whole, zstd};
use serveflow_core::packet::{LAST_NS, LinkType, Packet};
use serveflow_core::parse::{KeyRules, Reject, parse};
use serveflow_io::{CODECS, FORMATS, OwnedFrame, Severity, SourceError};

const SECOND: u64 = 1_000_000_000;

fn frame(ts_ns: u64, orig_len: u32, link: LinkType, data: &[u8]) -> OwnedFrame {
    OwnedFrame { ts_ns, orig_len, link, data: data.to_vec(), note: None }
}

/// A pcap of three frames.
fn pcap(order: Order, magic: u32) -> Vec<u8> {
    let mut bytes = Bytes::new(order);
    bytes.pcap_header(magic, 1).record(7, 5, 1500, b"one").record(8, 6, 0, b"");
    bytes.record(u32::MAX, u32::MAX, 2, b"three");
    bytes.out
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for order in ORDERS {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let (link, last) = (LinkType::Ethernet, u64::from(u32::MAX));
            let expected = [
                frame(7 * SECOND + 5 * unit, 1500, link, b"one"),
                frame(8 * SECOND + 6 * unit, 0, link, b""),
                frame(last * SECOND + last * unit, 5, link, b"three"),
            ];
            assert_eq!(read_whole(&pcap(order, magic)), expected, "{order:?} {magic:x}");
        }
    }
}

#[test]
fn pcap_with_longer_record_headers() {
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.pcap_header(0xa1b2_cd34, 113);
        bytes.u32(7).u32(5).u32(3).u32(60).raw(&[9; 8]).raw(b"one");
        let expected = [frame(7 * SECOND + 5000, 60, LinkType::LinuxSll, b"one")];
        assert_eq!(read_whole(&bytes.out), expected);
    }
}

#[test]
fn packets_of_an_unsupported_link_type_are_passed_on_and_named_at_the_end() {
    let mut bytes = Bytes::new(Order::Big);
    bytes.pcap_header(0xa1b2_c3d4, 0x0400_0069).record(7, 0, 3, b"one").record(8, 0, 3, b"two");
    let (frames, error) = read(&bytes.out);
    assert_eq!(frames[1], frame(8 * SECOND, 3, LinkType::Unsupported(105), b"two"));
    let Some(error @ SourceError::UnsupportedLink { .. }) = error else { panic!("{error:?}") };
    assert_eq!(error.severity(), Severity::Unsupported);
    let line = error.line();
    let expected =
        "not supported: link type 105 (IEEE802_11) of 2 packets, the first at test.pcap, byte 24";
    assert!(line.starts_with(expected), "{line}");
}

/// Nothing of what is told depends on the container, whatever the link type.
#[test]
fn the_container_changes_nothing_for_any_link_type() {
    let ppi_of_80211 = [&[0, 0, 8, 0, 105, 0, 0, 0], &[7; 40][..]].concat();
    let packets = [vec![0x45; 50], ppi_of_80211, vec![], vec![9; 3]];
    for number in 0..=300_u16 {
        let (mut plain, mut blocks) = (Bytes::new(Order::Little), Bytes::new(Order::Big));
        plain.pcap_header(0xa1b2_c3d4, number.into());
        blocks.section().interface(number, 0, |_| {});
        for (at, data) in packets.iter().enumerate() {
            plain.record(7, at as u32, 60, data);
            blocks.enhanced(0, 7_000_000 + at as u64, 60, data, |_| {});
        }
        let all = |bytes: &[u8]| common::drain(&mut open(bytes).unwrap(), 3);
        let ((one, errors), (other, twins)) = (all(&plain.out), all(&blocks.out));
        assert_eq!(one, other, "link type {number}");
        let told = |errors: &[SourceError]| -> Vec<(u16, u64)> {
            let each = errors.iter().map(|error| match error {
                SourceError::UnsupportedLink { found, packets, .. } => (*found, *packets),
                error => panic!("{number}: {error}"),
            });
            each.collect()
        };
        assert_eq!(told(&errors), told(&twins), "link type {number}");
        // And it is what the parser says of the packets.
        let rejected = one.iter().filter(|frame| {
            let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = **frame;
            let found = parse(&Packet { ts_ns, orig_len, link, data }, KeyRules::default());
            found == Err(Reject::UnsupportedLink)
        });
        let counted: u64 = told(&errors).iter().map(|told| told.1).sum();
        assert_eq!(counted, rejected.count() as u64, "{number}");
    }
    // Without packets there is nothing to tell.
    let empty = Bytes::new(Order::Little).pcap_header(0xa1b2_c3d4, 127).out.clone();
    assert!(read_whole(&empty).is_empty());
}

#[test]
fn times_that_cannot_be_stated_are_counted_and_the_nearest_that_can() {
    let mut bytes = Bytes::new(Order::Little);
    bytes.section().interface(1, 0, |b| {
        b.option(9, &[0]);
    });
    let starts: Vec<u64> = [5, 9_223_372_036, 9_223_372_037, u64::MAX]
        .map(|ticks| {
            let start = bytes.out.len() as u64;
            bytes.enhanced(0, ticks, 1, b"a", |_| {});
            start
        })
        .into();
    let (frames, error) = read(&bytes.out);
    let times: Vec<u64> = frames.iter().map(|frame| frame.ts_ns).collect();
    assert_eq!(times, [5 * SECOND, 9_223_372_036 * SECOND, LAST_NS, LAST_NS]);
    let Some(error @ SourceError::TimeOutOfRange { packets: 2, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.severity(), Severity::Warning);
    assert_eq!(error.location().unwrap().offset, starts[2]);
}

#[test]
fn pcap_of_another_version_is_refused() {
    let mut bytes = pcap(Order::Little, 0xa1b2_c3d4);
    bytes[4] = 3;
    assert!(matches!(open(&bytes), Err(SourceError::Damaged { found: 3, .. })));
}

#[test]
fn pcapng_with_sections_interfaces_and_notes() {
    let mut all = Vec::new();
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.section().interface(1, 0, |_| {});
        bytes.interface(101, 0, |b| {
            b.option(2, b"eth0").option(9, &[9]);
            let ten = Bytes::new(order).u64(10).out.clone();
            b.option(14, &ten).option(0, b"");
        });
        bytes.interface(113, 0, |b| {
            b.option(9, &[0x80 | 10]);
        });
        bytes.enhanced(0, 5_000_001, 60, b"a", |_| {});
        bytes.block(5, |b| {
            b.raw(&[1; 8]);
        });
        bytes.enhanced(1, 7, 61, b"bc", |b| {
            b.option(2, &[0; 4]).option(1, "7,vidéo".as_bytes()).option(0, b"");
        });
        bytes.enhanced(2, 1536, 62, b"def", |b| {
            b.option(1, &[b'x', 0xff]);
        });
        all.extend(bytes.out);
    }
    let mut expected = vec![
        frame(5 * SECOND + 1000, 60, LinkType::Ethernet, b"a"),
        frame(10 * SECOND + 7, 61, LinkType::RawIp, b"bc"),
        frame(SECOND + SECOND / 2, 62, LinkType::LinuxSll, b"def"),
    ];
    expected[1].note = Some("7,vidéo".into());
    expected[2].note = Some("x\u{fffd}".into());
    // The second section, in the other byte order, says the same.
    expected.extend_from_within(..);
    assert_eq!(read_whole(&all), expected);
}

#[test]
fn pcapng_interfaces_are_those_of_the_section() {
    let mut bytes = Bytes::new(Order::Little);
    bytes.section().interface(1, 0, |_| {}).enhanced(0, 1, 1, b"a", |_| {});
    bytes.section();
    let start = bytes.out.len() as u64;
    bytes.enhanced(0, 1, 1, b"b", |_| {});
    let (frames, error) = read(&bytes.out);
    assert_eq!(frames.len(), 1);
    let Some(SourceError::Damaged { at, found: 0, .. }) = error else { panic!("{error:?}") };
    assert_eq!(at.offset, start);
}

#[test]
fn pcapng_simple_packets_take_the_time_before() {
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.section().interface(1, 4, |_| {}).enhanced(0, 5, 1, b"a", |_| {});
        bytes.block(3, |b| {
            b.u32(9).raw(b"abcd");
        });
        bytes.block(3, |b| {
            b.u32(2).raw(b"ab");
        });
        let link = LinkType::Ethernet;
        let expected = [
            frame(5000, 1, link, b"a"),
            frame(5000, 9, link, b"abcd"),
            frame(5000, 2, link, b"ab"),
        ];
        assert_eq!(read_whole(&bytes.out), expected);
    }
}

#[test]
fn pcapng_obsolete_packets() {
    for order in ORDERS {
        let mut bytes = Bytes::new(order);
        bytes.section().interface(1, 0, |_| {}).interface(101, 0, |_| {});
        bytes.block(2, |b| {
            b.u16(1).u16(77).u32(1).u32(2).u32(3).u32(60).raw(b"abc").pad().option(1, b"note");
        });
        let mut expected = frame(((1 << 32) + 2) * 1000, 60, LinkType::RawIp, b"abc");
        expected.note = Some("note".into());
        assert_eq!(read_whole(&bytes.out), [expected]);
    }
}

#[test]
fn pcapng_frames_of_unsupported_interfaces_are_passed_on() {
    let mut bytes = Bytes::new(Order::Little);
    bytes.section().interface(105, 0, |_| {}).enhanced(0, 0, 1, b"a", |_| {});
    let (frames, error) = read(&bytes.out);
    assert_eq!(frames, [frame(0, 1, LinkType::Unsupported(105), b"a")]);
    assert!(matches!(error, Some(SourceError::UnsupportedLink { found: 105, packets: 1, .. })));
}

#[test]
fn pcapng_long_unknown_blocks_pass_by() {
    let mut bytes = Bytes::new(Order::Big);
    bytes.section().interface(1, 0, |_| {});
    for len in [0, 1, 300_000, 1_000_003] {
        bytes.block(0x0bad, |b| {
            b.raw(&vec![6; len]);
        });
        bytes.enhanced(0, 1, 1, b"a", |_| {});
    }
    assert_eq!(read_whole(&bytes.out).len(), 4);
}

#[test]
fn pcapng_clocks_of_a_wrong_length_are_damage() {
    for (code, value) in [(9, &[6, 0][..]), (14, &[0; 4])] {
        let mut bytes = Bytes::new(Order::Little);
        bytes.section().interface(1, 0, |b| {
            b.option(code, value);
        });
        let (_, error) = read(&bytes.out);
        let Some(SourceError::Damaged { found, .. }) = error else { panic!("{error:?}") };
        assert_eq!(found, value.len() as u64);
    }
}

#[test]
fn compressed_captures_are_the_plain_ones() {
    let plain = pcap(Order::Little, 0xa1b2_3c4d);
    let expected = read_whole(&plain);
    let (head, tail) = plain.split_at(41);
    for (codec, packed) in [
        ("gzip", gzip(&plain)),
        ("gzip", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd(&plain)),
        ("zstd", [zstd(head), zstd(tail)].concat()),
    ] {
        assert_eq!(open(&packed).unwrap().codec().map(|codec| codec.name), Some(codec));
        assert_eq!(read_whole(&packed), expected, "{codec}");
    }
}

#[test]
fn every_listed_magic_number_opens_its_format() {
    for format in FORMATS {
        for magic in format.magics {
            let mut bytes = magic.to_vec();
            // Version 2.4 and link type 1 in either byte order, and nothing that pcapng minds yet.
            let big = magic[0] == 0xa1;
            bytes.extend(if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] });
            bytes.extend([0; 12]);
            bytes.extend(if big { [0, 0, 0, 1] } else { [1, 0, 0, 0] });
            assert_eq!(open(&bytes).unwrap().format().name, format.name, "{magic:x?}");
        }
    }
    assert_eq!(CODECS.iter().map(|codec| codec.name).collect::<Vec<_>>(), ["gzip", "zstd"]);
}

#[test]
fn every_batch_size_reads_the_same_frames() {
    let mut bytes = Bytes::new(Order::Little);
    bytes.pcap_header(0xa1b2_c3d4, 1);
    for n in 0..200u32 {
        bytes.record(n, 0, 0, &vec![n as u8; n as usize]);
    }
    let expected = read_whole(&bytes.out);
    assert_eq!(expected.len(), 200);
    for size in [0, 1, 2, 7, 199, 200, 201, usize::MAX] {
        let (frames, errors) = common::drain(&mut open(&bytes.out).unwrap(), size);
        assert!(errors.is_empty());
        assert_eq!(frames, expected);
    }
}
