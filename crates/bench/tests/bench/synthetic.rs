//! Flows made up from a seed.

use super::kit::{all, parsed, recipe, right_checksums};
use serveflow_bench::figures::PacketsPerFlow;
use serveflow_io::OwnedFrame;
use serveflow_train::traffic::generator::{Arrivals, Recipe};
use serveflow_train::traffic::synthetic::{SyntheticSpec, synthetic};

fn spec() -> SyntheticSpec {
    SyntheticSpec {
        flows: 2000,
        packets_per_flow: 7.7,
        payload_bytes: 400.0,
        gap_ms: 20.0,
        ipv6_share: 0.1,
        tcp_share: 0.4,
        snap_bytes: 0,
        seed: 1,
    }
}

#[test]
fn one_seed_is_one_traffic_and_another_seed_another() {
    let frames = |seed: u64| {
        let set = synthetic(&SyntheticSpec { flows: 300, seed, ..spec() });
        all(&set, recipe(1000.0, 400, seed))
    };
    let (one, same, other) = (frames(1), frames(1), frames(2));
    assert_eq!(one, same);
    assert_ne!(one, other);
    let times = |frames: &[OwnedFrame]| frames.iter().map(|f| f.ts_ns).collect::<Vec<_>>();
    assert_ne!(times(&one), times(&other));
}

#[test]
fn packets_come_in_the_order_of_their_times() {
    let frames = all(&synthetic(&spec()), recipe(20_000.0, 5000, 3));
    assert!(frames.is_sorted_by_key(|frame| frame.ts_ns));
}

#[test]
fn packets_per_flow_have_the_mean_that_was_asked_for_and_a_heavy_tail() {
    for mean in [1.0, 2.5, 7.7, 40.0] {
        let set = synthetic(&SyntheticSpec { packets_per_flow: mean, ..spec() });
        let found = PacketsPerFlow::of(&set);
        assert!((found.mean / mean - 1.0).abs() < 0.02, "{mean}: {found:?}");
    }
    let found = PacketsPerFlow::of(&synthetic(&spec()));
    assert_eq!((found.p50, found.p90), (3, 12));
    assert!((50..100).contains(&found.p99), "{found:?}");
}

#[test]
fn protocols_sizes_and_gaps_have_the_shares_that_were_asked_for() {
    let set = synthetic(&spec());
    let v6 = set.flows().iter().filter(|flow| flow.v6).count();
    assert_eq!(v6, 200);
    let frames = all(&set, recipe(1000.0, 2000, 1));
    let first_of = |proto: u8| {
        let mut keys: Vec<_> = frames.iter().map(|frame| parsed(frame).key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.iter().filter(|key| key.proto() == proto).count()
    };
    assert_eq!((first_of(6), first_of(17)), (800, 1200));
    let payloads: Vec<f64> =
        frames.iter().map(|f| f64::from(parsed(f).payload)).filter(|&bytes| bytes > 0.0).collect();
    let mean = payloads.iter().sum::<f64>() / payloads.len() as f64;
    // The largest are cut to what a frame holds, which takes some 3 % of the mean.
    assert!((mean / 400.0 - 1.0).abs() < 0.06, "{mean}");
    let longest = SyntheticSpec { flows: 200, packets_per_flow: 100.0, ..spec() };
    let set = synthetic(&longest);
    let gaps = set.packets() - set.flows().len();
    let starts = all(&set, Recipe { arrivals: Arrivals::Constant, ..recipe(1e-3, 200, 1) });
    // A flow every 1000 s: what lies within a flow is far shorter.
    let within = starts.windows(2).map(|pair| pair[1].ts_ns - pair[0].ts_ns);
    let within: Vec<u64> = within.filter(|&gap_ns| gap_ns < 100_000_000_000).collect();
    assert_eq!(within.len(), gaps);
    let mean_ms = within.iter().sum::<u64>() as f64 / within.len() as f64 / 1e6;
    assert!((mean_ms / 20.0 - 1.0).abs() < 0.05, "{mean_ms}");
}

#[test]
fn flows_begin_at_the_rate_that_was_asked_for() {
    let set = synthetic(&SyntheticSpec { packets_per_flow: 1.0, ..spec() });
    let gaps = |arrivals| {
        let frames = all(&set, Recipe { arrivals, ..recipe(5000.0, 20_000, 1) });
        frames.windows(2).map(|pair| (pair[1].ts_ns - pair[0].ts_ns) as f64).collect::<Vec<f64>>()
    };
    assert!(gaps(Arrivals::Constant).iter().all(|&gap_ns| gap_ns == 200_000.0));
    let poisson = gaps(Arrivals::Poisson);
    let mean = poisson.iter().sum::<f64>() / poisson.len() as f64;
    assert!((mean / 200_000.0 - 1.0).abs() < 0.03, "{mean}");
    // Exponential gaps: e^-1 of them are longer than their mean.
    let long = poisson.iter().filter(|&&gap_ns| gap_ns > mean).count() as f64;
    assert!((long / poisson.len() as f64 - 0.368).abs() < 0.02, "{long}");
}

#[test]
fn every_checksum_is_right() {
    let frames = all(&synthetic(&spec()), recipe(1000.0, 2000, 1));
    for frame in &frames {
        let right = right_checksums(frame);
        assert!(!right.is_empty() && right.iter().all(|&right| right), "{frame:?}");
    }
}
