//! Clones of real flows.

use super::kit::{all, data, flows, masked, packet, parsed, recipe, right_checksums, templates};
use serveflow_core::FlowConfig;
use serveflow_io::OwnedFrame;
use serveflow_label::{Split, read_table};
use serveflow_train::traffic::captured::{labelled, replay};
use serveflow_train::traffic::fresh::number_of;
use serveflow_train::traffic::generator::{START_NS, shuffled};
use std::collections::{BTreeMap, BTreeSet};

/// Captures with TCP, UDP and IPv6.
const CAPTURES: [&str; 4] =
    ["test/http.pcap.zst", "test/dns.pcap.zst", "test/mdns.pcap.zst", "test/llmnr.pcap.zst"];

/// The clones, by flow number.
fn by_number(frames: Vec<OwnedFrame>) -> BTreeMap<u64, Vec<OwnedFrame>> {
    let mut clones: BTreeMap<u64, Vec<OwnedFrame>> = BTreeMap::new();
    for frame in frames {
        let parsed = parsed(&frame);
        let number = number_of(&parsed.key.five_tuple(parsed.sender_is_low)).unwrap();
        clones.entry(number).or_default().push(frame);
    }
    clones
}

#[test]
fn clones_keep_everything_but_their_five_tuple() {
    for name in CAPTURES {
        let originals = flows(name);
        let count = originals.len();
        let clones = by_number(all(&templates(&originals), recipe(500.0, 3 * count as u64, 5)));
        assert_eq!(clones.len(), 3 * count, "{name}: each flow has a number of its own");
        let order = shuffled(count, 5);
        for (number, clone) in &clones {
            let original = &originals[order[*number as usize % count] as usize];
            assert_eq!(clone.len(), original.len(), "{name}");
            let mut since = 0;
            for (copy, frame) in clone.iter().zip(original) {
                since = since.max(frame.ts_ns.saturating_sub(original[0].ts_ns));
                assert_eq!(copy.ts_ns - clone[0].ts_ns, since, "{name}: gaps are as captured");
                assert_eq!((copy.orig_len, copy.link), (frame.orig_len, frame.link));
                assert_eq!(masked(copy), masked(frame), "{name}");
                let (new, old) = (parsed(copy), parsed(frame));
                assert_eq!(
                    (new.size, new.payload, new.tcp_flags),
                    (old.size, old.payload, old.tcp_flags)
                );
                let right = right_checksums(frame).into_iter().zip(right_checksums(copy));
                assert!(
                    right.into_iter().all(|(old, new)| old == new),
                    "{name}: as right as before"
                );
            }
        }
    }
}

#[test]
fn directions_services_and_protocols_stay() {
    let originals = flows(CAPTURES[0]);
    let clones = by_number(all(&templates(&originals), recipe(500.0, originals.len() as u64, 1)));
    let order = shuffled(originals.len(), 1);
    for (number, clone) in clones {
        let original = &originals[order[number as usize] as usize];
        let tuple = |frame: &OwnedFrame| {
            let parsed = parsed(frame);
            parsed.key.five_tuple(parsed.sender_is_low)
        };
        let (first, first_copy) = (tuple(&original[0]), tuple(&clone[0]));
        assert_eq!((first.dst_port, first.proto), (first_copy.dst_port, first_copy.proto));
        for (copy, frame) in clone.iter().zip(original) {
            let is_forward = tuple(frame).src == first.src;
            assert_eq!(tuple(copy).src == first_copy.src, is_forward);
        }
    }
}

#[test]
fn no_two_flows_of_any_workers_share_a_five_tuple() {
    let set = templates(&flows(CAPTURES[2]));
    let mut keys = BTreeSet::new();
    let mut made = 0;
    for worker in [0, 1, 63] {
        let recipe =
            serveflow_train::traffic::generator::Recipe { worker, ..recipe(1e6, 20_000, 1) };
        let clones = by_number(all(&set, recipe));
        made += clones.len();
        keys.extend(clones.values().map(|clone| parsed(&clone[0]).key));
    }
    assert_eq!((keys.len(), made), (60_000, 60_000));
}

#[test]
fn the_labelled_flows_are_those_that_the_engine_finds() {
    let book = read_table(&data().join("labels.csv"), &data()).unwrap();
    let labels: Vec<u16> = (0..book.labels.len() as u16).collect();
    let found = labelled(&book, Split::Test, &labels, FlowConfig::default(), 256);
    assert!(found.damaged.is_empty());
    let flows = found.templates.flows();
    assert_eq!(flows.len(), 1041, "the test flows of data/app_protocol/README.md");
    let of = |name: &str| {
        let label = book.labels.iter().position(|label| label == name).map(|at| at as u16);
        flows.iter().filter(|flow| flow.label == label).count()
    };
    assert_eq!((of("dhcp"), of("ntp"), of("tls"), of("quic")), (153, 226, 101, 7));
}

#[test]
fn a_replay_is_the_capture() {
    let path = data().join(CAPTURES[0]);
    let captured = replay(std::slice::from_ref(&path), 0);
    assert!(captured.damaged.is_empty());
    let replayed = all(&captured.templates, recipe(1.0, 1, 1));
    let mut reader = serveflow_io::CaptureReader::open(&path).unwrap();
    let source = serveflow_io::MemorySource::read(&mut reader).unwrap();
    let started = source.frames()[0].ts_ns;
    assert_eq!(replayed.len(), source.frames().len());
    let mut since = 0;
    for (copy, frame) in replayed.iter().zip(source.frames()) {
        since = since.max(frame.ts_ns.saturating_sub(started));
        assert_eq!((copy.ts_ns - START_NS, &copy.data), (since, &frame.data));
    }
}

#[test]
fn a_snap_length_cuts_frames_and_keeps_their_length_on_the_wire() {
    let originals = flows(CAPTURES[0]);
    let mut set = serveflow_train::traffic::template::TemplateSet::new();
    originals.iter().for_each(|flow| assert!(set.add_flow(flow.iter().map(packet), None, 96)));
    let cut = all(&set, recipe(500.0, originals.len() as u64, 1));
    let whole = all(&templates(&originals), recipe(500.0, originals.len() as u64, 1));
    assert!(whole.iter().any(|frame| frame.data.len() > 96));
    for (cut, whole) in cut.iter().zip(&whole) {
        assert_eq!((cut.ts_ns, cut.orig_len), (whole.ts_ns, whole.orig_len));
        assert_eq!(cut.data, whole.data[..whole.data.len().min(96)]);
    }
}

#[test]
fn scaled_gaps_stretch_packet_time() {
    let originals = flows(CAPTURES[0]);
    let set = templates(&originals).with_gaps_scaled(0.5);
    let (clones, order) =
        (by_number(all(&set, recipe(500.0, 50, 1))), shuffled(originals.len(), 1));
    for (number, clone) in clones {
        let original = &originals[order[number as usize] as usize];
        let span = |flow: &[OwnedFrame]| flow.last().unwrap().ts_ns - flow[0].ts_ns;
        assert!((span(&clone) * 2).abs_diff(span(original)) <= 2);
    }
}
