//! `serveflow bench traffic`: a cascade under load.

use super::args::{BenchTrafficArgs, LoadArgs, ModeArg};
use super::setting::{Setting, cloned};
use crate::commands::progress::Progress;
use crate::commands::{Session, ended, inputs, keep_captures, print, write_file};
use anyhow::ensure;
use serveflow_bench::answers::answers;
use serveflow_bench::figures::{
    LoadLimits, Machine, RunFigures, SCHEMA, TrafficFigures, TrafficReport, best,
};
use serveflow_bench::load::{LoadRun, Mode, Traffic, run};
use serveflow_bench::{page, text};
use serveflow_io::SourceError;
use serveflow_serve::clock;
use serveflow_train::traffic::captured::replay;
use serveflow_train::traffic::synthetic::{SyntheticSpec, synthetic};
use std::process::ExitCode;

/// The rates of a sweep: from the paper's lowest load to its highest.
const SWEEP: [f64; 9] =
    [200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 48_500.0, 60_000.0];
/// Most rates after those, each twice the one before.
const MOST_DOUBLINGS: usize = 12;
/// Different synthetic flows.
const SYNTHETIC_FLOWS: usize = 4096;

pub(crate) fn traffic(session: &Session, args: &BenchTrafficArgs) -> anyhow::Result<ExitCode> {
    let setting = Setting::load(session, &args.cloned)?;
    let flows = flows(session, &setting, args)?;
    print(&text::traffic(&flows.figures))?;
    let runs = serve(session, &setting, &flows, args)?;
    let report = TrafficReport {
        schema: SCHEMA,
        bench: "traffic",
        bundle: setting.bundle.id.clone(),
        machine: Machine::here(),
        traffic: flows.figures,
        best: best(&runs).cloned().expect("there is a rate"),
        runs,
        damaged: flows.damaged,
    };
    print(&text::report(&report))?;
    if let Some(path) = &args.cloned.json {
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &args.cloned.html {
        write_file(path, page::traffic(&report).as_bytes())?;
    }
    Ok(ended(&report.damaged))
}

/// The flows to serve.
struct Flows {
    traffic: Traffic,
    figures: TrafficFigures,
    damaged: Vec<String>,
    /// A capture as it is, and how long it lasts in seconds.
    replayed_s: Option<f64>,
}

fn flows(session: &Session, setting: &Setting, args: &BenchTrafficArgs) -> anyhow::Result<Flows> {
    if args.made.synthetic {
        return Ok(synthetic_flows(args));
    }
    if !args.replay.is_empty() {
        return replayed_flows(session, args);
    }
    let cloned = cloned(session, setting, &args.cloned)?;
    let slow = setting.cascade.alone("slow only", setting.last_stage());
    let yardstick = answers(&slow, &cloned.templates, args.cloned.seed)?;
    let figures = TrafficFigures::new("cloned", cloned.from, &cloned.templates, args.cloned.seed);
    let traffic = Traffic { templates: cloned.templates, yardstick };
    Ok(Flows { traffic, figures, damaged: cloned.damaged, replayed_s: None })
}

fn synthetic_flows(args: &BenchTrafficArgs) -> Flows {
    let templates = synthetic(&SyntheticSpec {
        flows: SYNTHETIC_FLOWS,
        packets_per_flow: args.made.packets_per_flow,
        payload_bytes: args.made.payload_bytes,
        gap_ms: args.made.gap_ms,
        ipv6_share: args.made.ipv6_share,
        tcp_share: args.made.tcp_share,
        snap_bytes: args.cloned.snap_bytes,
        seed: args.cloned.seed,
    });
    let templates = templates.with_gaps_scaled(args.cloned.gaps);
    let from = "flows".to_owned();
    let figures = TrafficFigures::new("synthetic", from, &templates, args.cloned.seed);
    let traffic = Traffic { templates, yardstick: Vec::new() };
    Flows { traffic, figures, damaged: Vec::new(), replayed_s: None }
}

fn replayed_flows(session: &Session, args: &BenchTrafficArgs) -> anyhow::Result<Flows> {
    ensure!(args.load.workers == 1, "--replay: expected 1 worker, found {}", args.load.workers);
    let paths = inputs::find(session, &args.replay)?.paths();
    for out in args.cloned.json.iter().chain(&args.cloned.html) {
        keep_captures(out, &paths)?;
    }
    let captured = replay(&paths, args.cloned.snap_bytes);
    let damaged: Vec<String> = captured.damaged.iter().map(SourceError::line).collect();
    ensure!(captured.templates.packets() > 0, "--replay: expected packets, found none");
    let templates = captured.templates.with_gaps_scaled(args.cloned.gaps);
    let replayed_s = templates.longest_ns() as f64 / 1e9;
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let figures = TrafficFigures::new("replay", names.join(", "), &templates, args.cloned.seed);
    let traffic = Traffic { templates, yardstick: Vec::new() };
    Ok(Flows { traffic, figures, damaged, replayed_s: Some(replayed_s) })
}

/// A run for each rate.
fn serve(
    session: &Session,
    setting: &Setting,
    flows: &Flows,
    args: &BenchTrafficArgs,
) -> anyhow::Result<Vec<RunFigures>> {
    let rates = if args.load.sweep { SWEEP.to_vec() } else { args.load.rates.clone() };
    let limits = LoadLimits { p99_ms: args.load.limit_ms };
    let slow_name = &setting.bundle.plan.stages[setting.last_stage()].name;
    let mut progress = Progress::new(session);
    let mut runs: Vec<RunFigures> = Vec::new();
    let mut next = 0;
    let mut rate = rates[0];
    loop {
        progress.show("under load", next, rates.len().max(next + 1), &format!("{rate:.0} flows/s"));
        let load = load(setting, flows, args, rate);
        let served = run(&load, &setting.cascade, &flows.traffic, clock::now_ns)?;
        let mut figures = RunFigures::new(&load, &setting.cascade, slow_name, &served, limits);
        if let Some(seconds) = flows.replayed_s {
            // The flows of a replay are those that the engine finds in it.
            figures.flows_made = figures.accounts.flows.seen;
            let flows = figures.flows_made as f64;
            figures.offered_flows_per_s = if seconds > 0.0 { flows / seconds } else { 0.0 };
        }
        runs.push(figures);
        next += 1;
        rate = match rates.get(next) {
            Some(&rate) => rate,
            None if continues(args, &runs, next - rates.len()) => rate * 2.0,
            None => break,
        };
    }
    progress.finish();
    Ok(runs)
}

/// Whether a sweep tries another rate after the last one.
fn continues(args: &BenchTrafficArgs, runs: &[RunFigures], doublings: usize) -> bool {
    let held = runs.iter().all(|run| run.gave.is_empty());
    args.load.sweep && held && doublings < MOST_DOUBLINGS
}

fn load(setting: &Setting, flows: &Flows, args: &BenchTrafficArgs, flows_per_s: f64) -> LoadRun {
    let LoadArgs { seconds, workers, .. } = args.load;
    LoadRun {
        mode: mode(args),
        flows_per_s,
        arrivals: args.cloned.arrivals.into(),
        seconds: flows.replayed_s.map_or(seconds, |replayed_s| replayed_s + 1e-6),
        flows: if flows.replayed_s.is_some() { 1 } else { args.load.flows.unwrap_or(u64::MAX) },
        workers: workers as usize,
        seed: args.cloned.seed,
        batch_frames: setting.batch_frames,
    }
}

fn mode(args: &BenchTrafficArgs) -> Mode {
    match (args.load.mode, args.load.sweep) {
        (Some(ModeArg::Paced), _) | (None, true) => {
            Mode::Paced { ring_packets: args.cloned.ring as usize }
        }
        (Some(ModeArg::Memory), _) | (None, false) => Mode::Memory,
    }
}
