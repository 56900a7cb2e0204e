//! `serveflow bench paper`: the paper's comparison.

use super::args::BenchPaperArgs;
use super::setting::{Setting, cloned};
use crate::commands::progress::Progress;
use crate::commands::{Session, ended, print, write_file};
use serveflow_bench::figures::{Machine, SCHEMA, TrafficFigures};
use serveflow_bench::load::{LoadRun, Mode, Traffic};
use serveflow_bench::paper::{
    ContenderFigures, Loads, PaperReport, contenders, gain, measure, text,
};
use serveflow_bench::queue::QueueSpec;
use serveflow_bench::{page, text::traffic as traffic_text};
use serveflow_serve::clock;
use std::process::ExitCode;

pub(crate) fn paper(session: &Session, args: &BenchPaperArgs) -> anyhow::Result<ExitCode> {
    let setting = Setting::load(session, &args.cloned)?;
    let cloned = cloned(session, &setting, &args.cloned)?;
    let figures = TrafficFigures::new("cloned", cloned.from, &cloned.templates, args.cloned.seed);
    print(&traffic_text(&figures))?;
    let traffic = Traffic { templates: cloned.templates, yardstick: Vec::new() };
    let contenders = compete(session, &setting, &traffic, args)?;
    let report = PaperReport {
        schema: SCHEMA,
        bench: "paper",
        bundle: setting.bundle.id.clone(),
        machine: Machine::here(),
        traffic: figures,
        offered_flows_per_s: args.rate,
        queue_batch_flows: queue(args).batch_flows,
        queue_waiting_flows: queue(args).waiting_flows,
        rounds: args.rounds as usize,
        over_slow_only: gain(&contenders[0], &contenders[1]),
        over_queueing: gain(&contenders[0], &contenders[3]),
        contenders,
        damaged: cloned.damaged,
    };
    print(&text(&report))?;
    if let Some(path) = &args.cloned.json {
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &args.cloned.html {
        write_file(path, page::paper(&report).as_bytes())?;
    }
    Ok(ended(&report.damaged))
}

fn queue(args: &BenchPaperArgs) -> QueueSpec {
    QueueSpec { batch_flows: args.queue_batch as usize, waiting_flows: args.queue_flows as usize }
}

/// All runs of all contenders.
fn compete(
    session: &Session,
    setting: &Setting,
    traffic: &Traffic,
    args: &BenchPaperArgs,
) -> anyhow::Result<Vec<ContenderFigures>> {
    let paced = LoadRun {
        mode: Mode::Paced { ring_packets: args.cloned.ring as usize },
        flows_per_s: args.rate,
        arrivals: args.cloned.arrivals.into(),
        seconds: args.seconds,
        flows: u64::MAX,
        workers: 1,
        seed: args.cloned.seed,
        batch_frames: setting.batch_frames,
    };
    let loads = Loads { paced, copies: args.copies, rounds: args.rounds as usize };
    let mut progress = Progress::new(session);
    let mut show = |done, all| progress.show("under load", done, all, "");
    let all = contenders(&setting.cascade, queue(args));
    let measured = measure(&all, traffic, &loads, clock::now_ns, &mut show)?;
    progress.finish();
    Ok(measured)
}
