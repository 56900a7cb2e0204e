//! No allocation per packet: once warm, traffic is made in the memory that there is. A bench would
//! otherwise measure the allocator.
#![allow(clippy::unwrap_used)]

mod bench {
    #![allow(dead_code, reason = "each test file uses its own part")]
    pub(crate) mod kit;
}

use bench::kit::recipe;
use serveflow_io::{Batch, Source};
use serveflow_train::traffic::generator::{Arrivals, Generator, Recipe};
use serveflow_train::traffic::synthetic::{SyntheticSpec, synthetic};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_warm_generator_allocates_nothing() {
    let templates = synthetic(&SyntheticSpec {
        flows: 200,
        packets_per_flow: 7.7,
        payload_bytes: 400.0,
        gap_ms: 20.0,
        ipv6_share: 0.1,
        tcp_share: 0.4,
        snap_bytes: 256,
        seed: 1,
    });
    let steady = Recipe { arrivals: Arrivals::Constant, ..recipe(2000.0, u64::MAX, 1) };
    let mut generator = Generator::new(templates, steady);
    let mut batch = Batch::with_capacity(256, 256 * 256);
    // The longest flow lasts some 10 s: until then, more and more flows are open.
    while generator.flows_made() < 40_000 {
        generator.fill(&mut batch, 256).unwrap();
    }
    let region = Region::new(ALLOCATOR);
    while generator.flows_made() < 80_000 {
        assert_eq!(generator.fill(&mut batch, 256).unwrap(), 256);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}
