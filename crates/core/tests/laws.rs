//! Laws: what may never change a verdict, and what must hold at every moment.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, EDGES, Run, Told, config};
use common::frames::{Frame, Rng, framed, ip, udp};
use common::models::{StageSpec, cascade, delay_lanes, inline_lanes, models, stage};
use common::traffic::{MS, START, Shape, traffic};
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig};
use serveflow_core::lane::{InlineLane, Job, Lane};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::verdict::{FiveTuple, Reason, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn specs() -> Vec<StageSpec> {
    let on = |lane, stage| StageSpec { lane, ..stage };
    vec![
        on(0, stage(1, 100 * MS, 0.3)),
        on(1, stage(3, 300 * MS, 0.3)),
        on(1, stage(5, 1_000 * MS, 1.0)),
    ]
}

fn shape(seed: u64) -> Shape {
    Shape { jitter: seed % 3 == 1, strays: seed % 3 == 2, ..Shape::new(seed, 80, &EDGES) }
}

fn inline(
    cascade: &Arc<Cascade>,
    config: EngineConfig,
    batch: u64,
    seed: u64,
    frames: &[Frame],
) -> Run {
    let lanes = inline_lanes(cascade);
    Drive { config, lanes, batch, seed, end: End::Silence }.run(cascade, frames)
}

fn same(a: &[Told], b: &[Told], what: &str) {
    if a != b {
        let missing = a.iter().find(|told| b.binary_search(told).is_err());
        let added = b.iter().find(|told| a.binary_search(told).is_err());
        panic!("{what}: {} against {} verdicts\n{missing:?}\n{added:?}", a.len(), b.len());
    }
}

#[test]
fn batches_never_change_a_verdict() {
    let cascade = cascade(&specs());
    for seed in 0..30 {
        let frames = traffic(&shape(seed));
        for end in [End::Silence, End::Stop] {
            let run = |batch| {
                let (config, lanes) = (config(), inline_lanes(&cascade));
                Drive { config, lanes, batch, seed, end }.run(&cascade, &frames)
            };
            let alone = run(1);
            for batch in [3, 50, 1 << 20] {
                let other = run(batch);
                let what = format!("seed {seed}, {end:?}, {batch}");
                same(&alone.told(), &other.told(), &what);
            }
        }
    }
}

#[test]
fn lanes_never_change_a_verdict() {
    let cascade = cascade(&specs());
    for seed in 0..60 {
        let frames = traffic(&shape(100 + seed));
        let mut config = config();
        config.batch_rows = 1 + (seed % 5) as usize;
        let at_once = inline(&cascade, config, 20, seed, &frames);
        let lanes = delay_lanes(&cascade, seed, usize::MAX, 0);
        let late = Drive { config, lanes, batch: 20, seed, end: End::Silence };
        let late = late.run(&cascade, &frames);
        same(&at_once.told(), &late.told(), &format!("seed {seed}"));
    }
}

/// In a full table a decided flow gives way first, and an undecided one only where no flow is known
/// to be decided.
#[test]
fn no_undecided_flow_gives_way_while_a_decided_one_is_in_the_table() {
    let cascade = cascade(&specs());
    let (mut decided, mut undecided) = (0, 0);
    for seed in 0..60 {
        let mut config = config();
        config.flows.capacity = 2 + (seed % 11) as usize;
        let mut engine = Engine::new(cascade.clone(), config);
        let mut lanes = inline_lanes(&cascade);
        for frame in traffic(&shape(seed)) {
            let before = *engine.accounts();
            // All is answered, so whoever is still open is in the table.
            assert_eq!(before.flows.in_inference, 0);
            let decided_in_table = engine.table_len() as u64 - before.flows.collecting;
            engine.push(&frame.packet());
            let after = *engine.accounts();
            let left = after.evicted_undecided - before.evicted_undecided;
            assert!(left == 0 || decided_in_table == 0, "seed {seed}: {decided_in_table} stay");
            undecided += left;
            decided += after.evicted_decided - before.evicted_decided;
            engine.advance();
            while engine.has_work() {
                engine.submit(&mut lanes);
                engine.collect(&mut lanes);
            }
        }
    }
    assert!(decided > 500 && undecided > 500, "{decided} decided, {undecided} undecided");
}

/// A flow of a single datagram.
fn datagram(number: u32) -> Frame {
    let hosts = [0x0a00_0000 | number, 0x0909_0909].map(|host| IpAddr::V4(Ipv4Addr::from(host)));
    let packet = ip(hosts[0], hosts[1], 17, &udp(20_000, 53, &[9; 20]));
    let ts_ns = START + u64::from(number) * 100_000;
    Frame::new(ts_ns, LinkType::Ethernet, framed(LinkType::Ethernet, &packet))
}

/// A flood of flows that are decided at once does not cost a flow that waits its place, however
/// many come: as long as there is room for those that wait, the others give way to each other.
#[test]
fn a_flood_of_easy_flows_leaves_those_that_wait_alone() {
    let cascade = cascade(&[stage(1, 0, 0.5), stage(5, 60_000 * MS, 1.0)]);
    let frames: Vec<Frame> = (0..6_000).map(datagram).collect();
    let with_room = |capacity| {
        let mut config = config();
        (config.flows.capacity, config.flows.idle_ns) = (capacity, 60_000 * MS);
        inline(&cascade, config, 1, 9, &frames)
    };
    let whole = with_room(1 << 16).told();
    let waiting = whole.iter().filter(|told| told.answer.is_some_and(|answer| answer.2 == 1));
    let waiting = waiting.count();
    assert!((100..5_000).contains(&waiting), "{waiting} of 6,000 flows wait");
    let tight = with_room(waiting + 1);
    same(&whole, &tight.told(), "a flood");
    assert_eq!(tight.accounts.evicted_undecided, 0);
    assert_eq!(tight.accounts.evicted_decided as usize, 6_000 - waiting - 1);
}

/// Which of `n` engines has a flow: a hash that both directions share.
fn shard(frame: &Frame, n: u64) -> u64 {
    let mut hash = 0;
    if let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) {
        let flow = parsed.key.five_tuple(true);
        for byte in format!("{flow:?}").bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Rng(hash).below(n)
}

#[test]
fn shards_never_change_a_verdict() {
    let cascade = cascade(&specs());
    for seed in 0..40 {
        let frames = traffic(&Shape::new(200 + seed, 80, &EDGES));
        let one = inline(&cascade, config(), 16, seed, &frames);
        for n in [2, 5] {
            let mut told = Vec::new();
            for index in 0..n {
                let own = frames.iter().filter(|frame| shard(frame, n) == index).cloned();
                let own: Vec<Frame> = own.collect();
                told.extend(inline(&cascade, config(), 16, seed + index, &own).told());
            }
            told.sort();
            same(&one.told(), &told, &format!("seed {seed}, {n} shards"));
        }
    }
}

/// A flow's first time stamp and five-tuple name it, unless two began in one nanosecond.
fn name(told: &Told) -> (FiveTuple, u64) {
    (told.flow, told.first_ns)
}

#[test]
fn provisional_verdicts_come_before_the_final_one_and_change_none() {
    let cascade = cascade(&specs());
    let mut provisional = 0;
    for seed in 0..30 {
        let frames = traffic(&shape(300 + seed));
        let plain = inline(&cascade, config(), 20, seed, &frames);
        let telling = EngineConfig { provisional: true, ..config() };
        let run = inline(&cascade, telling, 20, seed, &frames);
        same(&plain.told(), &run.told(), &format!("seed {seed}"));
        assert!(plain.verdicts.iter().all(|verdict| verdict.is_final));
        let mut names: BTreeMap<_, u8> = BTreeMap::new();
        for told in run.told() {
            *names.entry(name(&told)).or_default() += 1;
        }
        let mut open: BTreeMap<_, u8> = BTreeMap::new();
        for verdict in run.verdicts.iter().rev() {
            // Backwards: the final one first, then stages that fall.
            let told = Told::of(verdict);
            let stage = told.answer.map_or(u8::MAX, |answer| answer.2);
            if verdict.is_final {
                open.insert(name(&told), stage);
            } else {
                provisional += 1;
                let later = open.insert(name(&told), stage);
                let twice = names[&name(&told)] > 1;
                assert!(twice || later.is_some_and(|later| stage < later), "seed {seed} {told:?}");
            }
        }
    }
    assert!(provisional > 1_000);
}

/// A lane that remembers which rows it scored.
struct Watch {
    lane: InlineLane,
    rows: u64,
    by_stage: Arc<std::sync::Mutex<[u64; 3]>>,
}

impl Lane for Watch {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        self.rows += job.rows.len() as u64;
        self.by_stage.lock().unwrap()[job.stage] += job.rows.len() as u64;
        self.lane.submit(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.lane.poll()
    }
}

#[test]
fn a_flow_asks_each_stage_once_and_none_after_its_verdict() {
    let cascade = cascade(&specs());
    for seed in 0..20 {
        let frames = traffic(&shape(400 + seed));
        let by_stage = Arc::new(std::sync::Mutex::new([0; 3]));
        let lane = |_| {
            let lane = InlineLane::new(models(&cascade, 0));
            Box::new(Watch { lane, rows: 0, by_stage: by_stage.clone() }) as Box<dyn Lane>
        };
        let lanes = (0..2).map(lane).collect();
        let run = Drive { config: config(), lanes, batch: 9, seed, end: End::Silence };
        let run = run.run(&cascade, &frames);
        let answered_by = |stage: u8| {
            let stages = run.verdicts.iter().map(|verdict| verdict.answer.unwrap().stage);
            stages.filter(|&other| other >= stage).count() as u64
        };
        let asked = *by_stage.lock().unwrap();
        assert_eq!(asked, [answered_by(0), answered_by(1), answered_by(2)], "seed {seed}");
    }
}

#[test]
fn a_flow_keeps_no_more_packets_than_its_deepest_stage_wants() {
    let cascade = cascade(&[stage(2, u64::MAX, 0.0), stage(4, u64::MAX, 1.0)]);
    for seed in 0..10 {
        let frames = traffic(&Shape::new(450 + seed, 40, &EDGES));
        let mut engine = Engine::new(cascade.clone(), config());
        // No job is ever submitted: every flow stays undecided.
        frames.iter().for_each(|frame| engine.push(&frame.packet()));
        let accounts = *engine.accounts();
        assert_eq!(accounts.packets.recorded, engine.recorded_packets() as u64);
        assert!(accounts.packets.recorded <= 4 * accounts.flows.seen);
        assert!(accounts.packets.ignored > 0);
        let lanes = &mut inline_lanes(&cascade);
        engine.finish(End::Stop);
        while engine.has_work() {
            engine.submit(lanes);
            engine.collect(lanes);
        }
        let used = |verdict: &Verdict| u64::from(verdict.answer.unwrap().packets);
        let used: u64 = engine.verdicts().iter().map(used).sum();
        assert_eq!(used, accounts.packets.recorded, "what is kept is what the last stage sees");
    }
}

#[test]
fn a_full_record_pool_sheds_and_keeps_the_accounts() {
    let cascade = cascade(&specs());
    let mut shed = 0;
    for seed in 0..30 {
        let frames = traffic(&shape(500 + seed));
        for limit in [0, 1, 4, 30] {
            let config = EngineConfig { record_packets: limit, ..config() };
            let lanes = delay_lanes(&cascade, seed, usize::MAX, 0);
            let run = Drive { config, lanes, batch: 30, seed, end: End::Stop };
            let run = run.run(&cascade, &frames);
            let count = run.accounts.flows.verdicts[Reason::Shed as usize];
            shed += count;
            if limit == 0 {
                assert_eq!(count, run.accounts.flows.seen);
                assert!(run.verdicts.iter().all(|verdict| verdict.answer.is_none()));
            }
        }
    }
    assert!(shed > 2_000);
}

#[test]
fn a_full_lane_sheds_and_the_best_answer_so_far_stands() {
    let cascade = cascade(&specs());
    let (mut jobs, mut with_answer) = (0, 0);
    for seed in 0..40 {
        let frames = traffic(&shape(600 + seed));
        let lanes = delay_lanes(&cascade, seed, 1, 0);
        let run = Drive { config: config(), lanes, batch: 10, seed, end: End::Silence };
        let run = run.run(&cascade, &frames);
        jobs += run.accounts.inference_shed;
        let free: BTreeSet<_> =
            inline(&cascade, config(), 10, seed, &frames).told().iter().map(name).collect();
        for verdict in &run.verdicts {
            assert!(free.contains(&name(&Told::of(verdict))), "the flows are the same");
            let is_shed = verdict.reason == Reason::Shed;
            with_answer += u32::from(is_shed && verdict.answer.is_some());
            assert!(is_shed || verdict.answer.is_some());
        }
    }
    assert!(jobs > 100 && with_answer > 50, "{jobs} {with_answer}");
}

#[test]
fn a_model_that_fails_is_told_apart_from_a_full_lane_and_counted() {
    let cascade = cascade(&specs());
    let (mut jobs, mut failed, mut without_answer) = (0, 0, 0);
    for seed in 0..30 {
        let frames = traffic(&shape(700 + seed));
        let lanes = delay_lanes(&cascade, seed, usize::MAX, 3);
        let run = Drive { config: config(), lanes, batch: 10, seed, end: End::Silence };
        let run = run.run(&cascade, &frames);
        jobs += run.accounts.inference_failures;
        failed += run.accounts.flows.verdicts[Reason::Failed as usize];
        assert_eq!(run.accounts.inference_shed, 0);
        assert_eq!(run.accounts.flows.verdicts[Reason::Shed as usize], 0);
        assert!(run.accounts.balance());
        // A first stage that fails leaves its flows without an answer, and no other flow is.
        let without = run.verdicts.iter().filter(|verdict| verdict.answer.is_none());
        without_answer += without.clone().count();
        assert!(without.clone().all(|verdict| verdict.reason == Reason::Failed));
    }
    assert!(jobs > 300 && failed >= jobs, "{jobs} {failed}");
    assert!(without_answer > 50 && without_answer < failed as usize, "{without_answer} {failed}");
}

/// Two captures in the wrong order: both have the flows that they have alone, but for the one
/// that the first packet of the second begins before the clock has understood.
#[test]
fn a_clock_that_starts_over_loses_no_flow() {
    let cascade = cascade(&specs());
    for seed in 0..30 {
        let later = traffic(&Shape::new(800 + seed, 40, &EDGES));
        let mut earlier = traffic(&Shape::new(900 + seed, 40, &EDGES));
        earlier.iter_mut().for_each(|frame| frame.ts_ns -= 10_000_000 * MS);
        let count = |frames: &[Frame], batch| inline(&cascade, config(), batch, seed, frames);
        let apart = count(&later, 10).accounts.flows.seen + count(&earlier, 10).accounts.flows.seen;
        let joined = [later, earlier].concat();
        let run = count(&joined, 10);
        assert_eq!(run.accounts.clock_restarts, 1, "seed {seed}");
        let extra = run.accounts.flows.seen - apart;
        assert!(extra <= 1, "seed {seed}: {extra} flows more than apart");
        same(&run.told(), &count(&joined, 10_000).told(), &format!("seed {seed}"));
    }
}

/// Time that leaps about: no order of calls and no time stamp makes it panic or lose count.
#[test]
fn absurd_times_and_calls_in_any_order_keep_the_accounts() {
    let cascade = cascade(&specs());
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let mut frames = traffic(&Shape::new(seed, 30, &EDGES));
        for frame in &mut frames {
            if rng.one_in(5) {
                frame.ts_ns = rng.pick(&[0, 1, u64::MAX, u64::MAX - 1, 1 << 63, rng.0]);
            }
        }
        let mut config = config();
        config.flows.capacity = 1 + rng.below(20) as usize;
        let edge = rng.pick(&[0, 1, MS, u64::MAX]);
        config.flows.idle_ns = rng.pick(&[0, 1, 1_000 * MS, u64::MAX]);
        (config.flows.active_ns, config.flows.linger_ns) = (edge.max(1), edge);
        config.record_packets = rng.below(100) as usize;
        let mut engine = Engine::new(cascade.clone(), config);
        let mut lanes = delay_lanes(&cascade, seed, 3, 7);
        for frame in &frames {
            engine.push(&frame.packet());
            match rng.below(6) {
                0 => engine.advance(),
                1 => engine.submit(&mut lanes),
                2 => engine.collect(&mut lanes),
                3 if rng.one_in(40) => engine.finish(End::Silence),
                3 if rng.one_in(40) => engine.finish(End::Stop),
                _ => engine.set_wall(rng.next()),
            }
            assert!(engine.accounts().balance());
            assert!(engine.table_len() <= config.flows.capacity);
        }
        engine.finish(End::Silence);
        while engine.has_work() || engine.is_asking() {
            engine.submit(&mut lanes);
            engine.collect(&mut lanes);
        }
        let accounts = engine.accounts();
        assert_eq!(accounts.verdicts(), accounts.flows.seen);
        assert!(accounts.balance());
        assert_eq!((engine.table_len(), engine.recorded_packets()), (0, 0));
    }
}
