//! `serveflow features`: captures in, a table of features out.

use super::data_args::{FeaturesArgs, RowPer, TableFormat};
use super::progress::Progress;
use super::{Session, labelled, reports};
use anyhow::{Context, anyhow, bail};
use serveflow::table::{
    CsvTable, FLOW_KEYS, Key, KeyColumn, LABEL_KEYS, PACKET_KEYS, ParquetTable, Table, TableHead,
    flow_keys, packet_features, write_packets,
};
use serveflow_core::counters::Counters;
use serveflow_core::engine::{Engine, EngineConfig};
use serveflow_core::features::FeatureSpec;
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::rows::{Column, RowShape};
use serveflow_core::{FlowConfig, NO_WINDOW};
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{FileSource, InputCounts, InputSet, Memory, PipeTime, SourceError};
use serveflow_label::{FileLabels, LabelBook, read_table};
use serveflow_serve::summary;
use serveflow_train::dataset::survey;
use serveflow_train::dataset::{RecordPlan, RecordingLane, record, recording_cascade};
use serveflow_train::pipeline::Step;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const MILLISECOND: u64 = 1_000_000;

/// What the summary reports.
struct Outcome {
    accounts: Counters,
    /// What became of the captures, where they were read as one.
    inputs: Option<InputCounts>,
    damaged: Vec<SourceError>,
}

pub(crate) fn features(session: &Session, args: &FeaturesArgs) -> anyhow::Result<ExitCode> {
    let captures = super::inputs::find(session, &args.captures)?;
    super::keep_captures(&args.out, &captures.paths())?;
    // Before the work, which may take long.
    reports::keep_plain("--out", &args.out)?;
    format(args)?;
    keep_tables(args)?;
    let outcome = match (args.per, &args.labels) {
        (RowPer::Packet, None) => per_packet(session, args, captures),
        (RowPer::Packet, Some(_)) => bail!("--labels: expected --per flow, found --per packet"),
        (RowPer::Flow, None) => per_flow(session, args, captures),
        (RowPer::Flow, Some(labels)) => per_labelled_flow(session, args, &captures.paths(), labels),
    };
    let outcome = match outcome {
        // The reader closed the output: there is nothing to report.
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<io::Error>() => {
            return Err(error.context(format!("{}: cannot write", args.out.display())));
        }
        outcome => outcome?,
    };
    session.say(&summary::accounts(&outcome.accounts));
    session.say(&summary::inputs(outcome.inputs.as_ref()));
    Ok(super::ended(&outcome.damaged))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn spec(args: &FeaturesArgs, encoders: Vec<String>) -> anyhow::Result<FeatureSpec> {
    if args.packets == 0 {
        bail!("--packets: expected at least 1, found 0");
    }
    Ok(FeatureSpec {
        encoders,
        packets: args.packets,
        layout: HeaderLayout::new(&args.features.headers),
        masks: args.features.masks().collect(),
    })
}

/// The format that was stated, or else the one that the table's name ends in.
fn format(args: &FeaturesArgs) -> anyhow::Result<TableFormat> {
    let ending = args.out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let by_ending = match ending.as_deref() {
        Some("csv") => Some(TableFormat::Csv),
        Some("parquet") => Some(TableFormat::Parquet),
        _ => None,
    };
    match (args.format, by_ending) {
        (Some(stated), Some(other)) if stated != other => {
            let name = |format| if format == TableFormat::Csv { "csv" } else { "parquet" };
            let (stated, out) = (name(stated), args.out.display());
            bail!("--format {stated}: expected a name that ends in .{stated}, found {out}")
        }
        (stated, by_ending) => Ok(stated.or(by_ending).unwrap_or(TableFormat::Csv)),
    }
}

/// Refuses a table that is there already, unless it may go.
fn keep_tables(args: &FeaturesArgs) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(&args.out).ok();
    let is_there = metadata.is_some_and(|file| file.is_file() && file.len() > 0);
    anyhow::ensure!(
        !is_there || args.overwrite || args.out == Path::new("-"),
        "{}: expected a new or an empty file, found one with content; --overwrite empties it",
        args.out.display()
    );
    Ok(())
}

fn open(
    args: &FeaturesArgs,
    keys: &[KeyColumn],
    columns: Vec<Column>,
    shape: RowShape,
) -> anyhow::Result<Box<dyn Table>> {
    let writer: Box<dyn Write + Send> = if args.out == Path::new("-") {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(&args.out)?)
    };
    let head = TableHead { keys: keys.to_vec(), columns };
    Ok(match format(args)? {
        TableFormat::Csv => Box::new(CsvTable::new(writer, head)),
        TableFormat::Parquet => Box::new(ParquetTable::new(writer, head, shape)?),
    })
}

fn per_packet(
    session: &Session,
    args: &FeaturesArgs,
    captures: InputSet,
) -> anyhow::Result<Outcome> {
    let encoders = match args.features.features.as_slice() {
        [] => vec!["header_bits".to_owned()],
        typed => typed.to_vec(),
    };
    let features = packet_features(&spec(args, encoders)?).context("--per packet")?;
    let mut table = open(args, &PACKET_KEYS, features.columns(), features.shape())?;
    let config = session.typed.check(&FlowConfig::default())?;
    let mut source = FileSource::of(captures, args.tables.rules(&config, PipeTime::Recorded));
    let inputs = Some(source.counts());
    let rules = config.engine.flows.key;
    let tally = write_packets(&mut source, &features, rules, table.as_mut())?;
    table.finish()?;
    Ok(Outcome { accounts: tally.accounts, inputs, damaged: tally.damaged })
}

fn plan(args: &FeaturesArgs, engine: &EngineConfig) -> anyhow::Result<RecordPlan> {
    let spec = spec(args, args.features.encoders())?;
    let wait_ns = args.features.wait_ms.saturating_mul(MILLISECOND);
    let flows = args.features.flows(engine.flows);
    if args.at_window_end && flows.window_ns == NO_WINDOW {
        bail!("--at-window-end: expected windows (--window-ms), found none");
    }
    let of_window = usize::from(args.at_window_end);
    Ok(RecordPlan { specs: vec![spec], wait_ns, of_window, flows })
}

/// The flow tables of `serveflow run`: one for all captures, as a rule.
fn per_flow(session: &Session, args: &FeaturesArgs, captures: InputSet) -> anyhow::Result<Outcome> {
    let config = session.typed.check(&FlowConfig::default())?;
    let plan = plan(args, &config.engine)?;
    let cascade = Arc::new(recording_cascade(&plan)?);
    let features = &cascade.stages()[0].features;
    let mut table = open(args, &FLOW_KEYS, features.columns(), features.shape())?;
    let mut source = FileSource::of(captures, args.tables.rules(&config, PipeTime::Recorded));
    let inputs = Some(source.counts());
    let engine = EngineConfig { provisional: false, flows: plan.flows, ..config.engine };
    let mut engine = Engine::new(Arc::clone(&cascade), engine);
    let (lane, kept) = RecordingLane::new(&cascade);
    let mut sink = Memory::default();
    let outcome = Worker {
        engine: &mut engine,
        lanes: &mut vec![Box::new(lane)],
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames: config.batch_frames,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut source, &mut |_, _| ControlFlow::Continue(()))?;
    let kept = kept.lock().expect("no holder of the rows panics");
    let rows = &kept[0];
    let row_of: HashMap<u64, usize> = rows.flows.iter().copied().zip(0..).collect();
    sink.verdicts.sort_unstable_by_key(|verdict| verdict.id);
    for verdict in &sink.verdicts {
        let (Some(answer), Some(&row)) = (&verdict.answer, row_of.get(&verdict.id)) else {
            continue;
        };
        let keys = flow_keys(&verdict.flow, verdict.first_ns, answer.packets);
        table.push(&keys, &rows.rows, row)?;
    }
    table.finish()?;
    Ok(Outcome { accounts: *engine.accounts(), inputs, damaged: outcome.damaged })
}

/// A flow table for each capture, as training has it.
fn per_labelled_flow(
    session: &Session,
    args: &FeaturesArgs,
    captures: &[PathBuf],
    labels: &Path,
) -> anyhow::Result<Outcome> {
    let directory = labels.parent().unwrap_or(Path::new(""));
    let table = read_table(labels, directory)?;
    let book = only(table.clone(), captures);
    if book.files.is_empty() {
        return Err(no_line(session, &table, captures));
    }
    let config = session.typed.check(&FlowConfig::default())?;
    let plan = plan(args, &config.engine)?;
    let mut progress = Progress::new(session);
    let files = book.files.len();
    let dataset = record(&book, &plan, &mut |done| progress.step(Step::Recording(done, files)))?;
    progress.finish();
    labelled::compared(session, &book, &dataset, captures, plan.flows)?;
    let keys: Vec<KeyColumn> = FLOW_KEYS.into_iter().chain(LABEL_KEYS).collect();
    let mut table = open(args, &keys, dataset.columns[0].clone(), dataset.rows[0].shape())?;
    let name = |path: &PathBuf| {
        path.strip_prefix(directory).unwrap_or(path).to_string_lossy().into_owned()
    };
    let names: Vec<String> = book.files.keys().map(name).collect();
    for (row, flow) in dataset.flows.iter().enumerate() {
        let text = |words: &'_ str| Key::Text(words.to_owned().into());
        let label = flow.label.map_or("", |label| dataset.labels[usize::from(label)].as_str());
        let split = flow.label.map_or("", |_| flow.split.name());
        let mut cells = flow_keys(&flow.flow, flow.first_ns, flow.packets).to_vec();
        cells.extend([text(&names[flow.file]), text(label), text(split)]);
        table.push(&cells, &dataset.rows[0], row)?;
    }
    table.finish()?;
    Ok(Outcome { accounts: dataset.accounts, inputs: None, damaged: dataset.damaged })
}

/// Why a label table has no line for any of the captures.
fn no_line(session: &Session, table: &LabelBook, captures: &[PathBuf]) -> anyhow::Error {
    let nothing = LabelBook { files: BTreeMap::new(), ..table.clone() };
    let flows = FlowConfig::default();
    let compared = survey(&nothing, flows, &mut |_| {}).map_err(Into::into).and_then(|mut none| {
        none.missing = table.files.values().map(FileLabels::listed).sum();
        labelled::compared(session, table, &none, captures, flows)
    });
    let table = table.path.display();
    let refused = || anyhow!("{table}: expected lines for one of the captures, found none");
    compared.err().unwrap_or_else(refused)
}

/// The book without captures that are not among the given ones.
fn only(mut book: LabelBook, captures: &[PathBuf]) -> LabelBook {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let given: BTreeSet<PathBuf> = captures.iter().map(|path| real(path)).collect();
    book.files.retain(|path, _| given.contains(&real(path)));
    book
}
