//! `serveflow demo`: the sample that ships with the project, through its cascade.

use super::Session;
use super::data_args::DemoArgs;
use super::progress::Progress;
use super::sample::Sample;
use serveflow_label::{Split, read_table};
use serveflow_model::bundle::Bundle;
use serveflow_train::evaluate::{Answered, Evaluation, Report, evaluate};
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Verdicts shown.
const SHOWN: usize = 24;
/// Pause between two verdicts on a terminal, so that users can follow them.
const PAUSE: Duration = Duration::from_millis(60);

pub(crate) fn demo(session: &Session, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let sample = Sample::find(args.sample.as_deref(), "--sample")?;
    let bundle = Bundle::load(&sample.bundle())?;
    let book = read_table(&sample.labels(), sample.dir())?;
    let config = session.typed.check_for(&bundle)?;
    super::print(&introduction(&bundle, &sample))?;
    let mut progress = Progress::new(session);
    let mut wall = || session.wall_ns();
    let mut passes = |done, all| progress.show("replaying", done, all, "");
    let evaluation = evaluate(&bundle, &book, Split::Test, config.engine, &mut wall, &mut passes)?;
    progress.finish();
    show_verdicts(&bundle, &evaluation)?;
    super::print(&conclusion(&evaluation.report, &sample))?;
    Ok(ExitCode::SUCCESS)
}

fn introduction(bundle: &Bundle, sample: &Sample) -> String {
    let mut text = format!(
        "ServeFlow classifies the flows of {} by application protocol, without using ports.\n\
         Their hosts and days are not in the training data. The cascade has {} stages:\n\n",
        sample.name(),
        bundle.plan.stages.len()
    );
    for stage in &bundle.plan.stages {
        let packets = match stage.packets {
            1 => "packet".to_owned(),
            packets => format!("{packets} packets"),
        };
        let (name, kind) = (&stage.name, &stage.model.kind);
        let _ = writeln!(text, "  {name:<12} {kind} on the first {packets}");
    }
    text.push_str("\nEach stage decides a flow or escalates it to a later stage.\n\n");
    text
}

/// Some of the verdicts, spread over the flows.
fn show_verdicts(bundle: &Bundle, evaluation: &Evaluation) -> anyhow::Result<()> {
    let answered = &evaluation.answered;
    super::print(&format!(
        "{:<6} {:>6}  {:<8} {:>10}  {:<12} {:>7} {:>14}  {}\n",
        "flow", "port", "verdict", "confidence", "stage", "packets", "latency", "truth"
    ))?;
    let pause = std::io::stdout().is_terminal();
    for step in 0..SHOWN.min(answered.len()) {
        let flow = &answered[step * answered.len() / SHOWN.min(answered.len())];
        super::print(&verdict_line(bundle, flow))?;
        if pause {
            std::thread::sleep(PAUSE);
        }
    }
    super::print(&format!("... {} flows in total\n\n", answered.len()))
}

fn verdict_line(bundle: &Bundle, flow: &Answered) -> String {
    let labels = bundle.cascade.labels();
    let name = |label: u16| labels[usize::from(label)].as_str();
    let proto = match flow.flow.proto {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    };
    let right = if flow.label == Some(flow.truth) { "correct" } else { "wrong: " };
    let truth = if flow.label == Some(flow.truth) { "" } else { name(flow.truth) };
    format!(
        "{proto:<6} {:>6}  {:<8} {:>9.1}%  {:<12} {:>7} {:>14}  {right}{truth}\n",
        flow.flow.dst_port,
        flow.label.map_or("-", name),
        flow.confidence * 100.0,
        bundle.plan.stages[flow.stage].name,
        flow.packets,
        latency(flow.end_to_end_ns() as f64 / 1e3),
    )
}

/// A latency in the unit that suits it.
fn latency(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn conclusion(report: &Report, sample: &Sample) -> String {
    let first_packet: f64 =
        report.stages.iter().filter(|stage| stage.packets == 1).map(|stage| stage.share).sum();
    let slow = &report.slow_only;
    let row = |what: &str, cascade: String, slow: String| {
        format!("{what:<38} {cascade:>12} {slow:>14}\n")
    };
    let share = |share: f64| format!("{:.1}%", share * 100.0);
    let f1 = |f1: f64| format!("{f1:.4}");
    let mut text = row("", "cascade".to_owned(), format!("{} alone", slow.name));
    text += &row("decided on packet 1", share(first_packet), share(0.0));
    text +=
        &row("decided within 16 ms", share(report.share_under_16ms), share(slow.share_under_16ms));
    text += &row(
        "median latency, first packet to verdict",
        latency(report.latency_us.end_to_end.p50),
        latency(slow.latency_us.end_to_end.p50),
    );
    text += &row("macro-F1", f1(report.macro_f1), f1(slow.macro_f1));
    text += &row("accuracy", f1(report.accuracy), f1(slow.accuracy));
    let _ = write!(
        text,
        "\n{:.0}% of these flows have fewer than {} packets: the slow stage alone waits until\n\
         they end, or for {:.0} s.\n\n\
         Throughput: {:.0} flows/s ({:.0} packets/s) on one thread, with reading.\n\
         packets: {} seen = {} recorded + {} ignored + {} after close + {} rejected + \
         {} filtered\n\
         flows:   {} seen, {} verdicts\n\n\
         Next steps:\n",
        slow.short_share * 100.0,
        slow.packets,
        slow.latency_us.collection.p99 / 1e6,
        report.flows_per_s,
        report.packets_per_s,
        report.accounts.packets.seen,
        report.accounts.packets.recorded,
        report.accounts.packets.ignored,
        report.accounts.packets.after_close,
        report.accounts.packets.rejected.values().sum::<u64>(),
        report.accounts.packets.filtered,
        report.accounts.flows.seen,
        report.accounts.flows.verdicts.values().sum::<u64>(),
    );
    text.push_str(&next_steps(sample));
    text
}

/// Commands to try. A temporary sample is gone by then, and has nothing to train on.
fn next_steps(sample: &Sample) -> String {
    let (mut text, mut dir) = (String::new(), sample.dir().display().to_string());
    if sample.is_temporary() {
        dir = "data/app_protocol".to_owned();
        let _ = writeln!(
            text,
            "  In a copy of the project ({}), which has all captures:",
            env!("CARGO_PKG_REPOSITORY")
        );
    }
    let _ = write!(
        text,
        "  serveflow evaluate --bundle {dir}/bundle --captures {dir} \\\n\
         \x20   --labels {dir}/labels.csv\n\
         \x20 serveflow train --captures {dir} --labels {dir}/labels.csv --out my-bundle\n\
         \x20 serveflow run YOUR.pcap --bundle my-bundle\n\
         \x20 serveflow --help   (or cargo run --release -- --help)\n"
    );
    text
}
