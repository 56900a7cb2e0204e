//! Flows of the sample, generators, and a naive reader of headers.

use serveflow_core::packet::Packet;
use serveflow_core::parse::{Header, KeyRules, Parsed, parse};
use serveflow_io::{CaptureReader, MemorySource, OwnedFrame};
use serveflow_train::traffic::generator::{Arrivals, Generator, Recipe};
use serveflow_train::traffic::template::{TemplateSet, sum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The sample captures.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol")
}

pub(crate) fn packet(frame: &OwnedFrame) -> Packet<'_> {
    let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = *frame;
    Packet { ts_ns, orig_len, link, data }
}

pub(crate) fn parsed(frame: &OwnedFrame) -> Parsed {
    parse(&packet(frame), KeyRules::default()).unwrap()
}

/// The frames of a capture, by five-tuple.
pub(crate) fn flows(name: &str) -> Vec<Vec<OwnedFrame>> {
    let mut reader = CaptureReader::open(data().join(name)).unwrap();
    let mut flows: BTreeMap<_, Vec<OwnedFrame>> = BTreeMap::new();
    for frame in MemorySource::read(&mut reader).unwrap().frames() {
        if let Ok(parsed) = parse(&packet(frame), KeyRules::default()) {
            flows.entry(parsed.key).or_default().push(frame.clone());
        }
    }
    flows.into_values().collect()
}

pub(crate) fn templates(flows: &[Vec<OwnedFrame>]) -> TemplateSet {
    let mut set = TemplateSet::new();
    for flow in flows {
        assert!(set.add_flow(flow.iter().map(packet), Some(0), 0));
    }
    set
}

pub(crate) fn recipe(flows_per_s: f64, flows: u64, seed: u64) -> Recipe {
    let (arrivals, worker, stop) = (Arrivals::Poisson, 0, Arc::default());
    Recipe { flows_per_s, arrivals, flows, seed, worker, stop }
}

/// All that a generator makes.
pub(crate) fn all(templates: &TemplateSet, recipe: Recipe) -> Vec<OwnedFrame> {
    let mut generator = Generator::new(templates.clone(), recipe);
    let frames = MemorySource::read(&mut generator).unwrap().frames().to_vec();
    assert_eq!(frames.len() as u64, generator.packets_made());
    frames
}

/// Whether each checksum is right: of the IPv4 header, and of TCP or UDP when the frame was
/// captured whole.
pub(crate) fn right_checksums(frame: &OwnedFrame) -> Vec<bool> {
    let parsed = parsed(frame);
    let network = &frame.data[parsed.network.range().start..];
    let v6 = parsed.network.header == Header::Ipv6;
    let header = if v6 { 40 } else { parsed.network.range().len() };
    let total = usize::from(parsed.size);
    let mut right = Vec::new();
    if !v6 {
        right.push(sum(&network[..header]) == 0xffff);
    }
    let addresses = if v6 { &network[8..40] } else { &network[12..20] };
    let Some(transport) = parsed.transport else { return right };
    if network.len() < total {
        return right;
    }
    let segment = &network[header..total];
    if transport.header == Header::Udp && segment[6..8] == [0, 0] {
        return right;
    }
    let mut pseudo = addresses.to_vec();
    pseudo.extend([0, parsed.key.proto()]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    pseudo.extend(segment);
    if matches!(transport.header, Header::Tcp | Header::Udp) {
        right.push(sum(&pseudo) == 0xffff);
    }
    right
}

/// A frame without what a clone writes: addresses, ports and checksums.
pub(crate) fn masked(frame: &OwnedFrame) -> Vec<u8> {
    let parsed = parsed(frame);
    let at = parsed.network.range().start;
    let mut data = frame.data.clone();
    match parsed.network.header {
        Header::Ipv6 => data[at + 8..at + 40].fill(0),
        _ => data[at + 10..at + 20].fill(0),
    }
    if let Some(transport) = parsed.transport {
        let at = transport.range().start;
        let checksum = match transport.header {
            Header::Tcp => at + 16,
            Header::Udp => at + 6,
            _ => at + 2,
        };
        if transport.header != Header::Icmp {
            data[at..at + 4].fill(0);
        }
        data[checksum..checksum + 2].fill(0);
    }
    data
}
