//! An engine whose memory ends: it serves on with what it has, and counts what it could not keep.
#![allow(unsafe_code, reason = "an allocator that refuses is one")]

use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{Constant, InlineLane, Lane};
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::Reject;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's, but for pieces larger than a limit, which it refuses.
struct Refusing;

static LARGEST: AtomicUsize = AtomicUsize::new(usize::MAX);

fn is_refused(bytes: usize) -> bool {
    bytes > LARGEST.load(Ordering::Relaxed)
}

// SAFETY: every piece is the system's; null, which says that there is none, is allowed at any time.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as whoever called guaranteed.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.dealloc(piece, layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if is_refused(bytes) {
            return std::ptr::null_mut();
        }
        // SAFETY: it came from there, and the rest is as whoever called guaranteed.
        unsafe { System.realloc(piece, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// A stage of so many packets on headers, which `accepts` its own answers or not.
fn stage(packets: u16, accepts: bool) -> Stage {
    let encoders = vec!["header_bits".to_owned()];
    let (layout, masks) = (HeaderLayout::default(), MaskSet::default());
    let spec = FeatureSpec { encoders, packets, layout, masks };
    let threshold = Threshold::Universal(if accepts { 1.0 } else { -1.0 });
    let gate = Gate::Uncertainty { measure: Uncertainty::LeastConfidence, threshold };
    let features = Features::new(&spec).expect("a stage of header bits");
    Stage::new(&packets.to_string(), features, gate, 60_000_000_000)
}

/// The only packet of a UDP flow, from a host of its own.
fn datagram(host: u32) -> Vec<u8> {
    let mut data = vec![0; 42];
    data[12..15].copy_from_slice(&[8, 0, 0x45]);
    data[16..18].copy_from_slice(&28_u16.to_be_bytes());
    data[23] = 17;
    data[26..30].copy_from_slice(&host.to_be_bytes());
    data[30..34].copy_from_slice(&[192, 0, 2, 1]);
    data[38..40].copy_from_slice(&8_u16.to_be_bytes());
    data
}

#[test]
fn memory_that_ends_is_counted_and_memory_that_is_not_there_is_refused() {
    // One after the other: they share the allocator.
    an_engine_without_memory_serves_on_and_counts_what_it_cannot_keep();
    limits_that_the_memory_cannot_hold_are_refused_with_a_sentence();
}

/// However little memory there is, and whether flows are decided at once or wait: nothing panics or
/// aborts, the accounts balance at every moment, and what found no memory is counted.
fn an_engine_without_memory_serves_on_and_counts_what_it_cannot_keep() {
    for (accepts, kib) in
        [(true, 32), (true, 64), (true, 256), (false, 32), (false, 64), (false, 256)]
    {
        let stages = vec![stage(1, accepts), stage(3, true)];
        let shapes: Vec<_> = stages.iter().map(|stage| stage.features.shape()).collect();
        let labels = ["a", "b"].map(str::to_owned).to_vec();
        let cascade = Arc::new(Cascade::new(stages, labels).expect("two stages"));
        let model = |shape| Arc::new(Constant::first(shape, 2, 0.9)) as _;
        let lane = InlineLane::new(shapes.into_iter().map(model).collect());
        let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(lane)];
        let flows = FlowConfig { capacity: 1 << 20, ..FlowConfig::default() };
        let config = EngineConfig { flows, batch_rows: 4, ..EngineConfig::default() };
        LARGEST.store(kib << 10, Ordering::Relaxed);
        let mut engine = Engine::new(cascade, config);
        let mut verdicts = 0;
        for batch in 0..1_500_u32 {
            for host in 0..8 {
                let data = datagram(batch * 8 + host);
                let (ts_ns, orig_len) = (u64::from(batch) * 1_000, data.len() as u32);
                engine.push(&Packet { ts_ns, orig_len, link: LinkType::Ethernet, data: &data });
            }
            engine.advance();
            while engine.has_work() {
                engine.submit(&mut lanes);
                engine.collect(&mut lanes);
            }
            verdicts += engine.verdicts().len() as u64;
            engine.clear_verdicts();
            assert!(engine.accounts().balance(), "{:?}", engine.accounts());
        }
        let accounts = *engine.accounts();
        let refused = accounts.packets.rejected[Reject::NoMemory as usize];
        let what = format!("accepts {accepts}, {kib} KiB: {accounts:?}");
        if accepts {
            // Decided flows give way to each other.
            assert!(accounts.evicted_decided > 0 && refused == 0, "{what}");
            assert_eq!(accounts.flows.seen, 12_000, "{what}");
        } else {
            // Flows that wait keep their places, and those that come later are told of.
            assert!(refused > 0 && accounts.evictions() == 0, "{what}");
            assert_eq!(accounts.flows.seen + refused, 12_000, "{what}");
        }
        LARGEST.store(usize::MAX, Ordering::Relaxed);
        engine.finish(End::Stop);
        while engine.has_work() {
            engine.submit(&mut lanes);
            engine.collect(&mut lanes);
        }
        verdicts += engine.verdicts().len() as u64;
        assert_eq!(verdicts, accounts.flows.seen, "each flow has its verdict");
    }
}

/// What is set aside at the start is never asked for again, and where it is not to be had that is
/// said.
fn limits_that_the_memory_cannot_hold_are_refused_with_a_sentence() {
    let cascade = Arc::new(Cascade::new(vec![stage(1, true)], vec!["a".to_owned()]).expect("one"));
    let flows = FlowConfig { capacity: 1 << 46, ..FlowConfig::default() };
    let mut engine = Engine::new(cascade, EngineConfig { flows, ..EngineConfig::default() });
    let error = engine.reserve().expect_err("no machine has so much").to_string();
    assert_eq!(error, "expected 4294967296 MiB of address space for the flow table, found less");
}
