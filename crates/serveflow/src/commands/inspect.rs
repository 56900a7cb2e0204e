//! `serveflow inspect`: the contents of bundles and captures.

use super::Session;
use super::data_args::InspectArgs;
use serveflow_core::engine::Engine;
use serveflow_core::packet::LinkType;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, CaptureReader, FileSource, Null, SourceError, link_words};
use serveflow_model::bundle::{Bundle, GatePlan, HeadPlan, StagePlan};
use serveflow_serve::summary;
use serveflow_train::dataset::{RecordingLane, recording_cascade};
use serveflow_train::pipeline::TrainPlan;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn inspect(session: &Session, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let mut damaged = Vec::new();
    for path in &args.paths {
        if path.join("plan.toml").is_file() || path.join("SHA256SUMS").is_file() {
            super::print(&bundle(session, path)?)?;
            continue;
        }
        for file in super::inputs::find(session, std::slice::from_ref(path))?.paths() {
            damaged.extend(capture(session, &file)?);
        }
    }
    Ok(super::ended(&damaged))
}

fn bundle(session: &Session, dir: &Path) -> anyhow::Result<String> {
    let bundle = Bundle::open(dir, &session.models)?;
    let plan = &bundle.plan;
    let flows = &plan.flows;
    let mut text = format!("bundle {}\n", dir.display());
    let _ = writeln!(text, "  id       {} (SHA-256 of SHA256SUMS)", bundle.id);
    let _ = writeln!(text, "  task     {}", plan.task);
    let _ = writeln!(text, "  labels   {}: {}", plan.labels.len(), plan.labels.join(", "));
    let _ = writeln!(
        text,
        "  flows    idle {} ms, active {} ms, linger {} ms, VLAN id in key: {}, tunnels: {}",
        flows.idle_ms,
        flows.active_ms,
        flows.linger_ms,
        flows.vlan_in_key,
        flows.tunnels.name()
    );
    if let Some(ms) = flows.window_ms {
        let _ = writeln!(text, "  windows  {ms} ms, one verdict each");
    }
    let from = &plan.provenance;
    let trained: Vec<String> = from.flows.iter().map(|(split, n)| format!("{split} {n}")).collect();
    let _ = writeln!(
        text,
        "  from     {}, seed {}, flows: {}, labels SHA-256 {:.16}",
        from.written_by,
        from.seed,
        trained.join(", "),
        from.labels_sha256
    );
    if let Some(rule) = &plan.lane_rule {
        let _ = writeln!(
            text,
            "  lanes    inline if a batch of {} flows takes at most {} us, else thread",
            rule.batch_rows,
            rule.budget_ns as f64 / 1e3
        );
    }
    for (level, degradation) in plan.degradation.iter().enumerate() {
        let _ = writeln!(
            text,
            "  degradation level {}: the first stage escalates {:.1}% of the flows, \
             macro-F1 {:.4}, \
             accuracy {:.4}",
            level + 1,
            degradation.escalated * 100.0,
            degradation.macro_f1,
            degradation.accuracy
        );
    }
    for one in bundle.drift.iter().flat_map(|watch| watch.stages()).flatten() {
        let _ = writeln!(
            text,
            "  drift    {}: windows of {} flows, reference of {} flows in {} captures",
            one.stage, one.window, one.flows, one.captures
        );
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        text.push_str(&self::stage(&bundle, index, stage));
    }
    Ok(text)
}

fn stage(bundle: &Bundle, index: usize, stage: &StagePlan) -> String {
    let shape = bundle.cascade.stages()[index].features.shape();
    let mut text = format!("\n  stage {} `{}`\n", index + 1, stage.name);
    let model = &stage.model;
    let _ = writeln!(text, "    model    {} ({}, {})", model.kind, model.format, model.file);
    if let Some(value) = model.missing {
        let _ = writeln!(text, "    missing  the value {value}");
    }
    let waits = match (stage.window, stage.packets) {
        (true, _) => "at the end of the window".to_owned(),
        (false, 1) => "no wait".to_owned(),
        (false, _) => format!("waits at most {} ms", stage.wait_ms),
    };
    let _ = writeln!(text, "    packets  {}, {waits}, lane {}", stage.packets, stage.lane);
    let _ = writeln!(
        text,
        "    features {} of {}; masked: {}; a row is {} words and {} numbers",
        stage.features.join(" + "),
        stage.headers.join(", "),
        if stage.masks.is_empty() { "none".to_owned() } else { stage.masks.join(", ") },
        shape.words,
        shape.numbers
    );
    if let Some(cost) = &stage.cost {
        let _ = writeln!(
            text,
            "    cost     {:.0} ns to score a flow in a batch, {:.0} ns alone",
            cost.score_batch_ns, cost.score_single_ns
        );
    }
    if let Some(rule) = &stage.unknown {
        let _ = writeln!(
            text,
            "    unknown  if its {} is above {:.4}: {:.1}% of {} calibration flows, \
             at most {:.1}% of the known flows",
            rule.score,
            rule.threshold,
            rule.measured * 100.0,
            rule.flows,
            rule.rate * 100.0
        );
    }
    text.push_str(&stage.gate.as_ref().map_or_else(String::new, gate));
    text
}

fn gate(gate: &GatePlan) -> String {
    let cost = |head: &HeadPlan| format!("{} {}", head.to, head.price);
    let mut text = match (&gate.threshold, &gate.thresholds) {
        (Some(threshold), _) => {
            format!("    gate     accepts {} <= {threshold}\n", gate.rule)
        }
        (None, Some(all)) => {
            let words = all.iter().map(|(label, t)| match t {
                t if *t < 0.0 => format!("{label} never"),
                t => format!("{label} {t:.4}"),
            });
            format!(
                "    gate     accepts {} <= the threshold of the predicted class: {}\n",
                gate.rule,
                words.collect::<Vec<_>>().join(", ")
            )
        }
        (None, None) => format!(
            "    gate     {}: escalates if the predicted gain of a later stage exceeds its \
             cost: {}\n",
            gate.rule,
            gate.heads.iter().map(cost).collect::<Vec<_>>().join(", ")
        ),
    };
    if let Some(from) = &gate.calibration {
        let _ = writeln!(
            text,
            "    calibrated on {} flows for {}: escalates {:.1}%, macro-F1 {:.4} against {:.4}",
            from.flows,
            from.target,
            from.escalated * 100.0,
            from.cascade_macro_f1,
            from.slow_macro_f1
        );
    }
    text
}

/// Statistics of the packets of a capture.
#[derive(Default)]
struct Seen {
    /// Packets by link type, in order of appearance.
    links: Vec<(LinkType, u64)>,
    first_ns: Option<u64>,
    last_ns: u64,
    captured: u64,
    original: u64,
    cut: u64,
}

impl Seen {
    fn add(&mut self, batch: &Batch) {
        for packet in batch.iter() {
            match self.links.iter_mut().find(|(link, _)| *link == packet.link) {
                Some((_, count)) => *count += 1,
                None => self.links.push((packet.link, 1)),
            }
            let first = self.first_ns.get_or_insert(packet.ts_ns);
            *first = (*first).min(packet.ts_ns);
            self.last_ns = self.last_ns.max(packet.ts_ns);
            self.captured += packet.data.len() as u64;
            self.original += u64::from(packet.orig_len);
            self.cut += u64::from((packet.data.len() as u64) < u64::from(packet.orig_len));
        }
    }
}

/// Prints the contents of a capture, and returns its damage.
fn capture(session: &Session, path: &Path) -> anyhow::Result<Vec<SourceError>> {
    let format = match path {
        path if path == Path::new("-") => "standard input".to_owned(),
        path => match CaptureReader::open(path) {
            Ok(reader) => format_of(&reader),
            Err(error) => return Ok(vec![error]),
        },
    };
    let plan = TrainPlan::default();
    let cascade = Arc::new(recording_cascade(&plan.recording(&[1]))?);
    let config = session.typed.check(&plan.flows)?;
    let mut engine = Engine::new(Arc::clone(&cascade), config.engine);
    let mut seen = Seen::default();
    let outcome = Worker {
        engine: &mut engine,
        lanes: &mut vec![Box::new(RecordingLane::new(&cascade).0)],
        sink: &mut Null::default(),
        wall: &mut || 0,
        batch_frames: config.batch_frames,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut FileSource::new(vec![path.to_owned()]), &mut |batch, _| {
        seen.add(batch);
        ControlFlow::Continue(())
    })?;
    let mut text = format!("capture {}: {format}\n", path.display());
    let links: Vec<String> = seen
        .links
        .iter()
        .map(|&(link, count)| format!("{} of {count} packets", link_words(link)))
        .collect();
    let first = seen.first_ns.unwrap_or(0);
    let _ = writeln!(text, "  link types: {}", links.join(", "));
    let _ = writeln!(
        text,
        "  from {}.{:09} s, {:.6} s long, {} bytes on the wire, {} captured, {} packets truncated",
        first / 1_000_000_000,
        first % 1_000_000_000,
        (seen.last_ns.saturating_sub(first)) as f64 / 1e9,
        seen.original,
        seen.captured,
        seen.cut
    );
    let accounts = summary::accounts(engine.accounts());
    text.extend(accounts.lines().map(|line| format!("  {line}\n")));
    super::print(&text)?;
    Ok(outcome.damaged)
}

fn format_of(reader: &CaptureReader) -> String {
    let format = reader.format();
    match reader.codec() {
        Some(codec) => format!("{} in {}", format.name, codec.name),
        None => format.name.to_owned(),
    }
}
