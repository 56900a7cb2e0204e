//! `serveflow run`: captures in, verdicts out.

use super::Session;
use super::args::RunArgs;
use anyhow::Context;
use serveflow::patient::PatientSource;
use serveflow::{lanes, summary};
use serveflow_core::engine::Engine;
use serveflow_io::drive::Worker;
use serveflow_io::{FileSource, SINKS, Sink, Source};
use serveflow_model::bundle::Bundle;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(session: &Session, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut bundle = Bundle::load(&args.bundle)?;
    let mut typed = session.typed.clone();
    if let Some(format) = &args.format {
        typed.output.format = Some(format.clone());
    }
    if args.provisional {
        typed.output.provisional = Some(true);
    }
    let mut config = typed.check(&bundle.flow_config())?;
    bundle.place(&config.lanes.places(&bundle)?);
    if typed.flows.seed.is_none() {
        // Nobody outside may know which five-tuples share a slot of the table. No verdict depends
        // on the seed.
        config.engine.flows.seed = RandomState::new().build_hasher().finish();
    }
    let paths = serveflow_io::expand(&args.captures)?;
    args.out.as_ref().map_or(Ok(()), |out| super::keep_captures(out, &paths))?;
    let mut sink = open_sink(&config.format, args, &bundle)?;
    let mut engine = Engine::new(Arc::clone(&bundle.cascade), config.engine);
    let mut lanes = lanes::build(&bundle.models, config.lane_jobs);
    let stop = stop_flag()?;
    let mut source = open_source(paths, &stop);
    let started = session.wall_ns();
    let outcome = Worker {
        engine: &mut engine,
        lanes: &mut lanes,
        sink: sink.as_mut(),
        wall: &mut || session.wall_ns(),
        batch_frames: config.batch_frames,
        when_full: config.lanes.when_full(true),
    }
    .run(source.as_mut(), &mut |_, _| match stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let took = std::time::Duration::from_nanos(session.wall_ns() - started);
    let accounts = engine.accounts();
    session.say(&summary::accounts(accounts));
    session.say(&summary::speed(accounts, took));
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

fn open_sink(format: &str, args: &RunArgs, bundle: &Bundle) -> anyhow::Result<Box<dyn Sink>> {
    let kind = SINKS.iter().find(|kind| kind.name == format).context("the config was checked")?;
    let writer: Box<dyn Write + Send> = match &args.out {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("{}: cannot write", path.display()))?)
        }
    };
    let stages = bundle.cascade.stages().iter().map(|stage| stage.name.clone());
    Ok((kind.open)(writer, bundle.cascade.labels(), &stages.collect::<Vec<_>>()))
}

/// Set by SIGINT and SIGTERM: the run ends, and every open flow gets its verdict.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("cannot listen for signals")?;
    Ok(stop)
}
