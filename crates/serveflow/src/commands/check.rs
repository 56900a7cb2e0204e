//! `serveflow check`: the limits and the memory of a configuration, before it is served.

use super::Session;
use super::output::{Outlet, RunKind, Target};
use super::serve_args::CheckArgs;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::{Bundle, LANE_NAMES};
use serveflow_serve::config::{Config, Typed};
use serveflow_serve::service::preflight::{self, Needs, Opens};
use serveflow_serve::service::{LoadedBundle, MemoryBound};
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn check(session: &Session, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let typed = typed(session, args);
    let path = super::served_bundle(args.bundle.as_deref(), &typed);
    let before = preflight::resident_bytes();
    let (bundle, ..) = session.load_placed(&path)?;
    let mut config = typed.check_for(&bundle)?;
    let is_live = !config.live.interfaces.is_empty();
    if is_live {
        config.workers = config.listeners();
    }
    // Everything is opened as `run` opens it, and closed again.
    let needs = Needs::of(&config, &bundle);
    let what = if args.running { Opens::AllButSockets } else { Opens::All };
    let start = is_live.then(|| preflight::open(&typed, &config, &needs, what, &Arc::default()));
    let sockets = (!is_live && !args.running).then(|| preflight::listeners(&typed, &config));
    start.transpose()?;
    sockets.transpose()?;
    if let Some(out) = args.out.as_deref().filter(|_| !args.running) {
        let is_watched = config.service.metrics.is_some() || config.service.control.is_some();
        let target = Target { out: Some(out), ..Target::default() };
        Outlet::tried(&config, target, RunKind { is_live, is_watched })?;
    }
    let loaded = LoadedBundle::new(bundle, &path, &config)?.tried()?;
    let mut text = resolved(&config);
    text.push_str(&stages(&loaded.bundle));
    let now = preflight::resident_bytes();
    text.push_str(&memory(&config, &loaded.bundle, now, now.saturating_sub(before)));
    text.push_str(&end(&config, &loaded.bundle));
    for warning in preflight::warnings(&config, &path) {
        let _ = writeln!(text, "warning:  {warning}");
    }
    for note in notes(&config, args) {
        let _ = writeln!(text, "note:     {note}");
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What `run` refuses unless its command line has more.
fn notes(config: &Config, args: &CheckArgs) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if config.live.interfaces.is_empty() {
        notes.push("no interfaces: run needs captures, --interface or live.interfaces");
    }
    let rotation = &config.output.rotation;
    if rotation.is_on() && args.out.is_none() {
        notes.push("the output is rotated: run needs --out with a file");
    }
    notes
}

/// The configuration, and over it what was typed on the command line.
fn typed(session: &Session, args: &CheckArgs) -> Typed {
    let mut typed = session.typed.clone();
    super::run::put_over(&mut typed, &args.interface, args.filter.as_ref(), args.workers);
    typed
}

/// Every limit, as it will be.
fn resolved(config: &Config) -> String {
    let mut text = String::new();
    let flows = &config.engine.flows;
    let ms =
        |ns: u64| if ns == u64::MAX { "none".to_owned() } else { format!("{} ms", ns / 1_000_000) };
    let _ = writeln!(
        text,
        "flows:    at most {}; timeouts: idle {}, active {}, linger {}; window {}",
        flows.capacity,
        ms(flows.idle_ns),
        ms(flows.active_ns),
        ms(flows.linger_ns),
        ms(flows.window_ns)
    );
    let _ = writeln!(
        text,
        "limits:   {} packets of undecided flows; {} rows per job, {} jobs per lane; {} frames per \
         batch; {} workers",
        config.engine.record_packets,
        config.engine.batch_rows,
        config.queue_depth,
        config.batch_frames,
        config.listeners()
    );
    let live = &config.live;
    if live.interfaces.is_empty() {
        text.push_str("live:     no interfaces\n");
    } else {
        let _ = writeln!(
            text,
            "live:     {}{}; filter: {}; {} bytes per frame; ring: {} blocks of {} KiB, {}; {}; \
             time stamps: {}",
            live.interfaces.join(", "),
            if live.xdp { " with AF_XDP" } else { "" },
            live.filter.as_deref().unwrap_or("none"),
            live.snap_bytes,
            live.blocks,
            live.block_bytes >> 10,
            match live.block_ms {
                Some(wait_ms) => format!("delivered after {wait_ms} ms"),
                None => "delivered frame by frame".to_owned(),
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
        "service:  metrics: {}; control socket: {}; user: {}; {}; \
         shutdown timeout: {} ms without a verdict",
        or_none(service.metrics.map(|address| address.to_string())),
        or_none(service.control.as_ref().map(|path| path.display().to_string())),
        service.user.as_deref().unwrap_or("unchanged"),
        if service.confine { "sandboxed" } else { "not sandboxed" },
        service.shutdown_timeout_ms
    );
    let _ = writeln!(text, "output:   {}", output(config));
    text
}

/// Where verdicts go.
fn output(config: &Config) -> String {
    let output = &config.output;
    let mut text = output
        .format
        .clone()
        .unwrap_or_else(|| "format by the extension of --out, else json".to_owned());
    let mebibytes = output.buffer_bytes >> 20;
    let stall_ms = output.stall_ns / 1_000_000;
    let _ = write!(text, "; buffer: {mebibytes} MiB; stalled after {stall_ms} ms; ");
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
            (u64::MAX, _) => "at the end of the window".to_owned(),
            (_, 1) => "no wait".to_owned(),
            (ns, _) => format!("waits at most {} ms", ns / 1_000_000),
        };
        let lane = LANE_NAMES.get(stage.lane).copied().unwrap_or("?");
        let _ =
            writeln!(text, "  {}: {} packet(s), {wait}, lane {lane}", stage.name, stage.packets());
    }
    text
}

/// The memory at the limits; `resident` is that of the program and its models now, and `models` the
/// part of the models.
fn memory(config: &Config, bundle: &Bundle, resident: u64, models: u64) -> String {
    let bound = MemoryBound::of(config, bundle);
    let MemoryBound { flows, packets, rings, jobs, output } = bound;
    format!(
        "memory:   at most {}: flows {}, their packets {}, rings {}, rows in lanes and buffers {}, \
         records in the output's buffer {}, program and models {}\n          a shadow adds \
         up to {} and its models; each further bundle in use adds its models and {} of rows in \
         lanes (models of this bundle: about {})\n",
        mib(bound.total() + resident),
        mib(flows),
        mib(packets),
        mib(rings),
        mib(jobs),
        mib(output),
        mib(resident),
        mib(bound.of_shadow()),
        mib(jobs),
        mib(models),
    )
}

/// Bytes as MiB, small ones to a tenth; never less than they are.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    if tenths < 100 {
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    } else {
        format!("{} MiB", tenths.div_ceil(10))
    }
}

/// How long a shutdown may take, from the time that the models take for a row on this machine.
fn end(config: &Config, bundle: &Bundle) -> String {
    let rows = config.engine.batch_rows.clamp(1, 256);
    let mut ns = NS_A_VERDICT;
    for (stage, model) in bundle.cascade.stages().iter().zip(&bundle.models) {
        // A remote model is called in batches: the time of one row would say nothing.
        let mut batch = Rows::with_capacity(stage.features.shape(), rows);
        for _ in 0..rows {
            batch.push();
        }
        let began = serveflow_serve::clock::now_ns();
        // Its trial succeeded before.
        let _ = model.score(&batch, &mut Scores::default());
        ns += (serveflow_serve::clock::now_ns() - began) as f64 / rows as f64;
    }
    let capacity = config.engine.flows.capacity;
    let seconds = MARGIN * ns * capacity as f64 / config.listeners() as f64 / 1e9;
    format!(
        "shutdown: up to about {} s with {capacity} open flows (set TimeoutStopSec= longer); it is \
         aborted after {} ms without a verdict\n",
        (seconds.ceil() as u64).max(1),
        config.service.shutdown_timeout_ms
    )
}

/// Cost of a verdict outside of models, nanoseconds: features and output.
const NS_A_VERDICT: f64 = 4_000.0;
/// Margin for busy machines.
const MARGIN: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::mib;

    #[test]
    fn small_sizes_are_not_nothing() {
        assert_eq!(mib(0), "0.0 MiB");
        assert_eq!(mib(1), "0.1 MiB");
        assert_eq!(mib(228_000), "0.3 MiB");
        assert_eq!(mib(10 << 20), "10 MiB");
        assert_eq!(mib((10 << 20) + 1), "11 MiB");
    }
}
