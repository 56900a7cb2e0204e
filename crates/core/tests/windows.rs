//! Windows: each is a sample with one verdict, and cutting flows loses and doubles nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, Run, Told};
use common::frames::{Frame, Rng, framed, ip, udp};
use common::models::{StageSpec, cascade, delay_lanes, inline_lanes, stage, window};
use common::traffic::{MS, START, Shape, traffic};
use common::twin::Twin;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, EngineConfig};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::verdict::{FiveTuple, Reason};
use std::collections::BTreeMap;
use std::sync::Arc;

const EDGES: [u64; 5] = [1_000 * MS, 3_000 * MS, 200 * MS, 300 * MS, 250 * MS];

fn config(window_ms: u64, capacity: usize) -> EngineConfig {
    let flows = FlowConfig {
        capacity,
        idle_ns: 1_000 * MS,
        active_ns: 3_000 * MS,
        linger_ns: 200 * MS,
        window_ns: window_ms * MS,
        ..FlowConfig::default()
    };
    EngineConfig { flows, batch_rows: 8, ..EngineConfig::default() }
}

fn cascades() -> Vec<Vec<StageSpec>> {
    let forever = u64::MAX;
    vec![
        vec![window(6, 1.0)],
        vec![stage(1, 0, 0.3), window(6, 1.0)],
        vec![stage(2, forever, 0.3), stage(4, forever, 0.3), window(64, 1.0)],
        vec![stage(1, 100 * MS, 0.3), stage(3, 300 * MS, 0.3), stage(5, forever, 1.0)],
        vec![window(3, 0.3), window(9, 1.0)],
    ]
}

fn run(
    cascade: &Arc<Cascade>,
    config: EngineConfig,
    batch: u64,
    frames: &[Frame],
    end: End,
) -> Run {
    let lanes = inline_lanes(cascade);
    Drive { config, lanes, batch, seed: batch, end }.run(cascade, frames)
}

fn shape(seed: u64) -> Shape {
    Shape { jitter: seed % 3 == 1, strays: seed % 3 == 2, ..Shape::new(seed, 60, &EDGES) }
}

/// What differs first.
fn same(ours: &[Told], theirs: &[Told], what: &str) {
    if ours != theirs {
        let only = |a: &[Told], b: &[Told]| a.iter().find(|told| !b.contains(told)).cloned();
        panic!("{what}\n{:?}\n{:?}", only(ours, theirs), only(theirs, ours));
    }
}

#[test]
fn flows_cut_into_windows_have_the_verdicts_of_the_twin() {
    let mut reasons = [0; 7];
    for seed in 0..40 {
        let frames = traffic(&shape(seed));
        for (window_ms, capacity) in [(250, 1 << 16), (1_000, 1 << 16), (37, 12), (2_000, 5)] {
            let config = config(window_ms, capacity);
            for specs in cascades() {
                let cascade = cascade(&specs);
                let end = if seed % 2 == 0 { End::Silence } else { End::Stop };
                let batch = if capacity < frames.len() { 1 } else { 1 + seed % 40 };
                let ours = run(&cascade, config, batch, &frames, end);
                let (twins, evictions) = Twin::run(&cascade, config, &frames, end);
                same(
                    &ours.told(),
                    &twins,
                    &format!("seed {seed} {window_ms} {capacity} {specs:?}"),
                );
                let accounts = &ours.accounts;
                assert_eq!([accounts.evicted_undecided, accounts.evicted_decided], evictions);
                let counts = ours.accounts.flows.verdicts;
                reasons.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
    }
    assert!(reasons[..5].iter().all(|&count| count > 300) && reasons[5] == 0, "{reasons:?}");
}

#[test]
fn batches_and_lanes_change_no_verdict_of_a_window() {
    for seed in 0..20 {
        let frames = traffic(&shape(100 + seed));
        for specs in cascades() {
            let cascade = cascade(&specs);
            let config = config(250, 1 << 16);
            let alone = run(&cascade, config, 1, &frames, End::Silence);
            let lanes = delay_lanes(&cascade, seed, usize::MAX, 0);
            let late = Drive { config, lanes, batch: 20, seed, end: End::Silence };
            same(&alone.told(), &late.run(&cascade, &frames).told(), "late lanes");
            for batch in [7, 1 << 20] {
                let other = run(&cascade, config, batch, &frames, End::Silence);
                same(&alone.told(), &other.told(), &format!("seed {seed}, batch {batch}"));
            }
        }
    }
}

#[test]
fn shards_change_no_verdict_of_a_window() {
    let cascade = cascade(&cascades()[2]);
    for seed in 0..20 {
        let frames = traffic(&Shape::new(200 + seed, 60, &EDGES));
        let one = run(&cascade, config(250, 1 << 16), 16, &frames, End::Silence).told();
        for n in [2, 3] {
            let shard = |frame: &Frame| {
                let parsed = parse(&frame.packet(), KeyRules::default());
                parsed.map_or(0, |parsed| {
                    let flow = parsed.key.five_tuple(true);
                    (u64::from(flow.src_port) + u64::from(flow.dst_port)) % n
                })
            };
            let mut told = Vec::new();
            for index in 0..n {
                let own: Vec<Frame> =
                    frames.iter().filter(|frame| shard(frame) == index).cloned().collect();
                told.extend(run(&cascade, config(250, 1 << 16), 9, &own, End::Silence).told());
            }
            told.sort();
            same(&one, &told, &format!("seed {seed}, {n} shards"));
        }
    }
}

/// Datagrams of a few pairs of hosts, at any time of some seconds; the first one is forward.
fn datagrams(seed: u64) -> Vec<Frame> {
    let mut rng = Rng(seed);
    let mut frames = Vec::new();
    for pair in 0..8 {
        let hosts = [[10, 0, 0, 1], [10, 0, 1, pair]].map(std::net::IpAddr::from);
        let mut now = START + rng.below(500 * MS);
        for number in 0..rng.below(120) {
            let backward = number > 0 && rng.one_in(3);
            let [from, to] = if backward { [1, 0] } else { [0, 1] };
            let ports = [5_000 + u16::from(pair), 443];
            let payload = vec![1; rng.below(200) as usize];
            let packet = ip(hosts[from], hosts[to], 17, &udp(ports[from], ports[to], &payload));
            frames.push(Frame::new(now, LinkType::Ethernet, framed(LinkType::Ethernet, &packet)));
            now += rng.pick(&[1, MS, 40 * MS, 250 * MS, 900 * MS]);
        }
    }
    frames.sort_by_key(|frame| frame.ts_ns);
    frames
}

/// Packets by flow and number of the window, counted from the flow's first packet.
fn by_window(frames: &[Frame], window_ns: u64) -> BTreeMap<(FiveTuple, u64), Vec<Frame>> {
    let mut first: BTreeMap<FiveTuple, u64> = BTreeMap::new();
    let mut windows: BTreeMap<_, Vec<Frame>> = BTreeMap::new();
    for frame in frames {
        let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) else { continue };
        let flow = parsed.key.five_tuple(true);
        let first = *first.entry(flow).or_insert(frame.ts_ns);
        windows.entry((flow, (frame.ts_ns - first) / window_ns)).or_default().push(frame.clone());
    }
    windows
}

/// Flows that only end with the input.
fn endless(window_ns: u64) -> EngineConfig {
    let flows =
        FlowConfig { idle_ns: 1 << 60, active_ns: 1 << 60, window_ns, ..FlowConfig::default() };
    EngineConfig { flows, ..EngineConfig::default() }
}

#[test]
fn a_window_has_the_answer_of_a_flow_of_its_packets_alone() {
    let mut compared = 0;
    for seed in 0..20 {
        let frames = datagrams(seed);
        let window_ns = [250, 1_000, 3_000][seed as usize % 3] * MS;
        for specs in [vec![window(9, 1.0)], vec![stage(2, u64::MAX, 0.3), window(30, 1.0)]] {
            let cascade = cascade(&specs);
            let cut = run(&cascade, endless(window_ns), 9, &frames, End::Silence).told();
            let windows = by_window(&frames, window_ns);
            assert_eq!(cut.len(), windows.len(), "one verdict for each window");
            for packets in windows.values() {
                let whole = endless(serveflow_core::NO_WINDOW);
                let alone = run(&cascade, whole, 9, packets, End::Silence).told();
                let [alone] = &alone[..] else { panic!("one flow") };
                // Directions are the flow's, in each of its windows: the answers are the same where
                // the window begins as the flow does.
                let ours = cut
                    .iter()
                    .find(|told| (told.flow, told.first_ns) == (alone.flow, alone.first_ns));
                let Some(ours) = ours else { continue };
                assert_eq!((ours.answer, ours.deciding_ns), (alone.answer, alone.deciding_ns));
                compared += 1;
            }
        }
    }
    assert!(compared > 1_000, "{compared}");
}

#[test]
fn a_window_stage_sees_the_packets_of_its_window_up_to_its_limit() {
    for most in [1, 4, 64] {
        let cascade = cascade(&[window(most, 1.0)]);
        for seed in 0..20 {
            let frames = datagrams(50 + seed);
            let run = run(&cascade, endless(1_000 * MS), 9, &frames, End::Silence);
            let windows = by_window(&frames, 1_000 * MS);
            let seen = |told: &Told| (told.first_ns, told.answer.unwrap().3, told.deciding_ns);
            let mut ours: Vec<_> = run.told().iter().map(seen).collect();
            let mut expected: Vec<_> = windows
                .values()
                .map(|packets| {
                    let seen = packets.len().min(usize::from(most));
                    (packets[0].ts_ns, seen as u16, packets[seen - 1].ts_ns)
                })
                .collect();
            ours.sort_unstable();
            expected.sort_unstable();
            assert_eq!(ours, expected, "seed {seed}, {most} packets");
            let last = run.accounts.flows.verdicts[Reason::Final as usize];
            assert_eq!(last, run.accounts.flows.seen, "a window's end is what was waited for");
            let kept: u64 = expected.iter().map(|window| u64::from(window.1)).sum();
            assert_eq!(run.accounts.packets.recorded, kept);
        }
    }
}

#[test]
fn a_quiet_window_is_judged_when_it_ends_without_a_packet_to_say_so() {
    let cascade = cascade(&[window(64, 1.0)]);
    let mut frames = datagrams(1);
    frames.truncate(1);
    let told = run(&cascade, endless(1_000 * MS), 1, &frames, End::Silence).told();
    assert_eq!((told.len(), told[0].collection_ns), (1, 1_000 * MS));
    assert_eq!(told[0].reason, Reason::Final);
}
