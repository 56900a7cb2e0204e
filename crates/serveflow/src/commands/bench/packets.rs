//! `serveflow bench packets`: the cost of the packet path, step by step.

use crate::commands::args::heading;
use crate::commands::{Session, inputs, print, reports, write_file};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serveflow_bench::figures::{Machine, SCHEMA};
use serveflow_bench::path::{PathFigures, measure};
use serveflow_serve::clock;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// `serveflow bench packets`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow bench packets capture.pcap
  serveflow bench packets captures/ --rounds 20 --json packets.json")]
pub(crate) struct BenchPacketsArgs {
    /// Captures, read one after the other: files and directories
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Measurements of each step, after one to warm up
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = heading::MEASUREMENT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Also write the results as JSON (keys: docs/bench.md)
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    bench: &'static str,
    machine: Machine,
    #[serde(flatten)]
    figures: PathFigures,
}

pub(crate) fn packets(session: &Session, args: &BenchPacketsArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        args.captures.iter().all(|path| path.as_os_str() != "-"),
        "expected captures that can be read repeatedly, found standard input"
    );
    reports::claim(&args.json)?;
    let captures = inputs::find(session, &args.captures)?.paths();
    let figures = measure(&captures, args.rounds.into(), clock::now_ns)?;
    let Some(figures) = figures else {
        anyhow::bail!("expected captures with packets, found none")
    };
    print(&text(&figures))?;
    if let Some(path) = &args.json {
        let report = Report { schema: SCHEMA, bench: "packets", machine: Machine::here(), figures };
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(figures: &PathFigures) -> String {
    let clock = if figures.cpu_time { "CPU" } else { "wall" };
    let mut text = format!(
        "{} packets of {} flows, {:.0} bytes per packet; one thread, median of {} warm rounds, \
         {clock} time\n\n\
         {:<10}{:>12}{:>18}{:>18}{:>12}\n",
        figures.packets,
        figures.flows,
        figures.bytes as f64 / figures.packets as f64,
        figures.rounds,
        "up to",
        "ns/packet",
        "fastest, slowest",
        "without reading",
        "first time"
    );
    for stage in &figures.stages {
        let _ = writeln!(
            text,
            "{:<10}{:>12.1}{:>18}{:>18.1}{:>12.1}   {}",
            stage.name,
            stage.ns_per_packet,
            format!("{:.1}, {:.1}", stage.range_ns[0], stage.range_ns[1]),
            stage.without_reading_ns,
            stage.cold_ns,
            stage.what
        );
    }
    let _ = writeln!(text, "\ntimeout of a flow: {:.0} ns", figures.leave_ns_per_flow);
    let mb = figures.engine_bytes as f64 / 1e6;
    let _ = writeln!(text, "memory of flows and ten packets of each: at most {mb:.0} MB");
    text
}
