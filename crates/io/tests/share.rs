//! A source that is shared out: nothing is lost, flows stay whole and in order, nobody waits for
//! ever.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use common::{Bytes, Order, drain, open};
use serveflow_core::key::FlowKey;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::shard::Sharder;
use serveflow_io::{Batch, MemorySource, OwnedFrame, Share, Source, SourceError, share_out};

/// Idle timeout of the engines that would serve the shares.
const IDLE_NS: u64 = 1_000_000_000;

/// Ethernet frames of some flows in both directions, and now and then one that is no IP.
fn frames(count: u32) -> Vec<OwnedFrame> {
    let frame = |number: u32| {
        let (host, backward) = (number * 7 % 61, number.is_multiple_of(3));
        let mut data = vec![0; 60 + number as usize % 40];
        data[12..15].copy_from_slice(&[8, 0, 0x45]);
        data[16..18].copy_from_slice(&40_u16.to_be_bytes());
        data[23] = 17;
        data[38..40].copy_from_slice(&20_u16.to_be_bytes());
        let (src, dst) = if backward { (30, 26) } else { (26, 30) };
        data[src..src + 4].copy_from_slice(&(0x0a00_0000 + host).to_be_bytes());
        data[dst..dst + 4].copy_from_slice(&0x0a09_0909_u32.to_be_bytes());
        if (number + 1).is_multiple_of(50) {
            data[12] = 9;
        }
        let (ts_ns, orig_len) = (u64::from(number) * 1000, data.len() as u32);
        OwnedFrame { ts_ns, orig_len, link: LinkType::Ethernet, data, note: None }
    };
    (0..count).map(frame).collect()
}

/// The frames as a capture: read in blocks that the shares borrow.
fn capture(frames: &[OwnedFrame]) -> Vec<u8> {
    let mut bytes = Bytes::new(Order::Little);
    bytes.pcap_header(0xa1b2_c3d4, 1);
    for frame in frames {
        bytes.record(0, (frame.ts_ns / 1000) as u32, frame.orig_len, &frame.data);
    }
    bytes.out
}

fn sharder(shards: u32) -> Sharder {
    Sharder::new(shards, KeyRules::default(), 5)
}

/// Drains each share on a thread of its own.
fn drain_all(shares: Vec<Share>) -> Vec<(Vec<OwnedFrame>, Vec<SourceError>)> {
    let drain = |mut share: Share| std::thread::spawn(move || drain(&mut share, usize::MAX));
    let threads: Vec<_> = shares.into_iter().map(drain).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn key(frame: &OwnedFrame) -> Option<FlowKey> {
    let OwnedFrame { ts_ns, orig_len, link, data, .. } = frame;
    let packet = Packet { ts_ns: *ts_ns, orig_len: *orig_len, link: *link, data };
    parse(&packet, KeyRules::default()).ok().map(|parsed| parsed.key)
}

#[test]
fn every_frame_comes_once_and_flows_stay_whole_and_in_order() {
    let all = frames(30_000);
    let bytes = capture(&all);
    for shards in [1, 2, 3, 7] {
        let sources: [Box<dyn Source>; 2] = [
            Box::new(open(&bytes).unwrap()),
            Box::new(MemorySource::new(all.clone()).with_batch_size(333)),
        ];
        for source in sources {
            let drained = drain_all(share_out(source, sharder(shards), IDLE_NS));
            let mut owner = BTreeMap::new();
            let mut seen = Vec::new();
            for (share, (frames, errors)) in drained.iter().enumerate() {
                assert!(errors.is_empty());
                assert!(frames.is_sorted_by_key(|frame| frame.ts_ns), "in order");
                for frame in frames {
                    if let Some(key) = key(frame) {
                        assert_eq!(*owner.entry(key).or_insert(share), share, "flows stay whole");
                    }
                }
                seen.extend_from_slice(frames);
            }
            seen.sort_by_key(|frame| frame.ts_ns);
            assert!(seen == all, "{} of {} frames, {shards} shares", seen.len(), all.len());
            let fair = 30_000 / shards as usize / 3;
            assert!(drained.iter().all(|(frames, _)| frames.len() > fair), "nobody idles");
        }
    }
}

#[test]
fn damage_is_told_once_and_all_before_it_is_served() {
    let all = frames(9_000);
    let mut bytes = capture(&all);
    bytes.truncate(bytes.len() - 5);
    let drained = drain_all(share_out(Box::new(open(&bytes).unwrap()), sharder(3), IDLE_NS));
    let frames: usize = drained.iter().map(|(frames, _)| frames.len()).sum();
    let errors: usize = drained.iter().map(|(_, errors)| errors.len()).sum();
    assert_eq!((frames, errors), (all.len() - 1, 1));
}

#[test]
fn a_worker_that_leaves_holds_nobody_up() {
    let all = frames(60_000);
    let mut shares = share_out(Box::new(MemorySource::new(all.clone())), sharder(2), IDLE_NS);
    let mut leaver = shares.pop().unwrap();
    let mut batch = Batch::new();
    assert!(leaver.fill(&mut batch, 1).unwrap() > 0);
    drop(leaver);
    let own = |frame: &&OwnedFrame| {
        let OwnedFrame { ts_ns, orig_len, link, data, .. } = *frame;
        let packet = Packet { ts_ns: *ts_ns, orig_len: *orig_len, link: *link, data };
        sharder(2).shard(&packet) == Some(0)
    };
    let expected = all.iter().filter(own).count();
    let (frames, _) = drain_all(shares).pop().unwrap();
    let of_flows = frames.iter().filter(|frame| key(frame).is_some()).count();
    assert_eq!(of_flows, expected);
}

/// Gives some batches and then panics.
struct Panics {
    inner: MemorySource,
    fills: u32,
}

impl Source for Panics {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        self.fills -= 1;
        assert!(self.fills > 0, "on purpose");
        self.inner.fill(batch, max_frames)
    }

    fn name(&self) -> &'static str {
        "panics"
    }
}

/// A source that panics ends the worker that read it; the others get what came before, and the end.
#[test]
fn a_source_that_panics_ends_one_worker_and_holds_nobody_up() {
    let all = frames(20_000);
    for (shards, fills) in [(2, 1), (2, 2), (3, 3), (4, 5)] {
        let inner = MemorySource::new(all.clone()).with_batch_size(500);
        let shares = share_out(Box::new(Panics { inner, fills }), sharder(shards), IDLE_NS);
        let drain = |mut share: Share| std::thread::spawn(move || drain(&mut share, usize::MAX));
        let threads: Vec<_> = shares.into_iter().map(drain).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
        assert_eq!(ended.iter().filter(|ended| ended.is_err()).count(), 1, "{shards}, {fills}");
        let (frames, errors): (Vec<_>, Vec<_>) = ended.into_iter().flatten().unzip();
        assert!(errors.iter().all(Vec::is_empty));
        let seen: usize = frames.iter().map(Vec::len).sum();
        assert!(seen <= 500 * (fills as usize - 1), "{seen} frames");
        assert!(fills == 1 || seen > 0, "what came before is served");
    }
}

#[test]
fn an_empty_source_is_over_for_all() {
    let shares = share_out(Box::new(MemorySource::new(Vec::new())), sharder(4), IDLE_NS);
    assert!(
        drain_all(shares).iter().all(|(frames, errors)| frames.is_empty() && errors.is_empty())
    );
}
