//! Laws of the selection: flows are kept or left out as a whole, and those that are kept lose
//! nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::Told;
use common::frames::{Frame, Rng};
use common::models::{cascade, inline_lanes, stage};
use common::traffic::{MS, Shape, traffic};
use serveflow_core::counters::Counters;
use serveflow_core::driver::Driver;
use serveflow_core::engine::{End, Engine, EngineConfig};
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::select::{Lists, Selection, SelectionSpec};
use serveflow_core::shard::Sharder;
use std::net::IpAddr;
use std::sync::Arc;

/// Final verdicts, sorted, and accounts, whose sums are held after each batch.
fn served(
    frames: &[Frame],
    selection: Option<&Arc<Selection>>,
    batch: usize,
) -> (Vec<Told>, Counters) {
    let cascade = cascade(&[stage(1, 50 * MS, 0.3), stage(4, 300 * MS, 1.0)]);
    let mut engine =
        Engine::new(cascade.clone(), EngineConfig::default()).selecting(selection.cloned());
    let mut lanes = inline_lanes(&cascade);
    for (number, some) in frames.chunks(batch).enumerate() {
        if number % 2 == 0 {
            engine.push_all(some.iter().map(Frame::packet));
        } else {
            some.iter().for_each(|frame| engine.push(&frame.packet()));
        }
        engine.advance();
        Driver::new(&mut engine, &mut lanes).pump();
        assert!(engine.accounts().balance(), "{:?}", engine.accounts());
    }
    Driver::new(&mut engine, &mut lanes).finish(End::Silence);
    let mut told: Vec<Told> = engine.verdicts().iter().map(Told::of).collect();
    told.sort();
    (told, *engine.accounts())
}

/// A random selection, out of what the traffic has.
fn spec(rng: &mut Rng) -> SelectionSpec {
    let mut lists = || {
        let prefixes = ["10.0.0.0/27", "10.0.0.8/29", "9.9.9.9", "fd00::/16", "fd00::20/123"];
        let ports = [443..=443, 20_000..=20_030, 20_010..=20_011, 1..=65_535];
        let mut lists = Lists::default();
        match rng.below(8) {
            0 => lists.prefixes.push(rng.pick(&prefixes).parse().unwrap()),
            1 => lists.ports.push(ports[rng.below(4) as usize].clone()),
            2 => lists.protocols.push(rng.pick(&[6, 17, 1])),
            3 => {
                lists.prefixes = prefixes.map(|text| text.parse().unwrap()).to_vec();
                lists.protocols = vec![6];
            }
            _ => {}
        }
        lists
    };
    let (only, drop) = (lists(), lists());
    let share = rng.pick(&[1.0, 1.0, 0.5, 0.1]);
    SelectionSpec { share, share_seed: rng.next(), only, drop }
}

#[test]
fn a_flow_is_kept_whole_with_its_verdict_or_left_out_whole() {
    let (mut kept, mut left_out) = (0, 0);
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let frames = traffic(&Shape::new(seed, 60, &[1_000 * MS]));
        let selection = Selection::new(&spec(&mut rng)).map(Arc::new);
        let all = served(&frames, None, 40);
        let some = served(&frames, selection.as_ref(), 1 + rng.below(60) as usize);
        let keeps = |told: &&Told| {
            selection.as_ref().is_none_or(|selection| selection.keeps(&told.flow.key().0))
        };
        let expected: Vec<Told> = all.0.iter().filter(keeps).cloned().collect();
        assert_eq!(some.0, expected, "seed {seed}");
        kept += expected.len();
        left_out += all.0.len() - expected.len();
        // Every packet is counted once: what was left out is what is missing elsewhere.
        let (all, some) = (all.1.packets, some.1.packets);
        assert_eq!((some.seen, some.rejected), (all.seen, all.rejected));
        let placed = some.recorded + some.ignored + some.after_close + some.filtered;
        assert_eq!((placed, all.filtered), (all.recorded + all.ignored + all.after_close, 0));
    }
    assert!(kept > 2_000 && left_out > 2_000, "{kept} {left_out}");
}

#[test]
fn both_directions_meet_one_fate() {
    for seed in 0..100 {
        let mut rng = Rng(1_000 + seed);
        let Some(selection) = Selection::new(&spec(&mut rng)) else { continue };
        for frame in traffic(&Shape::new(seed, 40, &[MS])) {
            let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) else { continue };
            let there = parsed.key.five_tuple(true);
            let mut back = there;
            (back.src, back.dst) = (there.dst, there.src);
            (back.src_port, back.dst_port) = (there.dst_port, there.src_port);
            assert_eq!(selection.keeps(&there.key().0), selection.keeps(&back.key().0));
        }
    }
}

/// The same lists, looked through one by one.
#[test]
fn lists_are_what_they_say_one_by_one() {
    let on = |lists: &Lists, ends: [(IpAddr, u16); 2], proto| {
        let within = |addr: IpAddr| {
            // Each prefix alone is a selection of its own.
            lists.prefixes.iter().any(|&prefix| {
                let only = Lists { prefixes: vec![prefix], ..Lists::default() };
                let spec = SelectionSpec { only, ..SelectionSpec::default() };
                let other = if addr.is_ipv4() { "255.1.1.1" } else { "ffff::1" }.parse().unwrap();
                let tuple = serveflow_core::verdict::FiveTuple {
                    src: addr,
                    dst: other,
                    src_port: 0,
                    dst_port: 0,
                    proto: 6,
                    vlan: None,
                };
                Selection::new(&spec).unwrap().keeps(&tuple.key().0)
            })
        };
        let given = |is_empty: bool, on: bool| (!is_empty).then_some(on);
        [
            given(lists.prefixes.is_empty(), ends.iter().any(|end| within(end.0))),
            given(
                lists.ports.is_empty(),
                ends.iter().any(|end| lists.ports.iter().any(|range| range.contains(&end.1))),
            ),
            given(lists.protocols.is_empty(), lists.protocols.contains(&proto)),
        ]
    };
    for seed in 0..60 {
        let spec = SelectionSpec { share: 1.0, ..spec(&mut Rng(2_000 + seed)) };
        let selection = Selection::new(&spec);
        for frame in traffic(&Shape::new(seed, 30, &[MS])) {
            let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) else { continue };
            let flow = parsed.key.five_tuple(true);
            let ends = [(flow.src, flow.src_port), (flow.dst, flow.dst_port)];
            let only = on(&spec.only, ends, flow.proto).iter().all(|on| *on != Some(false));
            let dropped = on(&spec.drop, ends, flow.proto).contains(&Some(true));
            let keeps = selection.as_ref().is_none_or(|selection| selection.keeps(&parsed.key));
            assert_eq!(keeps, only && !dropped, "{flow:?} {spec:?}");
        }
    }
}

/// A worker that has a share of a share still has as many flows as the others.
#[test]
fn workers_have_their_parts_of_what_is_kept() {
    let spec = SelectionSpec { share: 0.5, share_seed: 3, ..SelectionSpec::default() };
    let selection = Selection::new(&spec).unwrap();
    // The seeds are the same on purpose.
    let sharder = Sharder::new(4, KeyRules::default(), 3);
    let mut parts = [0_u32; 4];
    for number in 0..4_000_u32 {
        let packet = common::frames::ipv4(number, 9, 17, &common::frames::udp(4_000, 53, &[]));
        let frame = Frame::new(0, serveflow_core::packet::LinkType::RawIp, packet);
        let key = parse(&frame.packet(), KeyRules::default()).unwrap().key;
        if selection.keeps(&key) {
            parts[sharder.shard(&frame.packet()).unwrap()] += 1;
        }
    }
    assert!(parts.iter().all(|part| (400..=600).contains(part)), "{parts:?}");
}
