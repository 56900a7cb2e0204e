//! The figures as one page that needs nothing else: no script, no network, no font.

use super::figures::{Machine, RunFigures, TrafficFigures, TrafficReport};
use super::paper::{ContenderFigures, PaperReport, ROWS, decided, times};
use super::text::sentence;
use serveflow_report::number_format::{count, grouped, percent, tick, time};
use serveflow_report::svg::{
    Axis, Bar, Line, MARK_US, Marks, bars, escape, lines, page, section, table, tiles as tile_row,
};
use std::fmt::Write;

/// Curves that can be told apart in one plot.
const MOST_CURVES: usize = 5;

/// The page of `bench traffic`.
#[must_use]
pub fn traffic(report: &TrafficReport) -> String {
    let runs = &report.runs;
    let mut body =
        heading("A cascade under load", &report.traffic, &report.machine, &report.bundle);
    body += &tiles(&report.best);
    body += "<div class=\"plots\">";
    if runs.len() > 1 {
        body += &latency_plot(runs);
    }
    body += &curve_plot(&curves(runs));
    body += &stage_plot(runs);
    body += "</div>";
    body += &run_table(runs);
    page("serveflow bench traffic", &body)
}

/// The page of `bench paper`.
#[must_use]
pub fn paper(report: &PaperReport) -> String {
    let contenders = &report.contenders;
    let mut body =
        heading("Fast-slow against the others", &report.traffic, &report.machine, &report.bundle);
    body += &paper_tiles(report);
    body += "<h2>Side by side</h2>";
    body += &comparison(contenders);
    let curve = |one: &ContenderFigures| Curve {
        name: one.name.to_owned(),
        points: one.paced.end_to_end_curve.clone(),
    };
    body += "<div class=\"plots\">";
    body += &curve_plot(&contenders.iter().map(curve).collect::<Vec<_>>());
    body += &contender_plot(contenders);
    body += "</div><h2>Who is who</h2>";
    for one in contenders {
        let _ = write!(body, "<p><b>{}</b>: {}.</p>", one.name, escape(&one.what));
    }
    let _ = write!(
        body,
        "<p class=\"faint\">Latencies at {} new flows/s, paced by the clock. Service rates and F1 \
         of {} flows in memory, at full speed, each flow of the set equally often; the round with \
         the median rate of {} rounds. Rates without the cost of the generator are an upper bound \
         if other threads run meanwhile.</p>",
        count(report.offered_flows_per_s),
        contenders[0].saturated.flows_made,
        report.rounds
    );
    page("serveflow bench paper", &body)
}

fn paper_tiles(report: &PaperReport) -> String {
    let first = &report.contenders[0];
    let tiles = [
        (times(report.over_slow_only.median_speedup), "lower median latency than slow_only"),
        (format!("{:.1}%", first.share_under_16ms * 100.0), "of the flows under 16 ms"),
        (grouped(first.flows_per_s_per_core), "flows/s per core"),
        (
            format!("{:.2}x", report.over_queueing.service_rate),
            "the service rate per core of queueing",
        ),
        (format!("{:.4}", first.macro_f1), "macro-F1"),
        (format!("{:+.4}", report.over_slow_only.macro_f1), "macro-F1 against slow_only"),
    ];
    tile_row(&tiles.map(|(value, what)| (value, what.to_owned())))
}

/// Contenders side by side.
fn comparison(contenders: &[ContenderFigures]) -> String {
    let heads: Vec<&str> =
        std::iter::once("").chain(contenders.iter().map(|one| one.name)).collect();
    let row = |(what, spell): &(&'static str, fn(&ContenderFigures) -> String)| {
        std::iter::once((*what).to_owned()).chain(contenders.iter().map(spell)).collect()
    };
    let mut rows: Vec<Vec<String>> = ROWS.iter().map(row).collect();
    for stage in &contenders[0].saturated.stages {
        let cell = |one: &ContenderFigures| {
            decided(one, &stage.name)
                .map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0))
        };
        let what = format!("decided by {}", stage.name);
        rows.push(std::iter::once(what).chain(contenders.iter().map(cell)).collect());
    }
    table(&heads, &rows)
}

fn contender_plot(contenders: &[ContenderFigures]) -> String {
    let parts: Vec<String> =
        contenders[0].saturated.stages.iter().map(|stage| stage.name.clone()).collect();
    let bar = |one: &ContenderFigures| Bar {
        name: one.name.to_owned(),
        values: parts.iter().map(|stage| decided(one, stage).unwrap_or(0.0)).collect(),
    };
    let drawn: Vec<Bar> = contenders.iter().map(bar).collect();
    let plot = shares("contender", &parts, &drawn);
    section("Share per stage", &plot, "The stage that decided the verdict.")
}

fn heading(title: &str, traffic: &TrafficFigures, machine: &Machine, bundle: &str) -> String {
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    let per_flow = traffic.packets_per_flow.map_or_else(String::new, |flow| {
        format!(" A flow has {:.2} packets (median {}, p99 {}).", flow.mean, flow.p50, flow.p99)
    });
    format!(
        "<h1>{title}</h1><p>{}.{per_flow}</p><p class=\"faint\">ServeFlow {}, {}, {}, {} cores; \
         bundle {}.</p>",
        escape(&capital(&sentence(traffic))),
        machine.version,
        escape(processor),
        escape(&machine.system),
        machine.cores,
        escape(bundle.get(..12).unwrap_or(bundle)),
    )
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

/// The figures that are asked for first.
fn tiles(run: &RunFigures) -> String {
    let share = |share: f64| format!("{:.1}%", share * 100.0);
    let mut tiles = vec![
        (grouped(run.flows_per_s), format!("flows/s served, cores used: {}", run.cores)),
        (grouped(run.packets_per_s), "packets/s served".to_owned()),
        (time(run.verdict_latency_us.p50), "median, deciding packet to verdict".to_owned()),
        (time(run.verdict_latency_us.p99), "p99, deciding packet to verdict".to_owned()),
        (share(run.share_under_16ms), "of the flows under 16 ms".to_owned()),
    ];
    if let Some(quality) = &run.quality {
        tiles.push((format!("{:.4}", quality.macro_f1), "macro-F1".to_owned()));
    }
    format!(
        "{}<p class=\"faint\">The run at {} new flows/s, {} mode: the highest rate \
         of this report where nothing gave, or the first one when each gave.</p>",
        tile_row(&tiles),
        count(run.offered_flows_per_s),
        run.mode
    )
}

fn latency_plot(runs: &[RunFigures]) -> String {
    let figures = [
        ("p50", runs.iter().map(|run| run.verdict_latency_us.p50).collect::<Vec<f64>>()),
        ("p99", runs.iter().map(|run| run.verdict_latency_us.p99).collect()),
    ];
    let rates = || runs.iter().map(|run| run.offered_flows_per_s);
    let line = |(at, (name, values)): (usize, &(&str, Vec<f64>))| Line {
        name: (*name).to_owned(),
        class: format!("line{at}"),
        points: rates().zip(values.iter().copied()).collect(),
    };
    let drawn: Vec<Line> = figures.iter().enumerate().map(line).collect();
    let horizontal = Axis::log("load, new flows per second", count, rates());
    let values = figures.iter().flat_map(|(_, values)| values.iter().copied());
    let vertical = Axis::log("deciding packet to verdict", tick, values);
    section(
        "Latency against load",
        &lines("Latency against load", (&horizontal, &vertical), &drawn, &Marks::default()),
        "From the packet that decided (when it was due) to the verdict: what computing and \
         queueing take.",
    )
}

/// A named cumulative distribution: latency in microseconds, share of the flows.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The curves of some runs, spread over all of them.
fn curves(runs: &[RunFigures]) -> Vec<Curve> {
    let shown = runs.len().min(MOST_CURVES);
    let at = |shown_at: usize| shown_at * (runs.len() - 1) / (shown - 1).max(1);
    let curve = |run: &RunFigures| Curve {
        name: format!("{} flows/s", count(run.offered_flows_per_s)),
        points: run.end_to_end_curve.clone(),
    };
    (0..shown).map(|shown_at| curve(&runs[at(shown_at)])).collect()
}

fn curve_plot(curves: &[Curve]) -> String {
    let line = |(at, curve): (usize, &Curve)| Line {
        name: curve.name.clone(),
        class: format!("line{at}"),
        points: curve.points.clone(),
    };
    let drawn: Vec<Line> = curves.iter().enumerate().map(line).collect();
    let all = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).chain([MARK_US]);
    let horizontal = Axis::log("first packet to verdict", tick, all);
    let vertical = Axis::percent("share of the flows");
    let marks = Marks { mark: Some((MARK_US, "16 ms")), dots: &[] };
    section(
        "End-to-end latency",
        &lines("End-to-end latency, cumulative", (&horizontal, &vertical), &drawn, &marks),
        "Share of the flows with a verdict within a time of their first packet. Steps far to the \
         right are waits for packets and for timeouts, which the traffic decides.",
    )
}

fn stage_plot(runs: &[RunFigures]) -> String {
    let bar =
        |run: &RunFigures| Bar { name: count(run.offered_flows_per_s), values: stage_shares(run) };
    let drawn: Vec<Bar> = runs.iter().map(bar).collect();
    let parts = runs.first().map_or_else(Vec::new, stage_names);
    section(
        "Share per stage",
        &shares("load, new flows per second", &parts, &drawn),
        "The stage that decided the verdict.",
    )
}

/// Bars of shares of the flows.
fn shares(title: &str, parts: &[String], drawn: &[Bar]) -> String {
    let vertical = Axis::percent("share of the flows");
    bars("Share of the flows per stage", (title, &vertical), (parts, percent), drawn)
}

fn stage_names(run: &RunFigures) -> Vec<String> {
    let names = run.stages.iter().map(|stage| stage.name.clone());
    names.chain((run.unanswered > 0).then(|| "no label".to_owned())).collect()
}

fn stage_shares(run: &RunFigures) -> Vec<f64> {
    let shares: Vec<f64> = run.stages.iter().map(|stage| stage.share).collect();
    let rest = 1.0 - shares.iter().sum::<f64>();
    shares.into_iter().chain((run.unanswered > 0).then_some(rest)).collect()
}

fn run_table(runs: &[RunFigures]) -> String {
    let heads = [
        "offered\nflows/s",
        "served\nflows/s",
        "served\npackets/s",
        "busy",
        "dropped\npackets",
        "shed\nflows",
        "verdict\np50",
        "verdict\np99",
        "verdict\np99.9",
        "end to end\np50",
        "end to end\np99",
        "under\n16 ms",
        "macro-F1",
        "gave",
    ];
    let row = |run: &RunFigures| {
        let (verdict, end) = (&run.verdict_latency_us, &run.end_to_end_us);
        vec![
            format!("{:.0}", run.offered_flows_per_s),
            format!("{:.0}", run.flows_per_s),
            format!("{:.0}", run.packets_per_s),
            format!("{:.1}%", run.busy_share * 100.0),
            run.dropped.to_string(),
            run.shed.to_string(),
            time(verdict.p50),
            time(verdict.p99),
            time(verdict.p999),
            time(end.p50),
            time(end.p99),
            format!("{:.1}%", run.share_under_16ms * 100.0),
            run.quality
                .as_ref()
                .map_or("-".to_owned(), |quality| format!("{:.4}", quality.macro_f1)),
            if run.gave.is_empty() { "nothing".to_owned() } else { run.gave.join("; ") },
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    format!("<h2>All runs</h2>{}", table(&heads, &rows))
}
