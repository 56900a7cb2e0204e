//! Damaged captures: the frames before the damage come out, then one error, and never a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Bytes, ORDERS, Order, fixtures, gzip, open, read, zstd};
use proptest::prelude::*;
use serveflow_io::{Batch, Severity, Source, SourceError, read_all};

/// A pcap of frames of these lengths.
fn pcap(order: Order, lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Bytes::new(order);
    bytes.pcap_header(0xa1b2_c3d4, 1);
    for &len in lengths {
        bytes.record(1, 2, 3, &vec![0x45; len]);
    }
    bytes.out
}

/// A pcapng of three frames, with a block to be skipped among them; and where its blocks end.
fn pcapng(order: Order) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Bytes::new(order);
    let mut ends = vec![0];
    bytes.section();
    ends.push(bytes.out.len());
    bytes.interface(1, 0, |b| {
        b.option(9, &[9]);
    });
    ends.push(bytes.out.len());
    for data in [&b"abc"[..], b"", b"defgh"] {
        bytes.enhanced(0, 1, 9, data, |b| {
            b.option(1, b"note");
        });
        ends.push(bytes.out.len());
        bytes.block(0x0bad, |b| {
            b.raw(&[1; 40]);
        });
        ends.push(bytes.out.len());
    }
    (bytes.out, ends)
}

#[test]
fn a_pcap_cut_anywhere_gives_the_frames_before_and_the_offset() {
    let lengths = [0, 1, 60, 17, 5];
    for order in ORDERS {
        let whole = pcap(order, &lengths);
        let mut ends = vec![24];
        ends.extend(lengths.iter().scan(24, |end, len| {
            *end += 16 + len;
            Some(*end)
        }));
        for cut in 0..=whole.len() {
            let (frames, error) = read(&whole[..cut]);
            let before = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(frames.len(), before.saturating_sub(1), "cut at {cut}");
            match error {
                None => assert!(ends.contains(&cut), "cut at {cut}"),
                Some(SourceError::Empty { .. }) => assert_eq!(cut, 0),
                Some(SourceError::Truncated { at, expected, found }) => {
                    let start = if before == 0 { 0 } else { ends[before - 1] };
                    assert_eq!((at.offset, found), (start as u64, (cut - start) as u64));
                    assert!(expected > found);
                }
                Some(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn a_pcapng_cut_anywhere_gives_the_frames_before_and_the_offset() {
    for order in ORDERS {
        let (whole, ends) = pcapng(order);
        for cut in 1..=whole.len() {
            let (frames, error) = read(&whole[..cut]);
            let blocks = ends.iter().filter(|&&end| end <= cut).count() - 1;
            assert_eq!(frames.len(), blocks.saturating_sub(1) / 2, "cut at {cut}");
            match error {
                None => assert!(ends.contains(&cut), "cut at {cut}"),
                Some(SourceError::Truncated { at, expected, found }) => {
                    let start = ends[blocks];
                    assert_eq!((at.offset, found), (start as u64, (cut - start) as u64));
                    assert!(expected > found);
                }
                Some(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn a_length_that_cannot_be_is_damage_and_no_allocation() {
    let mut bytes = pcap(Order::Little, &[4, 4]);
    bytes[24 + 20 + 8..24 + 20 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (frames, error) = read(&bytes);
    assert_eq!(frames.len(), 1);
    let Some(SourceError::Damaged { at, found, .. }) = error else { panic!("{error:?}") };
    assert_eq!((at.offset, found), (44, u32::MAX.into()));
}

#[test]
fn blocks_whose_two_lengths_differ_are_damage() {
    let (whole, ends) = pcapng(Order::Big);
    for pair in ends.windows(2) {
        let mut bytes = whole.clone();
        bytes[pair[1] - 1] ^= 4;
        let (_, error) = read(&bytes);
        let Some(SourceError::Damaged { at, .. }) = error else { panic!("{error:?}") };
        assert_eq!(at.offset, pair[1] as u64 - 4);
    }
}

#[test]
fn the_error_comes_one_fill_after_the_frames_and_then_it_is_over() {
    let mut bytes = pcap(Order::Little, &[4, 4]);
    bytes.extend([0xff; 16]);
    let mut reader = open(&bytes).unwrap();
    let mut batch = Batch::new();
    assert_eq!(reader.fill(&mut batch, 100).unwrap(), 2);
    assert!(matches!(reader.fill(&mut batch, 100), Err(SourceError::Damaged { .. })));
    assert_eq!(reader.fill(&mut batch, 100).unwrap(), 0);
}

#[test]
fn empty_and_foreign_files_are_named_as_such() {
    for nothing in [Vec::new(), gzip(&[]), zstd(&[])] {
        assert!(matches!(read(&nothing).1, Some(SourceError::Empty { .. })));
    }
    for text in [b"%PDF-1.7".to_vec(), gzip(b"%PDF-1.7")] {
        let error = read(&text).1;
        let Some(SourceError::UnknownFormat { found, .. }) = error else { panic!("{error:?}") };
        assert_eq!(&found, b"%PDF");
    }
}

#[test]
fn a_compressed_capture_cut_short_gives_a_beginning_and_an_error() {
    let whole = pcap(Order::Little, &[700; 900]);
    let expected = read(&whole).0;
    for packed in [gzip(&whole), zstd(&whole)] {
        for cut in (5..packed.len()).step_by(97) {
            let (frames, error) = read(&packed[..cut]);
            assert_eq!(frames, expected[..frames.len()]);
            let Some(SourceError::Compression { at, .. }) = error else { panic!("{error:?}") };
            assert!(at.codec.is_some());
        }
    }
}

#[test]
fn a_compressed_capture_with_a_bad_checksum_gives_all_and_an_error() {
    let whole = pcap(Order::Little, &[700; 90]);
    let mut packed = gzip(&whole);
    let checksum = packed.len() - 6;
    packed[checksum] ^= 1;
    let (frames, error) = read(&packed);
    assert_eq!(frames.len(), 90);
    let Some(SourceError::Compression { at, .. }) = error else { panic!("{error:?}") };
    assert_eq!(at.offset, whole.len() as u64);
}

/// Bytes that begin no member of either compression, nor are zeros.
fn garbage(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'A' + (at % 26) as u8).collect()
}

#[test]
fn what_stands_behind_a_compressed_stream_costs_no_frame() {
    let whole = pcap(Order::Little, &[700; 900]);
    let expected = read(&whole).0;
    for packed in [gzip(&whole), zstd(&whole)] {
        for zeros in [0, 1, 3, 512, 200_000] {
            for rest in [0, 1, 2, 7, 300_000] {
                let bytes = [packed.clone(), vec![0; zeros], garbage(rest)].concat();
                let (frames, error) = read(&bytes);
                assert_eq!(frames, expected, "{zeros} zeros, {rest} bytes");
                match error {
                    None => assert_eq!(rest, 0),
                    Some(error @ SourceError::Leftover { .. }) => {
                        assert_eq!(error.severity(), Severity::Warning);
                        let SourceError::Leftover { at, bytes } = error else { panic!() };
                        assert_eq!((at.offset, bytes), (whole.len() as u64, rest as u64));
                    }
                    Some(error) => panic!("{error}"),
                }
            }
        }
    }
    let padded = [zstd(&whole[..5000]), skippable(3, 5), zstd(&whole[5000..])].concat();
    let (frames, error) = read(&padded);
    assert!(frames == expected && error.is_none(), "{error:?}");
    // Members may be padded, as on tapes.
    for pack in [gzip, zstd] {
        let padded = [pack(&whole[..5000]), vec![0; 70_000], pack(&whole[5000..])].concat();
        let (frames, error) = read(&padded);
        assert!(frames == expected && error.is_none(), "{error:?}");
    }
}

/// A frame that is to be skipped, of one of the sixteen kinds.
fn skippable(kind: u8, len: usize) -> Vec<u8> {
    [&[0x50 + kind, 0x2a, 0x4d, 0x18][..], &(len as u32).to_le_bytes(), &vec![7; len]].concat()
}

/// As `pzstd` writes them.
#[test]
fn zstd_streams_may_begin_with_frames_that_are_skipped() {
    let whole = pcap(Order::Little, &[700; 90]);
    let expected = read(&whole).0;
    for (kind, len) in (0..16).flat_map(|kind| [0, 4, 300_000].map(|len| (kind, len))) {
        let skipped = skippable(kind, len);
        let empty = open(&skipped).err();
        assert!(matches!(empty, Some(SourceError::Empty { .. })), "{kind}: {empty:?}");
        let parts = [zstd(&whole[..5000]), zstd(&whole[5000..])];
        let (one, two) = (skipped.as_slice(), &skippable(15 - kind, 4)[..]);
        for packed in
            [[one, &zstd(&whole)].concat(), [one, two, &parts[0], two, &parts[1]].concat()]
        {
            let (frames, error) = read(&packed);
            assert!(frames == expected && error.is_none(), "{kind}, {len} bytes: {error:?}");
        }
    }
    // One of another kind is no Zstandard.
    for first in [0x4f, 0x60] {
        let bytes = [&[first, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &zstd(&whole)[..]].concat();
        let error = read(&bytes).1;
        assert!(matches!(error, Some(SourceError::UnknownFormat { .. })), "{error:?}");
    }
}

/// What begins as a member must be one.
#[test]
fn a_later_member_that_was_cut_is_damage() {
    let whole = pcap(Order::Little, &[70; 40]);
    for pack in [gzip, zstd] {
        let (first, second) = (pack(&whole[..1000]), pack(&whole[1000..]));
        for cut in 1..second.len() {
            let (_, error) = read(&[first.as_slice(), &second[..cut]].concat());
            let is_told = matches!(error, Some(SourceError::Compression { .. }));
            assert!(is_told, "cut at {cut}: {error:?}");
        }
    }
}

#[test]
fn captures_that_were_joined_end_to_end_are_named_as_such() {
    let of = |order, is_blocks: bool| match is_blocks {
        true => pcapng(order).0,
        false => pcap(order, &[4, 0, 4]),
    };
    for (first, second) in ORDERS.into_iter().flat_map(|one| ORDERS.map(|other| (one, other))) {
        for (is_blocks, joins) in [(false, false), (false, true), (true, false)] {
            let (first, second) = (of(first, is_blocks), of(second, joins));
            let (frames, error) = read(&[first.clone(), second].concat());
            assert_eq!(frames, read(&first).0);
            let Some(SourceError::SecondHeader { at, format }) = error else { panic!("{error:?}") };
            assert_eq!(at.offset, first.len() as u64);
            assert_eq!(format, if joins { "pcapng" } else { "pcap" });
        }
    }
}

/// Whatever the two are in: frames of the first, and the second is named, never passed over.
#[test]
fn captures_joined_behind_a_compressed_one_are_damage() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let skipped: Pack = |bytes| [skippable(0, 4), zstd(bytes)].concat();
    let packs: [(&str, Pack); 3] = [("gzip", gzip), ("zstd", zstd), ("zstd", skipped)];
    for order in ORDERS {
        let plain = [("pcap", pcap(order, &[4, 0, 4])), ("pcapng", pcapng(order).0)];
        for ((codec, pack), (_, first)) in
            packs.iter().flat_map(|p| plain.iter().map(move |f| (p, f)))
        {
            let mut seconds = plain.to_vec();
            seconds.extend(packs.iter().map(|(name, pack)| (*name, pack(&plain[0].1))));
            for (name, second) in seconds.into_iter().filter(|(name, _)| name != codec) {
                for zeros in [0, 1, 70_000] {
                    let bytes = [pack(first), vec![0; zeros], second.clone()].concat();
                    let (frames, error) = read(&bytes);
                    assert_eq!(frames, read(first).0);
                    let Some(error) = error else { panic!("{codec}, {name}: nothing is told") };
                    assert_eq!(error.severity(), Severity::Damage);
                    assert!(error.line().starts_with("damaged: another capture begins at "));
                    let SourceError::Joined { at, begins, bytes } = error else {
                        panic!("{error}")
                    };
                    assert_eq!((begins, bytes), (name, second.len() as u64));
                    assert_eq!((at.offset, at.codec), (first.len() as u64, Some(*codec)));
                }
            }
        }
    }
}

#[test]
fn the_corpus_never_panics_however_it_is_cut() {
    for path in fixtures() {
        let whole = std::fs::read(&path).unwrap();
        let mut before = 0;
        for cut in (0..=whole.len()).step_by(1 + whole.len() / 1000) {
            let (frames, _) = read_all(&whole[..cut]);
            assert!(frames >= before, "{} cut at {cut}", path.display());
            before = frames;
        }
    }
}

proptest! {
    #[test]
    fn flipped_bits_never_panic(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
        wrap in 0..3,
    ) {
        let paths = fixtures();
        let plain = std::fs::read(which.get(&paths)).unwrap();
        let mut bytes = match wrap {
            0 => plain,
            1 => gzip(&plain),
            _ => zstd(&plain),
        };
        for (index, bit) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let (frames, error) = read_all(&bytes);
        prop_assert!(frames < 100_000);
        if let Some(error) = error {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn noise_behind_a_header_never_panics(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        big in any::<bool>(),
        ng in any::<bool>(),
    ) {
        let mut bytes = Bytes::new(if big { Order::Big } else { Order::Little });
        if ng {
            bytes.section().interface(1, 0, |_| {});
        } else {
            bytes.pcap_header(0xa1b2_c3d4, 1);
        }
        bytes.raw(&noise);
        let _ = read_all(&bytes.out);
    }
}
