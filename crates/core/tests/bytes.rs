//! What flows cost in memory.
#![allow(clippy::unwrap_used)]

mod common;

use common::frames::{Frame, Tcp, framed, ipv4};
use common::models::{cascade, inline_lanes, stage};
use common::traffic::START;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Engine, EngineConfig};
use serveflow_core::packet::LinkType;

/// A packet of flow `flow`; its index makes it a TCP packet with the options of a SYN or without.
fn numbered(flow: u32, index: u64) -> Frame {
    let options = if index == 0 { vec![1; 20] } else { vec![1; 12] };
    let header = Tcp { src: 5_000, dst: 443, seq: 1, flags: 16, options, ..Tcp::default() };
    let packet = ipv4(0x0a00_0000 + flow, 9, 6, &header.bytes(&[1; 30]));
    let now = START + index * 1_000_000 + u64::from(flow);
    Frame::new(now, LinkType::Ethernet, framed(LinkType::Ethernet, &packet))
}

/// Bytes of the engine for each of `flows` flows of `packets` packets, with a stage that waits for
/// `wanted`.
fn bytes_per_flow(flows: u32, packets: u64, wanted: u16) -> usize {
    let cascade = cascade(&[stage(wanted, u64::MAX, 1.0)]);
    let limits = FlowConfig { capacity: 1 << 20, ..FlowConfig::default() };
    let mut engine =
        Engine::new(cascade.clone(), EngineConfig { flows: limits, ..EngineConfig::default() });
    let mut lanes = inline_lanes(&cascade);
    for index in 0..packets {
        for first in (0..flows).step_by(256) {
            let batch: Vec<Frame> =
                (first..flows.min(first + 256)).map(|flow| numbered(flow, index)).collect();
            engine.push_all(batch.iter().map(Frame::packet));
            engine.advance();
            engine.submit(&mut lanes);
            engine.collect(&mut lanes);
            engine.clear_verdicts();
        }
    }
    let kept = if packets < u64::from(wanted) { flows as usize * packets as usize } else { 0 };
    assert_eq!((engine.table_len(), engine.recorded_packets()), (flows as usize, kept));
    engine.bytes() / flows as usize
}

#[test]
fn a_decided_flow_takes_a_hundred_bytes_and_one_that_waits_at_ten_packets_fifteen_hundred() {
    // Just before and just after the index grows, where it is fullest and emptiest.
    for flows in [183_000, 184_000] {
        let decided = bytes_per_flow(flows, 1, 1);
        assert!(decided <= 100, "{decided} bytes a decided flow, {flows} flows");
    }
    let waiting = bytes_per_flow(100_000, 10, 11);
    assert!(waiting <= 1_500, "{waiting} bytes a flow that waits at 10 packets");
    println!("{waiting} bytes a flow that waits at 10 packets");
}

#[test]
fn memory_taken_at_the_start_serves_as_memory_that_comes_with_the_flows() {
    let cascade = cascade(&[stage(1, 0, 0.3), stage(4, 1_000_000, 1.0)]);
    let run = |prefault| {
        let flows = FlowConfig { capacity: 5_000, ..FlowConfig::default() };
        let limits =
            EngineConfig { flows, record_packets: 900, prefault, ..EngineConfig::default() };
        let mut engine = Engine::new(cascade.clone(), limits);
        engine.prefault();
        let mut lanes = inline_lanes(&cascade);
        let mut told = Vec::new();
        for index in 0..6 {
            let frames: Vec<Frame> = (0..6_000).map(|flow| numbered(flow, index)).collect();
            for batch in frames.chunks(100) {
                engine.push_all(batch.iter().map(Frame::packet));
                engine.advance();
                engine.submit(&mut lanes);
                engine.collect(&mut lanes);
                told.extend(engine.verdicts().iter().map(|v| (v.flow, v.answer, v.reason)));
                engine.clear_verdicts();
            }
        }
        (told, *engine.accounts())
    };
    assert_eq!(run(false), run(true));
}
