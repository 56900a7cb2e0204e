//! `serveflow run`: captures or live packets in, verdicts out.

use super::Session;
use super::output::{Outlet, RunKind};
use super::serve_args::RunArgs;
use super::signals::Signals;
use serveflow_core::FlowConfig;
use serveflow_core::counters::Counters;
use serveflow_core::shard::Sharder;
use serveflow_io::{FileSource, InputCounts, PipeTime, Source, share_out};
use serveflow_model::bundle::Bundle;
use serveflow_serve::clock;
use serveflow_serve::config::{Config, Typed};
use serveflow_serve::interruptible_source::InterruptibleSource;
use serveflow_serve::lanes::LaneMaker;
use serveflow_serve::live;
use serveflow_serve::panics;
use serveflow_serve::service::preflight::{self, Needs, Opens, Start};
use serveflow_serve::service::{
    Attaching, BundleSwap, Control, Listeners, LoadedBundle, Sandbox, Service, confine, log,
};
use serveflow_serve::summary;
use serveflow_serve::workers::{self, Failure, ServeError, WorkerIo, WorkerOutcome, WorkerSetup};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) fn run(session: &Session, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let signals = Signals::catch()?;
    panics::tell_in_one_line();
    let typed = typed(session, args);
    let path = super::served_bundle(args.bundle.as_deref(), &typed);
    let (bundle, remote) = session.load(&path)?;
    let mut config = typed.check_for(&bundle)?;
    if session.typed.flows.seed.is_none() {
        config.engine.flows.seed = fresh_seed();
    }
    let run = kind(session, args, &config);
    let fed = feed(session, args, &typed, &bundle, &mut config, &signals.stop)?;
    let Feed { sources, interfaces, listeners, attacher, inputs, drains } = fed;
    let loaded = LoadedBundle::new(bundle, &path, &config)?;
    let (workers, stop) = (sources.len(), Arc::clone(&signals.stop));
    let maker = LaneMaker::new(&config, workers, run.is_live, clock::now_ns, &stop);
    let switch = BundleSwap::new(loaded, config.clone(), typed, maker);
    let service = Service::new(switch, workers, interfaces, Arc::clone(&stop));
    // Last of all that may refuse: a start that fails leaves what is there as it is.
    let outlet = Outlet::open(&config, args.into(), run)?;
    let attaching = match run.is_live {
        true => give_up_privileges(&config, &outlet, attacher, &path)?,
        false => None,
    };
    log::follow()?;
    let verdicts = outlet.begin()?;
    let service = Arc::new(service.writing_to(verdicts.output()));
    let beside = run.is_service().then(|| serve_beside(&service, &config, listeners, &signals));
    let guard = beside.transpose()?;
    signals.follow(verdicts.output())?;
    let started = session.wall_ns();
    let (first, _) = service.switch.serving();
    let sinks = verdicts.sinks(&config, &first.bundle);
    let posts = sources.into_iter().zip(sinks).map(|(source, sink)| WorkerIo { source, sink });
    let crew = WorkerSetup {
        bundle: &first.bundle,
        config: &config,
        selection: config.selection.clone(),
        wall: clock::now_ns,
        stop: &stop,
        is_live: run.is_live,
        drains,
        service: guard.is_some().then_some(&*service),
        drift: Some(&service.drift),
    };
    let served = workers::serve(&crew, posts.collect());
    drop(attaching);
    let took = Duration::from_nanos(session.wall_ns() - started);
    let status = verdicts.close(
        session,
        run,
        Duration::from_millis(config.service.shutdown_timeout_ms as u64 / 2),
    );
    // A slow reader may take its time: the endpoints respond meanwhile.
    drop(guard);
    summarize(session, &service, &served, took);
    session.say(&summary::inputs(inputs.as_ref()));
    session.say(&summary::remote(&remote.status()));
    if let Err(ServeError::Output(error)) = &served.outcome {
        verdicts.failed(error, run, &status)?;
        return Ok(ExitCode::SUCCESS);
    }
    exit_code(session, served, status.all_lost(), workers, run)
}

/// The exit code of a run whose output worked.
fn exit_code(
    session: &Session,
    served: WorkerOutcome,
    lost_records: u64,
    workers: usize,
    run: RunKind,
) -> anyhow::Result<ExitCode> {
    let WorkerOutcome { accounts, failures, outcome, .. } = served;
    let outcome = outcome?;
    assert!(accounts.balance(), "every packet and every flow is counted once");
    if outcome.stopped && !run.is_live {
        session.say("stopped before the end of the input\n");
    }
    let is_whole = missing(&accounts, &failures, workers, run)? && lost_records == 0;
    let ended = super::ended(&outcome.damaged);
    Ok(if is_whole { ended } else { ExitCode::from(super::LOST) })
}

/// A secret seed of the table's hash, so that an attacker cannot choose five-tuples that share a
/// slot. No verdict depends on it.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Reports missing scores, even with --quiet; whether there are none. Live traffic
/// sheds, which is no fault; a capture waits, so each of its flows should have its answer.
fn missing(
    accounts: &Counters,
    failures: &[Failure],
    workers: usize,
    run: RunKind,
) -> anyhow::Result<bool> {
    super::complain(&summary::failures(failures));
    anyhow::ensure!(failures.len() < workers, "every worker failed");
    let lost_answers = if run.is_live { 0 } else { summary::lost(accounts) };
    if lost_answers > 0 {
        super::complain(&summary::lost_answers(accounts));
    }
    Ok(lost_answers == 0 && failures.is_empty())
}

/// What kind of run it is; that of a service begins its log.
fn kind(session: &Session, args: &RunArgs, config: &Config) -> RunKind {
    let limits = &config.service;
    let run = RunKind {
        is_live: args.captures.is_empty(),
        is_watched: limits.metrics.is_some() || limits.control.is_some(),
    };
    if run.is_service() {
        log::begin(limits.json_log, session.quiet);
    }
    run
}

/// The closing summary.
fn summarize(session: &Session, service: &Service, served: &WorkerOutcome, took: Duration) {
    session.say(&summary::accounts(&served.accounts));
    session.say(&live::summary(&service.interfaces()));
    session.say(&summary::batches(&served.batches));
    session.say(&service.drift.summary());
    session.say(&summary::speed(&served.accounts, took));
}

/// Drops privileges once everything is open. The output's directory stays writable, and
/// the thread that waits for interfaces keeps what it needs.
fn give_up_privileges(
    config: &Config,
    outlet: &Outlet,
    attacher: Option<live::Attacher>,
    bundle: &Path,
) -> anyhow::Result<Option<Attaching>> {
    let limits = &config.service;
    let warnings = preflight::warnings(config, bundle);
    let attaching = attacher.map(Attaching::start).transpose()?;
    if let Some(user) = &limits.user {
        outlet.give_to(user)?;
    }
    let control = limits.control.as_deref().and_then(Path::parent).map(Path::to_owned);
    let confinement = Sandbox {
        user: limits.user.clone(),
        is_strict: limits.confine,
        writable: control.into_iter().chain(outlet.directory()).collect(),
        connects: !config.remote.is_empty(),
    };
    let confined = confine(&confinement)?;
    attaching.iter().for_each(|attaching| attaching.begin(&confinement));
    tracing::info!(confined = confined.join(", "), "privileges");
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    outlet.look_ahead(&config.output)?;
    Ok(attaching)
}

/// Starts the control and metrics endpoints of a service.
fn serve_beside(
    service: &Arc<Service>,
    config: &Config,
    listeners: Listeners,
    signals: &Signals,
) -> anyhow::Result<Control> {
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
    Ok(Control::start(service, listeners, &config.service, reload)?)
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
    put_over(&mut typed, &args.interface, args.filter.as_ref(), args.workers);
    typed
}

/// Puts what was typed of interfaces and workers over the configuration.
pub(super) fn put_over(
    typed: &mut Typed,
    interfaces: &[String],
    filter: Option<&String>,
    workers: Option<usize>,
) {
    if let Some(workers) = workers {
        typed.limits.workers = Some(workers);
        typed.origin.put_over("limits.workers", "--workers");
    }
    if !interfaces.is_empty() {
        typed.live.interfaces = Some(interfaces.to_vec());
        typed.origin.put_over("live.interfaces", "--interface");
    }
    if let Some(filter) = filter {
        typed.live.filter = Some(filter.clone());
        typed.origin.put_over("live.filter", "--filter");
    }
}

/// What workers are fed with.
struct Feed {
    /// A source for each worker.
    sources: Vec<Box<dyn Source>>,
    /// What the kernel counts, where packets come from interfaces.
    interfaces: Option<live::Counted>,
    /// Sockets of metrics and control.
    listeners: Listeners,
    /// Listens to interfaces that come later, where they are waited for.
    attacher: Option<live::Attacher>,
    /// What becomes of captures.
    inputs: Option<InputCounts>,
    /// Whether sources end by themselves when they are stopped.
    drains: bool,
}

/// Opens the captures, or where there are none the interfaces.
fn feed(
    session: &Session,
    args: &RunArgs,
    typed: &Typed,
    bundle: &Bundle,
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
        let needs = Needs::of(config, bundle);
        let Start { live, listeners } = preflight::open(typed, config, &needs, Opens::All, stop)?;
        let (names, workers) = (config.live.interfaces.join(", "), config.workers);
        let plural = if workers == 1 { "" } else { "s" };
        session.say(&format!("listening to {names} with {workers} worker{plural}\n"));
        let live::LiveInput { sources, counted, attacher } = live;
        return Ok(Feed {
            sources,
            interfaces: Some(counted),
            listeners,
            attacher,
            inputs: None,
            drains: true,
        });
    }
    let set = super::inputs::find(session, &args.captures)?;
    let paths = set.paths();
    args.out.as_ref().map_or(Ok(()), |out| super::keep_captures(out, &paths))?;
    if config.workers == 0 {
        config.workers = workers::worth_while(&paths);
    }
    let listeners = preflight::listeners(typed, config)?;
    let pipe = if args.live_pipe { PipeTime::Live } else { PipeTime::ByStamps(clock::epoch_ns) };
    let files = FileSource::of(set, args.tables.rules(config, pipe)).ending_with(Arc::clone(stop));
    let inputs = Some(files.counts());
    let never_waits = paths.iter().all(|path| path != Path::new("-") && path.is_file());
    // Pipes and the like are read on a thread, so that they do not hold up a stop.
    let source: Box<dyn Source> = if never_waits {
        Box::new(files)
    } else {
        Box::new(InterruptibleSource::new(Box::new(files), Arc::clone(stop), clock::now_ns)?)
    };
    let drains = !never_waits;
    let sources = share_sources(source, config);
    Ok(Feed { sources, interfaces: None, listeners, attacher: None, inputs, drains })
}

/// A source for each worker: the captures, or a share of them.
fn share_sources(source: Box<dyn Source>, config: &Config) -> Vec<Box<dyn Source>> {
    if config.workers == 1 {
        return vec![source];
    }
    let FlowConfig { key, seed, idle_ns, .. } = config.engine.flows;
    let sharder = Sharder::new(config.workers as u32, key, seed);
    let shares = share_out(source, sharder, idle_ns).into_iter();
    shares.map(|share| -> Box<dyn Source> { Box::new(share) }).collect()
}
