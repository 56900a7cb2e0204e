//! `serveflow run`: captures or live packets in, verdicts out.

use super::Session;
use super::args::RunArgs;
use super::signals::Signals;
use anyhow::Context;
use serveflow::clock;
use serveflow::config::{Config, Typed};
use serveflow::live;
use serveflow::patient::PatientSource;
use serveflow::service::{Confinement, Control, Listeners, Loaded, Service, Switch, confine, log};
use serveflow::summary;
use serveflow::workers::{self, Crew, Post, Served};
use serveflow_core::FlowConfig;
use serveflow_core::shard::Sharder;
use serveflow_io::{FileSource, SINKS, SharedWriter, Sink, Source, share_out};
use serveflow_model::bundle::Bundle;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) fn run(session: &Session, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let signals = Signals::catch()?;
    let typed = typed(session, args);
    let path = super::served_bundle(args.bundle.as_deref(), &typed);
    let (bundle, remote) = session.load(&path)?;
    let mut config = typed.check_for(&bundle)?;
    if session.typed.flows.seed.is_none() {
        // Nobody outside may know which five-tuples share a slot of the table. No verdict depends
        // on the seed.
        config.engine.flows.seed = RandomState::new().build_hasher().finish();
    }
    let Feed { sources, interfaces } = feed(session, args, &mut config, &signals.stop)?;
    let loaded = Loaded::new(bundle, &path, &config)?;
    let sinks = open_sinks(&config, args, &loaded.bundle)?;
    let posts = sources.into_iter().zip(sinks).map(|(source, sink)| Post { source, sink });
    let posts: Vec<Post> = posts.collect();
    let (is_live, is_quiet) = (interfaces.is_some(), session.quiet);
    let switch = Switch::new(loaded, config.clone(), typed);
    let stop = Arc::clone(&signals.stop);
    let service = Service::new(switch, posts.len(), interfaces, Arc::clone(&stop));
    let service = Arc::new(service);
    let guard = serve_beside(&service, &config, is_live, is_quiet, &signals)?;
    signals.follow()?;
    let started = session.wall_ns();
    let (first, _) = service.switch.serving();
    let crew = Crew {
        bundle: &first.bundle,
        config: &config,
        selection: config.selection.clone(),
        wall: clock::now_ns,
        stop: &stop,
        is_live,
        service: guard.is_some().then_some(&*service),
        drift: Some(&service.drift),
    };
    let Served { accounts, batches, outcome } = workers::serve(&crew, posts);
    drop(guard);
    let took = std::time::Duration::from_nanos(session.wall_ns() - started);
    session.say(&summary::accounts(&accounts));
    session.say(&live::summary(&service.interfaces()));
    let names = first.bundle.cascade.stages().iter().map(|stage| stage.name.as_str());
    session.say(&summary::batches(names.zip(batches)));
    session.say(&summary::remote(&remote.status()));
    session.say(&service.drift.summary());
    session.say(&summary::speed(&accounts, took));
    let outcome = match outcome {
        // The reader of our output has seen enough of a capture: nobody is left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !is_live => {
            return Ok(ExitCode::SUCCESS);
        }
        // Not the system's error itself, which would be taken for that.
        Err(error) => anyhow::bail!("{}: cannot write verdicts: {error}", output(args)),
        Ok(outcome) => outcome,
    };
    assert!(accounts.balance(), "every packet and every flow stands in one place");
    if outcome.stopped && !is_live {
        session.say("stopped before the end of the input\n");
    }
    Ok(super::ended(&outcome.damaged))
}

/// Starts what stands beside the workers of live traffic, or where the configuration asks for it, and then
/// gives up what is not needed any more.
fn serve_beside(
    service: &Arc<Service>,
    config: &Config,
    is_live: bool,
    is_quiet: bool,
    signals: &Signals,
) -> anyhow::Result<Option<Control>> {
    let limits = &config.service;
    if !is_live && limits.metrics.is_none() && limits.control.is_none() {
        return Ok(None);
    }
    log::begin(limits.json_log, is_quiet);
    let listeners = Listeners::open(limits)?;
    if is_live {
        let writable = limits.control.as_deref().and_then(Path::parent);
        let confined = confine(&Confinement {
            user: limits.user.clone(),
            is_strict: limits.confine,
            writable: writable.map(Path::to_owned).into_iter().collect(),
            connects: !config.remote.is_empty(),
        })?;
        tracing::info!(confined = confined.join(", "), "privileges");
    }
    let (loaded, _) = service.switch.serving();
    tracing::info!(
        bundle = loaded.id,
        path = %loaded.path.display(),
        workers = config.workers,
        interfaces = config.live.interfaces.join(", "),
        metrics = listeners.metrics_address().map(|address| address.to_string()),
        "serving"
    );
    let reload = Arc::clone(&signals.reload);
    Ok(Some(Control::start(service, listeners, limits, reload)?))
}

/// The configuration, and over it what was typed on the command line.
fn typed(session: &Session, args: &RunArgs) -> Typed {
    let mut typed = session.typed.clone();
    if let Some(format) = &args.format {
        typed.output.format = Some(format.clone());
        typed.origin.put_over("output.format", "--format");
    }
    if args.provisional {
        typed.output.provisional = Some(true);
    }
    if let Some(workers) = args.workers {
        typed.limits.workers = Some(workers);
        typed.origin.put_over("limits.workers", "--workers");
    }
    if !args.interface.is_empty() {
        typed.live.interfaces = Some(args.interface.clone());
        typed.origin.put_over("live.interfaces", "--interface");
    }
    if let Some(filter) = &args.filter {
        typed.live.filter = Some(filter.clone());
        typed.origin.put_over("live.filter", "--filter");
    }
    typed
}

/// What workers are fed with.
struct Feed {
    /// A source for each worker.
    sources: Vec<Box<dyn Source>>,
    /// What the kernel counts, where packets come from interfaces.
    interfaces: Option<live::Counted>,
}

/// Opens the captures, or where there are none the interfaces.
fn feed(
    session: &Session,
    args: &RunArgs,
    config: &mut Config,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Feed> {
    if args.captures.is_empty() {
        if config.live.interfaces.is_empty() {
            super::wrong_line(
                "expected captures, or interfaces by --interface or live.interfaces, found neither",
            );
        }
        config.workers = config.listeners();
        let (sources, counted) = live::open(config, stop)?;
        let (names, workers) = (config.live.interfaces.join(", "), config.workers);
        let plural = if workers == 1 { "" } else { "s" };
        session.say(&format!("listening to {names} with {workers} worker{plural}\n"));
        return Ok(Feed { sources, interfaces: Some(counted) });
    }
    let paths = serveflow_io::expand(&args.captures)?;
    args.out.as_ref().map_or(Ok(()), |out| super::keep_captures(out, &paths))?;
    if config.workers == 0 {
        config.workers = workers::worth_while(&paths);
    }
    Ok(Feed { sources: open_sources(paths, stop, config), interfaces: None })
}

/// A source for each worker: the captures, or a share of them.
fn open_sources(
    paths: Vec<PathBuf>,
    stop: &Arc<AtomicBool>,
    config: &Config,
) -> Vec<Box<dyn Source>> {
    let source = open_source(paths, stop);
    if config.workers == 1 {
        return vec![source];
    }
    let FlowConfig { key, seed, idle_ns, .. } = config.engine.flows;
    let sharder = Sharder::new(config.workers as u32, key, seed);
    let shares = share_out(source, sharder, idle_ns).into_iter();
    shares.map(|share| -> Box<dyn Source> { Box::new(share) }).collect()
}

/// The captures; pipes and the like on a thread, so that they do not hold up a stop.
fn open_source(paths: Vec<PathBuf>, stop: &Arc<AtomicBool>) -> Box<dyn Source> {
    let never_waits = paths.iter().all(|path| path != Path::new("-") && path.is_file());
    let files = Box::new(FileSource::new(paths));
    if never_waits { files } else { Box::new(PatientSource::new(files, Arc::clone(stop))) }
}

/// The output, as an error names it.
fn output(args: &RunArgs) -> String {
    args.out.as_ref().map_or("standard output".to_owned(), |path| path.display().to_string())
}

/// A sink for each worker, all with one output.
fn open_sinks(
    config: &Config,
    args: &RunArgs,
    bundle: &Bundle,
) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let kind = SINKS.iter().find(|kind| kind.name == config.format);
    let kind = kind.context("the config was checked")?;
    let writer: Box<dyn Write + Send> = match &args.out {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("{}: cannot write", path.display()))?)
        }
    };
    let writer = SharedWriter::new(writer);
    let stages = bundle.cascade.stages().iter().map(|stage| stage.name.clone());
    let (labels, stages) = (bundle.cascade.labels(), stages.collect::<Vec<_>>());
    let open = |worker| (kind.open)(Box::new(writer.clone()), labels, &stages, worker == 0);
    Ok((0..config.workers).map(open).collect())
}
