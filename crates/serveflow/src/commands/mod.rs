//! The commands, one file each.

pub(crate) mod args;
mod evaluate;
mod features;
mod inspect;
mod progress;
mod run;
mod train;

use anyhow::Context;
use args::{Cli, Command, Labelled, LabelsFrom};
use clap::CommandFactory;
use serveflow::config::Typed;
use serveflow_train::labels::{LabelBook, by_path, from_comments, read_table};
use std::process::ExitCode;
use std::time::Instant;

/// An input was damaged; everything before the damage was served.
const DAMAGED: u8 = 3;

/// What the commands share.
pub(crate) struct Session {
    /// The operator's configuration as it was typed.
    pub(crate) typed: Typed,
    /// No progress and no summary.
    pub(crate) quiet: bool,
    started: Instant,
}

impl Session {
    /// Wall time since the start, nanoseconds.
    pub(crate) fn wall_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes to standard error, unless it should be quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            eprint!("{text}");
        }
    }
}

/// Does what was typed.
pub(crate) fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let typed = cli.config.as_deref().map(Typed::load).transpose()?.unwrap_or_default();
    let session = Session { typed, quiet: cli.quiet, started: Instant::now() };
    match cli.command {
        Command::Demo(_) => anyhow::bail!("not yet"),
        Command::Features(args) => features::features(&session, &args),
        Command::Train(args) => train::train(&session, &args),
        Command::Run(args) => run::run(&session, &args),
        Command::Evaluate(args) => evaluate::evaluate(&session, &args),
        Command::Inspect(args) => inspect::inspect(&session, &args),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "serveflow",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The label book of labelled captures.
fn label_book(labelled: &Labelled) -> anyhow::Result<LabelBook> {
    let book = match (&labelled.labels, labelled.labels_from) {
        (Some(table), _) => read_table(table, &labelled.captures)?,
        (None, LabelsFrom::Path) => by_path(&labelled.captures)?,
        (None, LabelsFrom::Pcapml) => from_comments(&serveflow_io::expand(&[&labelled.captures])?)?,
    };
    Ok(book)
}

/// Writes a file whole.
fn write_file(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}
