//! Tunnels from outside: a wrapped capture has the verdicts of the plain one where the rules say
//! inner.

use super::kit::{Ran, bundle, pcap, put, run, sample_frames, scratch, serveflow, text};
use serveflow_core::packet::LinkType;
use serveflow_io::OwnedFrame;
use std::path::PathBuf;

/// The frame behind an Ethernet, an IPv4 and a further header of the tunnel's ends. What was cut
/// stays cut.
fn around(frame: &OwnedFrame, proto: u8, head: &[u8]) -> OwnedFrame {
    let len = 20 + head.len() as u32 + frame.orig_len;
    let mut data = vec![2; 12];
    data.extend([8, 0, 0x45, 0]);
    data.extend((len as u16).to_be_bytes());
    data.extend([0, 0, 0x40, 0, 64, proto, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    data.extend(head);
    data.extend(&frame.data);
    OwnedFrame { orig_len: 14 + len, data, ..frame.clone() }
}

/// Every other frame in VXLAN, and all others in GRE: both have the same flows in them.
fn wrapped(frames: &[OwnedFrame]) -> Vec<OwnedFrame> {
    let wrap = |(number, frame): (usize, &OwnedFrame)| {
        assert_eq!(frame.link, LinkType::Ethernet);
        if number % 2 == 1 {
            return around(frame, 47, &[0x20, 0, 0x65, 0x58, 0, 0, 0, number as u8]);
        }
        let mut head = vec![0xc0, number as u8, 0x12, 0xb5];
        head.extend((16 + frame.orig_len as u16).to_be_bytes());
        head.extend([0, 0, 8, 0, 0, 0, 0, 0, 7, 0]);
        around(frame, 17, &head)
    };
    frames.iter().enumerate().map(wrap).collect()
}

fn capture(name: &str) -> (PathBuf, PathBuf) {
    let dir = scratch(&format!("tunnels-{name}"));
    let frames = sample_frames("test/http.pcap.zst");
    let plain = put(dir.join("plain.pcap"), pcap(&frames));
    (plain, put(dir.join("wrapped.pcap"), pcap(&wrapped(&frames))))
}

#[test]
fn a_wrapped_capture_has_the_verdicts_of_the_plain_one() {
    let (plain, wrapped) = capture("inner");
    let plain = run(&[&plain], &[]).exits(0);
    for workers in ["1", "3"] {
        let ran = run(&[&wrapped], &["--workers", workers]).exits(0);
        // How many packets came while an answer was out depends on the batches, which bytes decide.
        let counts = |ran: &Ran| {
            let packets = ran.account("packets");
            [packets[0], packets[1] + packets[2], packets[3]]
        };
        assert_eq!(counts(&ran), counts(&plain));
        assert_eq!(ran.account("flows"), plain.account("flows"));
        if workers == "1" {
            assert!(plain.verdicts().len() > 10 && ran.verdicts() == plain.verdicts());
        }
    }
}

#[test]
fn the_operator_may_want_the_tunnel_s_ends() {
    let (plain, wrapped) = capture("outer");
    let toml = "[flows]\ntunnels = \"outer\"";
    let config = put(scratch("tunnels-config").join("serveflow.toml"), toml);
    let with = ["--config", text(&config)];
    let ran = run(&[&wrapped], &with).exits(0);
    let verdicts = ran.verdicts();
    assert!(verdicts.iter().all(|verdict| verdict["src"] == "10.9.0.1"), "{verdicts:?}");
    // And plain traffic is what it is.
    assert_eq!(run(&[&plain], &with).exits(0).verdicts(), run(&[&plain], &[]).exits(0).verdicts());
}

#[test]
fn a_bundle_says_how_its_models_were_trained() {
    let shown = serveflow(&["inspect", text(bundle())]).exits(0).out;
    assert!(shown.contains("tunnels: inner"), "{shown}");
    // The sample's bundle is older than the choice.
    let old = super::kit::data().join("bundle");
    let plan = std::fs::read_to_string(old.join("plan.toml")).unwrap();
    let shown = serveflow(&["inspect", text(&old)]).exits(0).out;
    let is_old = !plan.contains("tunnels");
    assert!(!is_old || shown.contains("tunnels: outer"), "{shown}");
}
