//! The commands, one file each.

pub(crate) mod args;
mod bench;
mod bench_scale;
mod bundle;
mod check;
mod claim;
mod control;
mod data_args;
mod demo;
#[cfg(test)]
mod document_tests;
mod evaluate;
mod features;
#[cfg(test)]
mod help_tests;
#[cfg(test)]
mod house_words;
mod inputs;
mod inspect;
mod labelled;
mod output;
mod plan_args;
mod progress;
mod replan;
mod reports;
mod run;
mod sample;
mod serve_args;
mod signals;
mod train;
mod train_args;
mod trainer_args;
mod values;

use anyhow::Context;
use args::{Cli, Command, program};
use bench::args::BenchCommand;
use bundle::BundleCommand;
use data_args::{Labelled, LabelsFrom};
use serve_args::ConfigCommand;
use serveflow_io::inputs::told_left_out;
use serveflow_io::os::was_stdout_closed;
use serveflow_io::{InputSet, Severity, SourceError};
use serveflow_label::{LabelBook, by_path, from_comments, read_table};
use serveflow_model::bundle::Bundle;
use serveflow_report::html::{Section, html};
use serveflow_serve::clock;
use serveflow_serve::config::{EXAMPLE, Typed};
use serveflow_serve::remote::Remote;
use serveflow_serve::service::log;
use serveflow_train::planner::report::PlanReport;
use serveflow_train::session::{self, Page};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Part of the input was skipped: it is damaged, or of an unsupported link type.
const NOT_ALL_SERVED: u8 = 3;

/// Something was lost and is counted: records, scores for flows of a capture, a worker.
const LOST: u8 = serveflow_serve::service::EXIT_LOST as u8;

/// What the commands share.
pub(crate) struct Session {
    /// The operator's configuration as it was typed.
    pub(crate) typed: Typed,
    /// No progress and no summary.
    pub(crate) quiet: bool,
}

impl Session {
    /// Wall time, nanoseconds from a fixed start.
    pub(crate) fn wall_ns(&self) -> u64 {
        clock::now_ns()
    }

    /// Reads a bundle to serve and connects its remote models. Refuses one whose servers are not
    /// configured.
    pub(crate) fn load(&self, dir: &Path) -> anyhow::Result<(Bundle, Remote)> {
        let remote = Remote::put_in_place(self.typed.servers()?);
        Ok((Bundle::load(dir)?, remote))
    }

    /// Writes to standard error, unless --quiet; to the log where there is one.
    pub(crate) fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        match log::is_begun() {
            true => text.lines().for_each(|line| tracing::info!("{line}")),
            false => complain(text),
        }
    }
}

/// Writes to standard error, or to the log where there is one. A closed standard error is no error.
pub(crate) fn complain(text: &str) {
    if log::is_begun() {
        return text.lines().for_each(|line| tracing::error!("{line}"));
    }
    let _ = std::io::stderr().write_all(log::shown(text).as_bytes());
}

/// Refuses an output that is one of the captures, under any name, before opening empties it.
fn keep_captures(out: &Path, captures: &[PathBuf]) -> anyhow::Result<()> {
    let id = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let Some(out_id) = id(out) else { return Ok(()) };
    anyhow::ensure!(
        !(out.is_file() && captures.iter().any(|capture| id(capture) == Some(out_id))),
        "{}: expected an output other than the captures, found one of them",
        out.display()
    );
    Ok(())
}

/// Does what was typed.
pub(crate) fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let typed = cli.global.config.as_deref().map(Typed::load).transpose()?.unwrap_or_default();
    typed.open_models()?;
    let session = Session { typed, quiet: cli.global.quiet };
    // A file that may not grow (ulimit -f) is a write error; it does not end the process.
    let is_seen = Arc::<AtomicBool>::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, is_seen)?;
    serveflow_model::formats::measure_with(clock::now_ns);
    match cli.command {
        Command::Demo(args) => demo::demo(&session, &args),
        Command::Features(args) => features::features(&session, &args),
        Command::Train(args) => train::train(&session, &args),
        Command::Replan(args) => replan::replan(&session, &args),
        Command::Run(args) => run::run(&session, &args),
        Command::Check(args) => check::check(&session, &args),
        Command::Control(args) => control::control(&session, &args),
        Command::Evaluate(args) => evaluate::evaluate(&session, &args),
        Command::Inspect(args) => inspect::inspect(&session, &args),
        Command::Bundle { what } => match what {
            BundleCommand::Add(args) => bundle::add(&session, &args),
            BundleCommand::Pack(args) => bundle::pack(&session, &args),
            BundleCommand::Check(args) => bundle::check(&args),
        },
        Command::Bench { what } => match what {
            BenchCommand::Traffic(args) => bench::traffic(&session, &args),
            BenchCommand::Paper(args) => bench::paper(&session, &args),
            BenchCommand::Models(args) => bench::models(&session, &args),
            BenchCommand::Packets(args) => bench::packets(&session, &args),
            BenchCommand::Scale(args) => bench_scale::scale(&session, &args),
        },
        Command::Config { what: ConfigCommand::Example } => {
            print(EXAMPLE)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut program(), "serveflow", &mut text);
            print(&String::from_utf8_lossy(&text))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            print(&manual()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The bundle to serve: that of the command line, else that of the configuration. Without either
/// the command line is wrong.
fn served_bundle(named: Option<&Path>, typed: &Typed) -> PathBuf {
    let bundle = named.map(Path::to_owned).or_else(|| typed.service.bundle.clone());
    bundle.unwrap_or_else(|| {
        wrong_line("expected a bundle, by --bundle or service.bundle, found neither")
    })
}

/// Ends the program because the command line is wrong; names the command that knows the option.
pub(crate) fn mistyped(mut error: clap::Error) -> ! {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let is_window = error.get(ContextKind::InvalidArg).is_some_and(
        |found| matches!(found, ContextValue::String(option) if option.starts_with("--window-ms")),
    );
    if error.kind() == ErrorKind::UnknownArgument && is_window {
        // An option that is like it in letters alone would mislead.
        error.remove(ContextKind::SuggestedArg);
        let tip = "windows belong to the bundle: give --window-ms to `train` or `features`, or set \
                   flows.window_ms in the file of --config";
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error.exit()
}

/// Ends the program because the command line and the configuration lack something.
fn wrong_line(message: &str) -> ! {
    let mut program = program();
    program.error(clap::error::ErrorKind::MissingRequiredArgument, message).exit()
}

/// The label book of labelled captures; files that are no captures are named.
fn label_book(session: &Session, labelled: &Labelled) -> anyhow::Result<LabelBook> {
    let book = match (&labelled.labels, labelled.labels_from) {
        (Some(table), _) => read_table(table, &labelled.captures)?,
        (None, LabelsFrom::Path) => by_path(&labelled.captures)?,
        (None, LabelsFrom::Pcapml) => {
            let set = InputSet::find(&[&labelled.captures])?;
            let book = from_comments(&set.paths())?;
            LabelBook { left_out: set.left_out().to_vec(), ..book }
        }
    };
    session.say(&told_left_out(&book.left_out));
    Ok(book)
}

/// Something about an input, as it is written to standard error.
trait Notice {
    /// The line.
    fn line(&self) -> String;

    /// What it means for the input.
    fn severity(&self) -> Severity;
}

impl Notice for SourceError {
    fn line(&self) -> String {
        self.line()
    }

    fn severity(&self) -> Severity {
        self.severity()
    }
}

/// The line, as reports keep it.
impl Notice for String {
    fn line(&self) -> String {
        self.clone()
    }

    fn severity(&self) -> Severity {
        Severity::of_line(self)
    }
}

/// Writes the notices about the inputs; the exit code that they mean.
fn ended(notices: &[impl Notice]) -> ExitCode {
    notices.iter().for_each(|notice| complain(&format!("{}\n", log::shown_line(&notice.line()))));
    let is_served = notices.iter().all(|notice| notice.severity() == Severity::Warning);
    if is_served { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL_SERVED) }
}

/// Writes a plan's report beside the bundle, and prints it.
fn publish(session: &Session, out: &Path, told: &PlanReport) -> anyhow::Result<()> {
    let mut text = serveflow_report::text::text(told);
    let mut extras = Vec::new();
    if let Some(audit) = &told.audit {
        let section = audit.text();
        text.push_str(&format!("\nAudit\n\n{section}"));
        extras.push(Section { title: "Audit".to_owned(), text: section });
    }
    let page = html(told, &extras);
    let pages =
        [Page { name: "report.txt", text: &text }, Page { name: "report.html", text: &page }];
    session::publish(out, told, &pages)?;
    session.say(&text);
    let id = &told.bundle[..16.min(told.bundle.len())];
    session.say(&format!(
        "bundle {id} written to {}; its report is in report.html and report.txt\n",
        out.display()
    ));
    Ok(())
}

/// Writes a file whole.
fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}

/// Writes to standard output what people read; unlike `print!`, an output that was closed is an
/// error, no panic.
fn print(text: &str) -> anyhow::Result<()> {
    print_as_is(&log::shown(text))
}

/// Writes to standard output without escaping control characters.
fn print_as_is(text: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        !was_stdout_closed(),
        "standard output: expected an open output, found it closed"
    );
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// The manual: a page for the program and for each command, those inside of others too.
fn manual() -> anyhow::Result<String> {
    fn pages(command: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
        clap_mangen::Man::new(command.clone()).render(text)?;
        let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
        inner.into_iter().try_for_each(|inner| pages(inner, text))
    }
    let mut text = Vec::new();
    let mut program = program();
    program.build();
    pages(&program, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether an error only says that nobody reads our output any more.
pub(crate) fn is_closed_output(error: &anyhow::Error) -> bool {
    let broken = |io: &std::io::Error| io.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}
