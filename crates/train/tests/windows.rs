//! Windows in training: what is recorded of a shipped capture, and which labels windows meet.
#![allow(clippy::unwrap_used)]

mod common;

use common::{by_class, data, pcap, put, quick_plan, scratch, try_fit, udp};
use serveflow_core::parse::{KeyRules, parse};
use serveflow_io::{Batch, FileSource, Source};
use serveflow_label::{LabelBook, by_path, read_table};
use serveflow_train::dataset::{Dataset, record};
use serveflow_train::pipeline::{PipelineError, Tier};
use std::collections::BTreeMap;
use std::path::PathBuf;

const SECOND: u64 = 1_000_000_000;

fn windows_of(book: &LabelBook, window_ns: u64, most: u16) -> Dataset {
    let mut plan = quick_plan(&["boosted@window"]);
    (plan.flows.window_ns, plan.window_packets) = (window_ns, most);
    record(book, &plan.recording(&[Tier::WINDOW]), &mut |_| ()).unwrap()
}

/// First time and packets of each window of a capture of datagrams, counted packet by packet: a
/// flow begins anew after two minutes of silence and after half an hour.
fn counted(capture: PathBuf) -> Vec<(u64, usize)> {
    let mut source = FileSource::new(vec![capture]);
    let mut flows = BTreeMap::new();
    let mut windows = BTreeMap::new();
    let mut batch = Batch::new();
    loop {
        batch.clear();
        let filled = source.fill(&mut batch, 1024).unwrap();
        for packet in batch.iter() {
            let Ok(parsed) = parse(&packet, KeyRules::default()) else { continue };
            assert_eq!(parsed.key.proto(), 17, "the capture is of datagrams");
            let now = packet.ts_ns;
            let (first, last) = flows.entry(parsed.key).or_insert((now, now));
            if now - *last > 120 * SECOND || now - *first > 1_800 * SECOND {
                *first = now;
            }
            *last = now;
            let window = (parsed.key, *first, (now - *first) / SECOND);
            windows.entry(window).or_insert((now, 0)).1 += 1;
        }
        if filled == 0 {
            let mut all: Vec<_> = windows.into_values().collect();
            all.sort_unstable();
            return all;
        }
    }
}

#[test]
fn a_shipped_capture_has_the_windows_that_one_counts() {
    let dir = scratch("windows-shipped");
    let capture = dir.join("mdns.pcap.zst");
    std::fs::copy(data("app_protocol").join("train/mdns.pcap.zst"), &capture).unwrap();
    let expected = counted(capture);
    let dataset = windows_of(&by_path(&dir).unwrap(), SECOND, 64);
    let mut ours: Vec<_> =
        dataset.flows.iter().map(|flow| (flow.first_ns, usize::from(flow.packets))).collect();
    ours.sort_unstable();
    assert_eq!(ours, expected);
    let packets: usize = expected.iter().map(|window| window.1).sum();
    assert_eq!(dataset.accounts.packets.recorded, packets as u64, "none is lost, none is twice");
    assert_eq!(dataset.accounts.flows.seen, expected.len() as u64);
    assert!(expected.len() > 500 && packets > expected.len() + 100, "{} {packets}", expected.len());
}

#[test]
fn a_window_meets_its_label_by_five_tuple_and_first_time() {
    let dir = scratch("windows-labels");
    let start = 1_700_000_000 * SECOND;
    // Packets at 0.0, 0.4, 1.2, 3.9 and 4.0 s: windows that begin at 0.0, 1.2, 3.9 and 4.0 s.
    let at = [0, 400, 1_200, 3_900, 4_000].map(|ms| start + ms * 1_000_000);
    let frames = at.map(|at| (at, udp((1, 50), (2, 60), 9)));
    put(dir.join("call.pcap"), pcap(&frames));
    let line =
        |us: u64, label: &str| format!("call.pcap,,{label},17,10.0.0.1,50,10.0.0.2,60,{us}\n");
    let (bad, good) = (start / 1_000 + 1_200_000, start / 1_000 + 4_000_000);
    let head = "file,split,label,proto,src_ip,src_port,dst_ip,dst_port,first_ts_us\n";
    let table = [head, &line(bad, "bad"), &line(good, "good")].concat();
    let book = read_table(&put(dir.join("labels.csv"), table), &dir).unwrap();
    let dataset = windows_of(&book, SECOND, 64);
    let named = |label: Option<u16>| label.map(|label| dataset.labels[usize::from(label)].as_str());
    let windows: Vec<_> =
        dataset.flows.iter().map(|flow| (flow.packets, named(flow.label))).collect();
    assert_eq!(windows, [(2, None), (1, Some("bad")), (1, None), (1, Some("good"))]);
    assert_eq!(dataset.missing, 0);
}

#[test]
fn a_window_stage_without_windows_is_refused_in_words() {
    let dir = scratch("windows-refused");
    put(dir.join("a.pcap"), pcap(&[(SECOND, udp((1, 50), (2, 60), 9))]));
    let book = by_path(&dir).unwrap();
    let refused = |plan| {
        let error = try_fit(&book, &plan, &by_class(), || 0).unwrap_err();
        assert!(matches!(error, PipelineError::Window { .. }));
        error.to_string()
    };
    let mut plan = quick_plan(&["tree@5", "boosted@window"]);
    assert!(
        refused(plan.clone()).contains("boosted@window: expected flows to be cut into windows")
    );
    (plan.flows.window_ns, plan.window_packets) = (SECOND, 4);
    assert!(refused(plan).contains("at least as many packets"));
}
