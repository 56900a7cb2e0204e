//! When flows end: cases that were once wrong, so that none comes back.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, Run};
use common::frames::{Frame, framed, ipv4, udp};
use common::models::{cascade, inline_lanes, stage};
use common::traffic::{MS, START};
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig};
use serveflow_core::packet::LinkType;
use serveflow_core::verdict::Reason;
use std::sync::Arc;

/// A datagram of flow `flow`, so many milliseconds after the start.
fn datagram(flow: u16, ms: u64) -> Frame {
    let packet = ipv4(0x0a00_0001, 0x0a00_0002, 17, &udp(flow, 53, &[1, 2, 3]));
    Frame::new(START + ms * MS, LinkType::Ethernet, framed(LinkType::Ethernet, &packet))
}

fn config(capacity: usize, idle_ms: u64) -> EngineConfig {
    let flows = FlowConfig { capacity, idle_ns: idle_ms * MS, ..FlowConfig::default() };
    EngineConfig { flows, ..EngineConfig::default() }
}

fn run(
    cascade: &Arc<Cascade>,
    config: EngineConfig,
    batch: u64,
    end: End,
    frames: &[Frame],
) -> Run {
    Drive { config, lanes: inline_lanes(cascade), batch, seed: 1, end }.run(cascade, frames)
}

/// was found first depended on how often the engine looked.
#[test]
fn a_flow_that_is_over_does_not_time_out() {
    let cascade = cascade(&[stage(5, 500 * MS, 1.0)]);
    let frames: Vec<Frame> = (0..100).map(|i| datagram(1 + i, u64::from(i) * 7)).collect();
    for idle in [499, 500] {
        let often = run(&cascade, config(1000, idle), 1, End::Silence, &frames);
        let once = run(&cascade, config(1000, idle), 1_000, End::Silence, &frames);
        assert!(often.told() == once.told(), "idle {idle}");
        assert_eq!(often.accounts.flows.verdicts[Reason::Ended as usize], 100);
    }
}

/// A flow whose idle timeout had passed a moment ago was counted as evicted.
#[test]
fn a_flow_that_is_over_is_not_evicted() {
    let cascade = cascade(&[stage(5, u64::MAX, 1.0)]);
    // The flow is over at 100 ms; time is 5 ms later, often within the wheel's slot, when
    // the next one begins.
    for at in 0..67 {
        let mut arp = datagram(0, at + 105);
        arp.data[12..14].copy_from_slice(&[8, 6]);
        let frames = [datagram(1, at), arp, datagram(2, at + 105)];
        let run = run(&cascade, config(1, 100), 10, End::Silence, &frames);
        assert_eq!(run.accounts.evictions(), 0, "at {at}");
        assert_eq!(run.accounts.flows.verdicts[Reason::Ended as usize], 2);
        assert!(run.verdicts.iter().all(|verdict| verdict.collection_ns == 100 * MS));
    }
}

/// then, unless the engine happened to have looked.
#[test]
fn a_stop_or_a_restarted_clock_makes_no_flow_longer() {
    let cascade = cascade(&[stage(5, u64::MAX, 1.0)]);
    let mut frames = vec![datagram(1, 200_000), datagram(2, 200_110), datagram(2, 200_110)];
    let check = |frames: &[Frame], batch| {
        let run = run(&cascade, config(100, 100), batch, End::Stop, frames);
        let first = run.verdicts.iter().find(|verdict| verdict.flow.src_port == 1).unwrap();
        assert_eq!(first.collection_ns, 100 * MS, "batches up to {batch}");
        run.told()
    };
    assert!(check(&frames, 1) == check(&frames, 10));
    frames.extend([datagram(3, 0), datagram(3, 1)]);
    assert!(check(&frames, 1) == check(&frames, 10));
}

/// until packet time came to it.
#[test]
fn a_stray_time_stamp_in_an_empty_table_stops_no_clock() {
    let cascade = cascade(&[stage(5, 300 * MS, 1.0)]);
    let arp = common::frames::ether(&[], 0x0806, &[0; 28]);
    let mut engine = Engine::new(cascade.clone(), config(100, 1_000));
    let mut lanes = inline_lanes(&cascade);
    engine.push(&Frame::new(START, LinkType::Ethernet, arp).packet());
    engine.push(&datagram(1, 3_600_000).packet());
    engine.push(&datagram(2, 1).packet());
    for ms in 0..50 {
        engine.push(&datagram(3, 2 + ms * 100).packet());
        engine.advance();
        engine.submit(&mut lanes);
        engine.collect(&mut lanes);
    }
    assert_eq!(engine.table_len(), 2, "only the stray flow and the living one stay");
    let timed_out = engine.accounts().flows.verdicts[Reason::TimedOut as usize];
    assert_eq!(timed_out, 2, "neither had five packets within 300 ms");
}
