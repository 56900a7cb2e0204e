//! `serveflow check`: what a configuration comes to, before it is served.

use super::Session;
use super::args::CheckArgs;
use serveflow::config::Config;
use serveflow::service::Loaded;
use serveflow_model::bundle::{Bundle, LANE_NAMES};
use std::fmt::Write;
use std::process::ExitCode;

pub(crate) fn check(session: &Session, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = super::served_bundle(args.bundle.as_deref(), &session.typed);
    let (bundle, _) = session.load(&path)?;
    let config = session.typed.check_for(&bundle)?;
    let loaded = Loaded::new(bundle, &path, &config)?.tried()?;
    let mut text = resolved(&config);
    text.push_str(&stages(&loaded.bundle));
    text.push_str(&memory(&config));
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Every limit, as it will be.
fn resolved(config: &Config) -> String {
    let mut text = String::new();
    let flows = &config.engine.flows;
    let ms =
        |ns: u64| if ns == u64::MAX { "none".to_owned() } else { format!("{} ms", ns / 1_000_000) };
    let _ = writeln!(
        text,
        "flows:    at most {} in the table; idle {}, active {}, linger {}, window {}",
        flows.capacity,
        ms(flows.idle_ns),
        ms(flows.active_ns),
        ms(flows.linger_ns),
        ms(flows.window_ns)
    );
    let _ = writeln!(
        text,
        "limits:   {} packets of undecided flows; jobs of {} rows, {} in a lane; batches of {} frames; {} workers",
        config.engine.record_packets,
        config.engine.batch_rows,
        config.lane_jobs,
        config.batch_frames,
        config.listeners()
    );
    let live = &config.live;
    if live.interfaces.is_empty() {
        text.push_str("live:     no interfaces\n");
    } else {
        let _ = writeln!(
            text,
            "live:     {}{}; filter {}; {} bytes of a frame; rings of {} blocks of {} KiB, {}; {}, time of the {}",
            live.interfaces.join(", "),
            if live.xdp { " by AF_XDP" } else { "" },
            live.filter.as_deref().unwrap_or("none"),
            live.snap_bytes,
            live.blocks,
            live.block_bytes >> 10,
            match live.block_ms {
                Some(wait_ms) => format!("handed over after {wait_ms} ms"),
                None => "frame by frame".to_owned(),
            },
            if live.promiscuous { "promiscuous" } else { "not promiscuous" },
            match (live.xdp, live.hardware_time) {
                (true, _) => "reader",
                (_, true) => "network card",
                _ => "kernel",
            }
        );
    }
    let service = &config.service;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let _ = writeln!(
        text,
        "service:  metrics at {}, control socket {}, user {}, {}; stops within {} ms",
        or_none(service.metrics.map(|address| address.to_string())),
        or_none(service.control.as_ref().map(|path| path.display().to_string())),
        service.user.as_deref().unwrap_or("as started"),
        if service.confine { "confined" } else { "not confined" },
        service.stop_ms
    );
    let _ = writeln!(text, "output:   {}", output(config));
    text
}

/// Where verdicts go.
fn output(config: &Config) -> String {
    let output = &config.output;
    let mut text = output.format.clone().unwrap_or_else(|| "as --out ends, or json".to_owned());
    let mebibytes = output.buffer_bytes >> 20;
    let stall_ms = output.stall_ns / 1_000_000;
    let _ = write!(text, "; {mebibytes} MiB may wait, stalled after {stall_ms} ms; ");
    let rotation = output.rotation;
    let size = rotation.most_bytes.map(|bytes| format!("{} MiB", bytes >> 20));
    let age = rotation.most_age_ns.map(|ns| format!("{} s", ns / 1_000_000_000));
    let when: Vec<String> = size.into_iter().chain(age).collect();
    let _ = match when.is_empty() {
        true => write!(text, "not rotated"),
        false => write!(text, "rotated at {}, {} kept", when.join(" or "), rotation.keep),
    };
    text
}

fn stages(bundle: &Bundle) -> String {
    let mut text = format!(
        "bundle:   {}, {} labels\n",
        &bundle.id[..bundle.id.len().min(16)],
        bundle.cascade.labels().len()
    );
    for stage in bundle.cascade.stages() {
        let wait = match (stage.wait_ns, stage.packets()) {
            (u64::MAX, _) => "for the end of the window".to_owned(),
            (_, 1) => "for no further packet".to_owned(),
            (ns, _) => format!("at most {} ms", ns / 1_000_000),
        };
        let lane = LANE_NAMES.get(stage.lane).copied().unwrap_or("?");
        let _ = writeln!(
            text,
            "  {}: {} packets, waits {wait}, lane {lane}",
            stage.name,
            stage.packets()
        );
    }
    text
}

/// What the limits cost when they are reached.
fn memory(config: &Config) -> String {
    const MIB: f64 = (1_u64 << 20) as f64;
    let flows = config.engine.flows.capacity as f64 * BYTES_A_FLOW / MIB;
    let packets = config.engine.record_packets as f64 * BYTES_A_PACKET / MIB;
    let live = &config.live;
    let rings = live.interfaces.len() * config.listeners();
    let rings = (rings * live.block_bytes * live.blocks) as f64 / MIB;
    format!(
        "memory:   {:.0} MiB at most: {flows:.0} of flows, {packets:.0} of their packets, {rings:.0} of rings, \
         and the models\n",
        flows + packets + rings
    )
}

/// Bytes that a flow takes in the table and while it waits, and a packet that is kept: as
/// `limits.prefault` takes them.
const BYTES_A_FLOW: f64 = 228.0;
const BYTES_A_PACKET: f64 = 96.0;
