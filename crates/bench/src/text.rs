//! Figures as text.

use super::figures::{RunFigures, TrafficFigures, TrafficReport};
use super::latency::LatencyFigures;
use serveflow_report::number_format::time;
use std::fmt::Write;

/// What was sent, in a line or two.
#[must_use]
pub fn traffic(traffic: &TrafficFigures) -> String {
    let mut text = format!("traffic: {}\n", sentence(traffic));
    if let Some(flow) = &traffic.packets_per_flow {
        let _ = writeln!(
            text,
            "packets per flow: mean {:.2}, median {}, p90 {}, p99 {}, most {}",
            flow.mean, flow.p50, flow.p90, flow.p99, flow.max
        );
    }
    text
}

/// What was sent, in a sentence without an end.
pub(super) fn sentence(traffic: &TrafficFigures) -> String {
    let mut text = format!("{} {}: {} packets", traffic.kind, traffic.from, traffic.packets);
    if let (Some(templates), Some(v6)) = (traffic.templates, traffic.ipv6_share) {
        let v6 = v6 * 100.0;
        let _ = write!(text, " of {templates} flows, {v6:.1}% over IPv6, seed {}", traffic.seed);
    }
    text
}

/// The report: one run in full, or a line for each of several.
#[must_use]
pub fn report(report: &TrafficReport) -> String {
    match report.runs.as_slice() {
        [run] => one(run),
        runs => table(runs),
    }
}

/// One run, line by line.
fn one(run: &RunFigures) -> String {
    let mut text = format!(
        "\n{} mode, {:.0} new flows/s offered, {} worker(s) on {} core(s), {:.2} s\n",
        run.mode, run.offered_flows_per_s, run.workers, run.cores, run.wall_s
    );
    let rate = |flows: f64, per_core: f64, packets: f64| {
        format!("{flows:.0} flows/s ({per_core:.0} per core), {packets:.0} packets/s")
    };
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<24} {value}");
    };
    line("served", rate(run.flows_per_s, run.flows_per_s_per_core, run.packets_per_s));
    if let Some(speed) = &run.without_source {
        let rate = rate(speed.flows_per_s, speed.flows_per_s_per_core, speed.packets_per_s);
        line("without making packets", rate);
    }
    line(
        "busy time per packet",
        format!(
            "{:.1} ns, of which {:.1} ns to make it",
            run.ns_per_packet, run.source_ns_per_packet
        ),
    );
    line(
        "dropped, shed, failed, evicted",
        format!(
            "{} packets, {} flows, {} flows, {} flows",
            run.dropped, run.shed, run.failed, run.evicted
        ),
    );
    line("share per stage", shares(run));
    line("verdict latency", latency(&run.verdict_latency_us));
    line("timer latency", latency(&run.timer_latency_us));
    line("end to end", latency(&run.end_to_end_us));
    line("under 16 ms", format!("{:.1}% of the flows", run.share_under_16ms * 100.0));
    line(
        "decided after the load",
        format!("{} flows, which count end to end alone", run.drained_flows),
    );
    if let Some(quality) = &run.quality {
        line(
            "macro-F1",
            match &run.slow_only {
                Some(slow) => format!(
                    "{:.4}; {} alone on the same flows {:.4}",
                    quality.macro_f1, slow.name, slow.macro_f1
                ),
                None => format!("{:.4}", quality.macro_f1),
            },
        );
    }
    line("machine", usage(run));
    line("gave", gave(run));
    text + &accounts(run)
}

/// The shares of the stages in percent.
pub(super) fn shares(run: &RunFigures) -> String {
    let stage = |stage: &super::figures::StageFigures| {
        format!("{} {:.1}%", stage.name, stage.share * 100.0)
    };
    run.stages.iter().map(stage).collect::<Vec<_>>().join(", ")
}

fn usage(run: &RunFigures) -> String {
    let told = |value: Option<f64>, unit: &str| {
        value.map_or("unknown".to_owned(), |value| format!("{value:.2} {unit}"))
    };
    format!(
        "CPU {} ({:.0} flows per CPU second), busy {:.1}% of the time, peak memory {}, at most {} \
         flows in the table",
        told(run.cpu_s, "s"),
        run.flows_per_cpu_s.unwrap_or(0.0),
        run.busy_share * 100.0,
        told(run.peak_rss_mb, "MB"),
        run.table_flows
    )
}

fn gave(run: &RunFigures) -> String {
    if run.gave.is_empty() { "nothing".to_owned() } else { run.gave.join("; ") }
}

/// The accounts, which have been checked: a load that does not add up is an error.
fn accounts(run: &RunFigures) -> String {
    let (packets, flows) = (&run.accounts.packets, &run.accounts.flows);
    format!(
        "counters: {} packets made = {} seen + {} dropped; {} seen = {} recorded + {} ignored + {} \
         after close + {} rejected + {} filtered;\n          {} flows made, {} seen = {} \
         verdicts\n",
        run.packets_made,
        packets.seen,
        run.dropped,
        packets.seen,
        packets.recorded,
        packets.ignored,
        packets.after_close,
        packets.rejected.values().sum::<u64>(),
        packets.filtered,
        run.flows_made,
        flows.seen,
        flows.verdicts.values().sum::<u64>(),
    )
}

/// Several percentiles on one line.
fn latency(figures: &LatencyFigures) -> String {
    if figures.count == 0 {
        return "none".to_owned();
    }
    let parts = [
        ("p50", figures.p50),
        ("p90", figures.p90),
        ("p99", figures.p99),
        ("p99.9", figures.p999),
        ("max", figures.max),
    ];
    let parts = parts.map(|(name, us)| format!("{name} {}", time(us)));
    format!("{} ({} flows)", parts.join(", "), figures.count)
}

/// A line for each run.
fn table(runs: &[RunFigures]) -> String {
    let mut text = format!(
        "\n{:>9} {:>9} {:>10} {:>6} {:>8} {:>6}  {:>27}  {:>18} {:>6}  {}\n{:>9} {:>9} {:>10} \
         {:>6} {:>8} {:>6}  {:>9}{:>9}{:>9}  {:>9}{:>9} {:>6}\n",
        "offered",
        "served",
        "served",
        "busy",
        "dropped",
        "shed",
        "deciding packet to verdict",
        "end to end",
        "under",
        "gave",
        "flows/s",
        "flows/s",
        "packets/s",
        "",
        "packets",
        "flows",
        "p50",
        "p99",
        "p99.9",
        "p50",
        "p99",
        "16 ms"
    );
    for run in runs {
        let (verdict, end) = (&run.verdict_latency_us, &run.end_to_end_us);
        let _ = writeln!(
            text,
            "{:>9.0} {:>9.0} {:>10.0} {:>5.1}% {:>8} {:>6}  {:>9}{:>9}{:>9}  {:>9}{:>9} {:>5.1}%  \
             {}",
            run.offered_flows_per_s,
            run.flows_per_s,
            run.packets_per_s,
            run.busy_share * 100.0,
            run.dropped,
            run.shed,
            time(verdict.p50),
            time(verdict.p99),
            time(verdict.p999),
            time(end.p50),
            time(end.p99),
            run.share_under_16ms * 100.0,
            gave(run)
        );
    }
    let same = runs.iter().all(|run| run.accounts.balanced);
    let _ = writeln!(text, "counters of all runs add up: {}", if same { "yes" } else { "no" });
    text
}
