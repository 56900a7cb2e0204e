//! Packets that come when they are due.

use super::kit::{all, recipe};
use serveflow_bench::paced::{Pace, PacedSource};
use serveflow_io::{Batch, Source};
use serveflow_train::traffic::generator::{Arrivals, Generator, Recipe, START_NS};
use serveflow_train::traffic::synthetic::{SyntheticSpec, synthetic};
use serveflow_train::traffic::template::TemplateSet;
use std::cell::Cell;

const MILLISECOND: u64 = 1_000_000;

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

/// A clock that goes on by 1 us whenever it is looked at, and further when it is told to.
fn clock() -> u64 {
    NOW_NS.set(NOW_NS.get() + 1000);
    NOW_NS.get()
}

fn flows() -> TemplateSet {
    synthetic(&SyntheticSpec {
        flows: 500,
        packets_per_flow: 5.0,
        payload_bytes: 100.0,
        gap_ms: 0.05,
        ipv6_share: 0.1,
        tcp_share: 0.4,
        snap_bytes: 128,
        seed: 1,
    })
}

fn pace(load_ns: u64) -> Pace {
    Pace { wall_start_ns: NOW_NS.get(), start_ns: START_NS, load_ns }
}

fn steady(flows: u64) -> Recipe {
    Recipe { arrivals: Arrivals::Constant, ..recipe(20_000.0, flows, 1) }
}

#[test]
fn no_packet_comes_before_it_is_due_and_none_is_lost_in_time() {
    let pace = pace(20 * MILLISECOND);
    let generator = Generator::new(flows(), steady(u64::MAX));
    let mut source = PacedSource::new(generator, clock, pace, 1 << 20);
    let (mut batch, mut times) = (Batch::new(), Vec::new());
    while source.fill(&mut batch, 7).unwrap() > 0 {
        assert!(batch.len() <= 7);
        let now = NOW_NS.get();
        for packet in batch.iter().filter(|packet| pace.is_loaded(packet.ts_ns)) {
            assert!(pace.due_ns(packet.ts_ns) <= now, "never early");
        }
        times.extend(batch.iter().map(|packet| packet.ts_ns));
        NOW_NS.set(now + 40_000);
    }
    assert!(times.is_sorted());
    assert_eq!((source.dropped(), times.len() as u64), (0, source.generator().packets_made()));
    let flows = source.generator().flows_made();
    assert_eq!(flows, 400, "20 ms at 20,000 flows/s, and those go on to their end");
    let whole = all(&self::flows(), steady(flows));
    assert_eq!(times, whole.iter().map(|frame| frame.ts_ns).collect::<Vec<_>>());
}

#[test]
fn what_finds_the_ring_full_is_dropped_to_the_packet() {
    for ring in [1, 10, 100] {
        let pace = pace(20 * MILLISECOND);
        let generator = Generator::new(flows(), steady(400));
        let mut source = PacedSource::new(generator, clock, pace, ring);
        let whole = all(&flows(), steady(400));
        let mut batch = Batch::new();
        // Nobody is there for 15 ms.
        NOW_NS.set(pace.wall_start_ns + 15 * MILLISECOND);
        let mut seen: Vec<u64> = Vec::new();
        source.fill(&mut batch, 6).unwrap();
        let now = NOW_NS.get();
        let came = whole.iter().filter(|frame| pace.due_ns(frame.ts_ns) <= now).count();
        assert_eq!(source.dropped(), (came - ring) as u64, "a ring of {ring} holds {ring}");
        loop {
            seen.extend(batch.iter().map(|packet| packet.ts_ns));
            if source.fill(&mut batch, 6).unwrap() == 0 {
                break;
            }
        }
        let first: Vec<u64> = whole[..ring].iter().map(|frame| frame.ts_ns).collect();
        assert_eq!(seen[..ring], first, "what came first was kept");
        let made = source.generator().packets_made();
        assert_eq!((seen.len() as u64 + source.dropped(), made), (made, whole.len() as u64));
        assert!(seen.is_sorted());
    }
}

#[test]
fn a_ring_drops_what_a_naive_one_drops() {
    let pace = pace(30 * MILLISECOND);
    let generator = Generator::new(flows(), steady(u64::MAX));
    let mut source = PacedSource::new(generator, clock, pace, 40);
    let due: Vec<u64> = all(&flows(), steady(600))
        .iter()
        .filter(|frame| pace.is_loaded(frame.ts_ns))
        .map(|frame| pace.due_ns(frame.ts_ns))
        .collect();
    let (mut next, mut ring, mut dropped) = (0, 0u64, 0u64);
    let mut batch = Batch::new();
    for turn in 0.. {
        let taken = source.fill(&mut batch, 16).unwrap();
        let now = NOW_NS.get();
        if now >= pace.wall_start_ns + pace.load_ns {
            break;
        }
        while next < due.len() && due[next] <= now {
            *(if ring < 40 { &mut ring } else { &mut dropped }) += 1;
            next += 1;
        }
        assert_eq!(source.dropped(), dropped);
        assert_eq!(taken as u64, ring.min(16));
        ring -= taken as u64;
        // Now and then the worker is far too slow.
        NOW_NS.set(now + [20_000, 900_000, 100_000][turn % 3]);
    }
    assert!(dropped > 50, "the ring was too small: {dropped}");
}
