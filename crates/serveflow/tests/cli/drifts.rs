//! Drift through the real program: traffic like that of the calibration raises no alarm, a switch
//! to another network's does, in the stated number of flows.

use super::kit::{self, Ran, data, frames, pcap, put, scratch, serveflow, text};
use serveflow_core::key::FlowKey;
use serveflow_core::packet::Packet;
use serveflow_core::parse::{KeyRules, parse};
use serveflow_io::OwnedFrame;
use std::collections::BTreeMap;
use std::path::Path;

const SECOND: u64 = 1_000_000_000;
/// Silence behind which packets are of another flow.
const SILENCE_NS: u64 = 60 * SECOND;
/// Time between two flows of a mixture: what has the same five-tuple is mostly long over.
const STEP_NS: u64 = 3 * SECOND;

/// The flows of some captures, frame by frame.
fn flows(dir: &Path, split: &str, labels: &[&str]) -> Vec<Vec<OwnedFrame>> {
    let mut all = Vec::new();
    for label in labels {
        let mut open: BTreeMap<FlowKey, Vec<OwnedFrame>> = BTreeMap::new();
        for frame in frames(&dir.join(split).join(format!("{label}.pcap.zst"))) {
            let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = frame;
            let parsed = parse(&Packet { ts_ns, orig_len, link, data }, KeyRules::default());
            let Ok(parsed) = parsed else { continue };
            let flow = open.entry(parsed.key).or_default();
            if flow.last().is_some_and(|last| last.ts_ns + SILENCE_NS < ts_ns) {
                all.push(std::mem::take(flow));
            }
            flow.push(frame);
        }
        all.extend(open.into_values());
    }
    all
}

/// One capture of flows that begin one after the other, in an order that no capture has.
fn mixed(mut flows: Vec<Vec<OwnedFrame>>, from_ns: u64) -> Vec<OwnedFrame> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..flows.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        flows.swap(at, (state >> 33) as usize % (at + 1));
    }
    let mut all = Vec::new();
    for (at, flow) in flows.into_iter().enumerate() {
        let (start, first) = (from_ns + at as u64 * STEP_NS, flow[0].ts_ns);
        let moved = |frame: OwnedFrame| OwnedFrame {
            ts_ns: start + frame.ts_ns.saturating_sub(first),
            ..frame
        };
        all.extend(flow.into_iter().map(moved));
    }
    all.sort_by_key(|frame| frame.ts_ns);
    all
}

fn run(bundle: &Path, capture: &Path) -> Ran {
    let args = ["run", "--bundle", text(bundle), text(capture), "--format", "null"];
    serveflow(&[&args[..], &["--workers", "1"]].concat()).exits(0)
}

/// What the run says of the first stage: windows over the threshold, windows, flows of one, alarms,
/// and the flows until the first one.
fn told(ran: &Ran) -> (Vec<u64>, String) {
    let line = ran.err.lines().find(|line| line.starts_with("drift:   tree@1: "));
    let line = line.unwrap_or_else(|| panic!("no drift line: {}", ran.err));
    let rest = line.split_once("tree@1: ").unwrap().1;
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    (numbers.map(|number| number.parse().unwrap()).collect(), line.to_owned())
}

#[test]
fn a_switch_of_traffic_is_told_and_calm_traffic_is_not() {
    let dir = scratch("drifts");
    let val = data().join("val");
    let labels: Vec<&str> = ["http", "mdns", "smb", "tls"]
        .into_iter()
        .filter(|label| val.join(format!("{label}.pcap.zst")).is_file())
        .collect();
    let calm = flows(&data(), "val", &labels);
    let calm = mixed(calm, 1_700_000_000 * SECOND);
    let end = calm.last().unwrap().ts_ns;
    let capture = put(dir.join("calm.pcap"), pcap(&calm));
    let ran = run(kit::bundle(), &capture);
    let before = ran.account("flows")[0];
    let (numbers, line) = told(&ran);
    assert!(numbers[1] >= 3 && numbers[3] == 0, "{line}");

    let other = data().join("../iot_sentinel");
    let new = flows(&other, "test", &["Hue", "D-LinkWifiSensors", "WeMoLink"]);
    let new = mixed(new, end + SECOND);
    let capture = put(dir.join("switch.pcap"), pcap(&[calm, new].concat()));
    let (numbers, line) = told(&run(kit::bundle(), &capture));
    assert!(numbers[3] >= 1 && line.contains("on at the end"), "{line}");
    let first = numbers[4];
    // Two windows less a flow.
    assert!(
        first > before && first < before + 2 * numbers[2],
        "{before} flows before, then: {line}"
    );
}
