//! `serveflow bench scale`: the expected capacity of more cores.

use super::args::heading;
use super::sample::Sample;
use super::{Session, print, reports, write_file};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serveflow_bench::scaling::curve::{CurvePoint, Inputs, MemoryBandwidth, bend, curve};
use serveflow_bench::scaling::measure::{MeasuredCosts, ScalingMeter};
use serveflow_bench::scaling::replay_source::Tape;
use serveflow_bench::scaling::sim::Setup;
use serveflow_bench::scaling::validation::{Trial, Trials};
use serveflow_bench::scaling::{machine, text};
use serveflow_bench::usage;
use serveflow_model::bundle::Bundle;
use serveflow_serve::clock;
use serveflow_serve::config::Config;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Fewest packets of a run. Runs are short, because the fastest of several counts.
const TRIAL_PACKETS: u64 = 1_000_000;
/// Blocks for each worker that sharing allows to be read ahead.
const BLOCKS_AHEAD: usize = 4;
/// Bytes of a line of memory.
const LINE: f64 = 64.0;
/// Lines that each packet reads and writes back: its place in the index and its flow.
const FLOW_LINES: f64 = 2.0;
/// Lines that each packet which is kept writes, and its stage reads.
const KEPT_LINES: f64 = 3.0;

/// `serveflow bench scale`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench scale --json scale.json
  serveflow bench scale captures/ --bundle bundle --cores 1,2,4,8,16

Measures the cost of each step of serving on this machine, simulates workers that share an input
event by event, compares the simulation with up to as many workers as this machine has cores, and
prints the expected curve. The simulation ignores shared caches, clock rates that fall under load,
and cores of different kinds. It assumes the memory bandwidth of this machine.")]
pub(crate) struct BenchScaleArgs {
    /// Captures: files or directories [default: the shipped sample]
    #[arg(value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Bundle to serve [default: that of the shipped sample]
    #[arg(long, value_name = "BUNDLE", help_heading = heading::INPUT)]
    bundle: Option<PathBuf>,
    /// Numbers of cores to simulate
    #[arg(long, value_name = "CORES,...", value_delimiter = ',')]
    #[arg(default_value = "1,2,4,8,12,16,24,32,48,64", help_heading = heading::SIMULATION)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Vec<u16>,
    /// Numbers of workers to measure [default: 1 up to the number of cores]
    #[arg(long, value_delimiter = ',', value_name = "WORKERS,...")]
    #[arg(help_heading = heading::MEASUREMENT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    trials: Vec<u16>,
    /// Flows that are hashed onto the workers; fewer flows give a less even load
    #[arg(long, value_name = "N", help_heading = heading::SIMULATION, default_value_t = 100_000)]
    flows: usize,
    /// Most packets of the captures
    #[arg(long, value_name = "N", help_heading = heading::INPUT, default_value_t = 1_000_000)]
    packets: usize,
    /// Repetitions of each measurement; the fastest counts
    #[arg(long, value_name = "N", help_heading = heading::MEASUREMENT, default_value_t = 25)]
    repeats: usize,
    /// Random seed of hashes and draws
    #[arg(long, value_name = "N", help_heading = heading::SIMULATION, default_value_t = 1)]
    seed: u64,
    /// Also write inputs, measurements and curve as JSON
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    json: Option<PathBuf>,
}

/// What `--json` writes.
#[derive(Serialize)]
struct Written<'a> {
    measured: &'a MeasuredCosts,
    inputs: &'a Inputs,
    trials: &'a [Trial],
    curve: &'a [CurvePoint],
    bend: String,
}

/// Measures, simulates, compares, and prints.
pub(crate) fn scale(session: &Session, args: &BenchScaleArgs) -> anyhow::Result<ExitCode> {
    reports::claim(&args.json)?;
    let (bundle, config, tape) = prepared(session, args)?;
    let wall = clock::now_ns;
    let meter = ScalingMeter {
        bundle: &bundle,
        config: &config,
        wall,
        repeats: args.repeats,
        seed: args.seed,
    };
    let measured =
        meter.measure(&tape, &mut |what| session.say(&format!("measuring: {what}\n")))?;
    session.say("measuring: memory\n");
    let inputs = inputs(args, &tape, &measured)?;
    print(&text::costs(&measured, &inputs))?;
    let rounds = TRIAL_PACKETS.div_ceil(tape.packets);
    let trials = Trials {
        bundle: &bundle,
        config: &config,
        wall,
        tape: &tape,
        flows_per_packet: measured.flows_per_packet,
        rounds,
        repeats: args.repeats,
    };
    let setup = Setup {
        blocks: 0,
        block_packets: inputs.block_packets,
        alone_packets: inputs.alone_packets,
        blocks_ahead: inputs.blocks_ahead,
        seed: args.seed,
    };
    let hold = |&workers: &u16| trials.hold(usize::from(workers), &measured.costs, &setup);
    session.say("measuring: workers\n");
    let trials: Vec<Trial> = tried(args).iter().map(hold).collect();
    print(&text::trials(&trials))?;
    let mut cores: Vec<usize> = args.cores.iter().copied().map(usize::from).collect();
    cores.sort_unstable();
    cores.dedup();
    let points = curve(&inputs, &cores);
    print(&text::curve(&inputs, &points))?;
    if let Some(path) = &args.json {
        let bend = bend(&inputs, &points);
        let written =
            Written { measured: &measured, inputs: &inputs, trials: &trials, curve: &points, bend };
        write_file(path, &serde_json::to_vec_pretty(&written)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The bundle with all stages inline, the limits, and the captures in memory.
fn prepared(session: &Session, args: &BenchScaleArgs) -> anyhow::Result<(Bundle, Config, Tape)> {
    let needs_sample = args.captures.is_empty() || args.bundle.is_none();
    let sample = needs_sample.then(|| Sample::find(None, "--bundle and captures")).transpose()?;
    let dir = args.bundle.clone().or_else(|| sample.as_ref().map(Sample::bundle));
    let dir = dir.unwrap_or_default();
    let (mut bundle, _) = session.load(&dir)?;
    bundle.place(&vec![0; bundle.plan.stages.len()]);
    let mut config = session.typed.check_for(&bundle)?;
    config.engine.flows.seed = session.typed.flows.seed.unwrap_or(args.seed);
    let captures = match (&sample, args.captures.is_empty()) {
        (Some(sample), true) => sample.captures(),
        _ => args.captures.clone(),
    };
    let paths = super::inputs::find(session, &captures)?.paths();
    let tape = Tape::lay(&paths, args.packets.max(1), &config.engine.flows)?;
    ensure!(!tape.flow_sizes().is_empty(), "expected captures with flows, found none");
    session.say(&format!(
        "{} captures overlaid: {} packets, {} bytes\n",
        paths.len(),
        tape.packets,
        tape.len_bytes()
    ));
    Ok((bundle, config, tape))
}

fn tried(args: &BenchScaleArgs) -> Vec<u16> {
    if !args.trials.is_empty() {
        return args.trials.clone();
    }
    (1..=u16::try_from(usage::cores()).unwrap_or(u16::MAX)).collect()
}

/// What the curve is computed from.
fn inputs(args: &BenchScaleArgs, tape: &Tape, measured: &MeasuredCosts) -> io::Result<Inputs> {
    let cores = usage::cores();
    let once = |threads| machine::bandwidth(threads, clock::now_ns);
    let bandwidth = |threads| {
        let mut all = (0..args.repeats.max(1)).map(|_| once(threads));
        all.try_fold(0.0, |most: f64, bytes| Ok::<_, io::Error>(most.max(bytes?)))
    };
    let record_bytes = tape.len_bytes() as f64 / tape.packets as f64;
    let memory = MemoryBandwidth {
        // The block that a record is copied into stays in a cache, and is not counted.
        bytes_per_packet: record_bytes + 2.0 * LINE * (FLOW_LINES + measured.recorded * KEPT_LINES),
        one_core: bandwidth(1)?,
        all_cores: bandwidth(cores)?,
        cores,
    };
    Ok(Inputs {
        costs: measured.costs.clone(),
        memory,
        flow_sizes: tape.flow_sizes(),
        flows: args.flows.max(1),
        flows_per_packet: measured.flows_per_packet,
        block_packets: measured.block_packets,
        alone_packets: measured.alone_packets,
        blocks_ahead: BLOCKS_AHEAD,
        seed: args.seed,
    })
}
