//! `serveflow run`: captures in, verdicts out.

use super::Session;
use super::args::RunArgs;
use anyhow::Context;
use serveflow::config::Config;
use serveflow::patient::PatientSource;
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
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(session: &Session, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (mut bundle, remote) = session.load(&args.bundle)?;
    let mut typed = session.typed.clone();
    if let Some(format) = &args.format {
        typed.output.format = Some(format.clone());
    }
    if args.provisional {
        typed.output.provisional = Some(true);
    }
    if let Some(workers) = args.workers {
        typed.limits.workers = Some(workers);
    }
    let mut config = typed.check_for(&bundle)?;
    bundle.place(&config.lanes.places(&bundle)?);
    if typed.flows.seed.is_none() {
        // Nobody outside may know which five-tuples share a slot of the table. No verdict depends
        // on the seed.
        config.engine.flows.seed = RandomState::new().build_hasher().finish();
    }
    let paths = serveflow_io::expand(&args.captures)?;
    args.out.as_ref().map_or(Ok(()), |out| super::keep_captures(out, &paths))?;
    if config.workers == 0 {
        config.workers = workers::worth_while(&paths);
    }
    let sinks = open_sinks(&config, args, &bundle)?;
    let stop = stop_flag()?;
    let sources = open_sources(paths, &stop, &config);
    let posts = sources.into_iter().zip(sinks).map(|(source, sink)| Post { source, sink });
    let started = session.wall_ns();
    let crew = Crew {
        bundle: &bundle,
        config: &config,
        selection: config.selection.clone(),
        wall: super::clock_ns,
        stop: &stop,
    };
    let Served { accounts, batches, outcome } = workers::serve(&crew, posts.collect());
    let took = std::time::Duration::from_nanos(session.wall_ns() - started);
    session.say(&summary::accounts(&accounts));
    let names = bundle.cascade.stages().iter().map(|stage| stage.name.as_str());
    session.say(&summary::batches(names.zip(batches)));
    session.say(&summary::remote(&remote.status()));
    session.say(&summary::speed(&accounts, took));
    let outcome = match outcome {
        // The reader of our output has seen enough: nobody is left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        outcome => outcome.with_context(|| format!("{}: cannot write verdicts", output(args)))?,
    };
    assert!(accounts.balance(), "every packet and every flow stands in one place");
    if outcome.stopped {
        session.say("stopped before the end of the input\n");
    }
    Ok(super::ended(&outcome.damaged))
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

/// Set by SIGINT and SIGTERM: the run ends, and every open flow gets its verdict.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("cannot listen for signals")?;
    Ok(stop)
}
