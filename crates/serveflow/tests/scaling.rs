//! Laws of the simulation behind `serveflow bench scale`, and its command once.
#![allow(clippy::unwrap_used)]

use serveflow_bench::scaling::curve::{Binds, Inputs, MemoryBandwidth, bend, curve};
use serveflow_bench::scaling::shards::Shards;
use serveflow_bench::scaling::sim::{Costs, Setup, StageCost, play};
use std::process::Command;

fn costs() -> Costs {
    let stage = |name: &str, share, job_ns| StageCost {
        name: name.to_owned(),
        share,
        ask_ns: 256.0,
        row_ns: 256.0,
        job_ns,
    };
    Costs {
        read_ns: 8.0,
        part_ns: 16.0,
        hand_ns: 100.0,
        wake_ns: 4_000.0,
        packet_ns: 96.0,
        batch_ns: 64.0,
        stages: vec![stage("fast", 1.0, 0.0), stage("slow", 1.0, 16.0)],
    }
}

const SETUP: Setup =
    Setup { blocks: 400, block_packets: 512, alone_packets: 256, blocks_ahead: 4, seed: 9 };

/// Workers with a fair share each.
fn even(workers: usize) -> Shards {
    Shards::counted(&vec![(1_000, 125); workers])
}

fn inputs(costs: Costs) -> Inputs {
    Inputs {
        costs,
        memory: MemoryBandwidth {
            bytes_per_packet: 1.0,
            one_core: 1e12,
            all_cores: 2e12,
            cores: 2,
        },
        flow_sizes: vec![8],
        flows: 100_000,
        flows_per_packet: 0.125,
        block_packets: 4_096,
        alone_packets: 256,
        blocks_ahead: 4,
        seed: 5,
    }
}

fn rates(inputs: &Inputs, cores: &[usize]) -> Vec<f64> {
    curve(inputs, cores).iter().map(|point| point.packets_per_s).collect()
}

#[test]
fn one_core_takes_the_sum_of_the_costs() {
    let played = play(&costs(), &even(1), &SETUP);
    // Of a batch of 256 packets, 32 begin a flow, and both stages are as good as sure to be asked.
    let packet_ns = 8.0 + 96.0 + (64.0 + 32.0 * 1_024.0 + 16.0) / 256.0;
    assert!((played.packets_per_s * packet_ns / 1e9 - 1.0).abs() < 1e-9);
    assert!((played.took_ns / (packet_ns * 400.0 * 512.0) - 1.0).abs() < 1e-9);
}

#[test]
fn a_seed_decides_the_run() {
    let shards = Shards::hashed(&[1, 9, 400], 2_000, 6, 3);
    assert_eq!(play(&costs(), &shards, &SETUP), play(&costs(), &shards, &SETUP));
    let other = Setup { seed: 10, ..SETUP };
    assert_ne!(play(&costs(), &shards, &SETUP), play(&costs(), &shards, &other));
    let inputs = inputs(costs());
    assert_eq!(rates(&inputs, &[1, 3, 9]), rates(&inputs, &[1, 3, 9]));
}

#[test]
fn twice_the_costs_give_half_the_rate() {
    let mut twice = costs();
    for ns in [
        &mut twice.read_ns,
        &mut twice.part_ns,
        &mut twice.hand_ns,
        &mut twice.wake_ns,
        &mut twice.packet_ns,
        &mut twice.batch_ns,
    ] {
        *ns *= 2.0;
    }
    for stage in &mut twice.stages {
        for ns in [&mut stage.ask_ns, &mut stage.row_ns, &mut stage.job_ns] {
            *ns *= 2.0;
        }
    }
    for workers in [1, 2, 5, 32] {
        let played = |costs: &Costs| play(costs, &even(workers), &SETUP);
        let (once, twice) = (played(&costs()), played(&twice));
        assert_eq!(twice.took_ns, 2.0 * once.took_ns, "{workers}");
        assert_eq!(twice.packets_per_s, once.packets_per_s / 2.0, "{workers}");
    }
}

#[test]
fn more_cores_are_never_slower_until_something_serial_binds() {
    let inputs = inputs(costs());
    let cores = [1, 2, 4, 8, 16, 24, 32, 64];
    let points = curve(&inputs, &cores);
    for pair in points.windows(2) {
        let is_serial = matches!(pair[1].binds, Binds::Reader | Binds::Board | Binds::Waiting);
        assert!(
            is_serial || pair[1].packets_per_s > pair[0].packets_per_s,
            "{} to {} cores: {:?}",
            pair[0].cores,
            pair[1].cores,
            pair[1].binds
        );
    }
    assert!(points[..4].iter().all(|point| point.binds == Binds::Workers || point.skew > 1.01));
    // 232 ns of work over 8 ns of reading: with 64 cores the reader binds, and no curve is above
    // it.
    let last = points.last().unwrap();
    assert_eq!(last.binds, Binds::Reader);
    assert!(points.iter().all(|point| point.packets_per_s <= 1.001e9 / 8.0));
    let sentence = bend(&inputs, &points);
    assert!(sentence.contains("reading is one at a time"), "{sentence}");
}

#[test]
fn no_run_is_faster_than_any_of_its_bounds() {
    for (workers, costs) in [
        (2, costs()),
        (16, costs()),
        (16, Costs { read_ns: 100.0, ..costs() }),
        (64, Costs { hand_ns: 2_000.0, ..costs() }),
        (8, Costs { part_ns: 500.0, ..costs() }),
    ] {
        let played = play(&costs, &even(workers), &SETUP);
        let part = SETUP.block_packets as f64 / workers as f64;
        let parts_ns = costs.hand_ns * workers as f64 / SETUP.block_packets as f64;
        let work_ns =
            costs.read_ns + costs.part_ns + parts_ns + costs.serve_ns(part, part / 8.0) / part;
        let bounds = [1e9 / costs.read_ns, 1e9 / parts_ns, workers as f64 * 1e9 / work_ns];
        let bound = bounds.into_iter().fold(f64::INFINITY, f64::min);
        assert!(played.packets_per_s <= bound * 1.001, "{workers}: {played:?}, {bound}");
        assert!(played.packets_per_s >= bound * 0.6, "{workers}: {played:?}, {bound}");
        assert!([played.reading, played.board, played.busiest].iter().all(|&s| s <= 1.001));
    }
}

#[test]
fn the_largest_shard_bounds_the_rate() {
    // One worker has half of all packets.
    let mut counts = vec![(1_000, 125); 8];
    counts[3] = (7_000, 875);
    let skewed = Shards::counted(&counts);
    let played = play(&costs(), &skewed, &SETUP);
    let bound = 256e9 / (0.5 * costs().serve_ns(256.0, 32.0));
    assert!(played.packets_per_s <= bound * 1.05 && played.packets_per_s > 0.8 * bound);
    assert!(play(&costs(), &even(8), &SETUP).packets_per_s > 1.8 * played.packets_per_s);
    let mut inputs = inputs(costs());
    inputs.flow_sizes = vec![1; 9_999];
    inputs.flow_sizes.push(3_000_000);
    inputs.flows = 20_000;
    let points = curve(&inputs, &[1, 16, 32]);
    assert_eq!(points[2].binds, Binds::Shard, "{points:?}");
    assert!(bend(&inputs, &points).contains("times a fair share"));
}

#[test]
fn memory_binds_only_where_its_limit_is_known() {
    let slow =
        MemoryBandwidth { bytes_per_packet: 1_000.0, one_core: 8e9, all_cores: 9e9, cores: 2 };
    assert!(slow.is_saturated());
    let saturated = Inputs { memory: slow, ..inputs(costs()) };
    let points = curve(&saturated, &[1, 4, 64]);
    assert_eq!(points[2].binds, Binds::Memory);
    assert!((points[2].packets_per_s - 9e6).abs() < 1.0);
    assert!(bend(&saturated, &points).contains("memory as fast as here allows"));
    let open = MemoryBandwidth { all_cores: 16e9, ..slow };
    assert!(!open.is_saturated());
    assert!(open.packets_per_s(64) > 60.0 * open.packets_per_s(1));
}

#[test]
fn the_command_prints_a_curve_and_writes_what_it_came_from() {
    let json = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale.json");
    let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol");
    let run = Command::new(env!("CARGO_BIN_EXE_serveflow"))
        .args(["--quiet", "bench", "scale"])
        .arg(sample.join("test"))
        .arg("--bundle")
        .arg(sample.join("bundle"))
        .args(["--repeats", "1", "--cores", "1,2,64", "--trials", "1,2", "--packets", "20000"])
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for words in ["seed 1", "Simulated beside measured", "what binds", "The curve "] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["curve"].as_array().unwrap().len(), 3);
    assert_eq!(json["trials"][1]["workers"], 2);
    assert!(json["measured"]["costs"]["read_ns"].as_f64().unwrap() > 0.0);
}
