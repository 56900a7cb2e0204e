//! Labels held against the flows of their captures, before anything is made of them.

use super::progress::Progress;
use super::{Session, complain};
use anyhow::{Context, bail, ensure};
use serveflow_core::FlowConfig;
use serveflow_label::{FileLabels, LabelBook, Split};
use serveflow_train::dataset::Dataset;
use serveflow_train::dataset::{DataSummary, LabelMatch, survey};
use serveflow_train::pipeline::Step;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Captures that a sentence names.
const NAMED: usize = 6;

/// Who sent the first packets, and under which labels: one look at all captures of a book. Refuses
/// a table no row of which matches a flow, and says why; rows that match none are a warning.
pub(crate) fn surveyed(
    session: &Session,
    book: &LabelBook,
    flows: FlowConfig,
) -> anyhow::Result<Dataset> {
    let mut progress = Progress::new(session);
    let files = book.files.len();
    let dataset = survey(book, flows, &mut |done| progress.step(Step::Recording(done, files)))?;
    progress.finish();
    // Names that are like those of the table are looked for where the captures stand.
    let captures = serveflow_io::InputSet::find(&[&book.captures])
        .map_or_else(|_| Vec::new(), |set| set.paths());
    compared(session, book, &dataset, &captures, flows)?;
    Ok(dataset)
}

/// Refuses a table no row of which matches a recorded flow, and reports how many do.
pub(crate) fn compared(
    session: &Session,
    book: &LabelBook,
    dataset: &Dataset,
    captures: &[PathBuf],
    flows: FlowConfig,
) -> anyhow::Result<()> {
    let found = LabelMatch::new(book, dataset, captures, flows)?;
    ensure!(!found.is_futile(), "no row of the label table matches a flow\n{found}");
    match found.is_whole() {
        false => complain(&format!("warning: {found}\n")),
        true if found.rows > 0 => session.say(&format!("{found}\n")),
        true => {}
    }
    Ok(())
}

/// Refuses labels of which no cascade can be made: fewer than two, in all or among the training
/// flows, or a split without flows.
pub(crate) fn trainable(book: &LabelBook, summary: &DataSummary) -> anyhow::Result<()> {
    let counts = || {
        let count = |split| format!("{} {}", summary.flows(split), Split::name(split));
        Split::ALL.map(count).join(", ")
    };
    for split in [Split::Train, Split::Val] {
        ensure!(
            summary.flows(split) > 0,
            "the split `{}` has no labelled flow; found {}. {}",
            split.name(),
            counts(),
            remedy(book, summary, split)
        );
    }
    let trained = summary.trained();
    ensure!(
        trained.len() > 1,
        "expected training flows of at least 2 classes, found those of `{}` alone: label flows of \
         another class as `train`",
        trained.join("`, `")
    );
    Ok(())
}

/// What to do about a split without flows.
fn remedy(book: &LabelBook, summary: &DataSummary, split: Split) -> String {
    let name = split.name();
    let all: u64 = Split::ALL.into_iter().map(|split| summary.flows(split)).sum();
    let is_given = book.files.values().any(is_split);
    match (is_given, book.is_table()) {
        (false, _) => format!(
            "{all} flows are too few to be split by time, 70 / 15 / 15 % of each capture: label \
             more flows"
        ),
        (true, true) => format!(
            "Label some flows `{name}`, or leave the column `split` empty or out: flows are then \
             split by time within each capture, 70 / 15 / 15 %"
        ),
        (true, false) => format!(
            "Put captures below a folder `{name}`, or use no folders named train, val or test: \
             flows are then split by time within each capture, 70 / 15 / 15 %"
        ),
    }
}

/// Whether any label of a capture says its split.
fn is_split(labels: &FileLabels) -> bool {
    let all = labels.may_hold(Split::Train) && labels.may_hold(Split::Val);
    !(all && labels.may_hold(Split::Test))
}

/// Refuses a book of fewer than two labels, and says where each comes from.
pub(crate) fn at_least_two(book: &LabelBook) -> anyhow::Result<()> {
    if book.labels.len() > 1 {
        return Ok(());
    }
    let only = book.labels.first().context("a book has labels")?;
    let from = book.path.display();
    let mut text = format!("expected at least 2 classes, found 1, `{only}`");
    if book.is_table() {
        bail!("{text}, in the column `label` of {from}");
    }
    let _ = write!(text, ", from the paths of {} captures:", book.files.len());
    for path in book.files.keys().take(NAMED) {
        let _ = write!(text, "\n  {} is labelled `{only}`", path.display());
    }
    if book.files.len() > NAMED {
        text.push_str("\n  ...");
    }
    text.push_str(
        "\nThe label is the first folder below --captures that is not named train, val or test; \
         for a capture outside of such a folder it is the file name",
    );
    if let Some(deeper) = class_folders(book) {
        let _ =
            write!(text, "; with --captures {} the labels are {}", deeper.0.display(), deeper.1);
    }
    bail!("{text}");
}

/// The folder below the captures that holds several folders, where the labels may stand; and their
/// names.
fn class_folders(book: &LabelBook) -> Option<(PathBuf, String)> {
    let inside = |path: &Path| path.strip_prefix(&book.captures).ok().map(Path::to_owned);
    let paths: Vec<PathBuf> = book.files.keys().filter_map(|path| inside(path)).collect();
    let mut common = PathBuf::new();
    loop {
        let mut names: BTreeSet<Option<&Path>> =
            paths.iter().map(|path| next_folder(path, &common)).collect();
        names.retain(|name| name.is_none_or(|name| !is_split_name(name)));
        let mut named = names.iter().flatten();
        match (names.len(), named.next()) {
            (1, Some(one)) => common.push(one),
            (2.., Some(_)) if common.components().next().is_some() => {
                let all = names.iter().flatten().map(|name| format!("`{}`", name.display()));
                let all: Vec<String> = all.take(NAMED).collect();
                return Some((book.captures.join(common), all.join(", ")));
            }
            _ => return None,
        }
    }
}

/// The first folder of a path after a prefix, if something is below it.
fn next_folder<'a>(path: &'a Path, behind: &Path) -> Option<&'a Path> {
    let mut rest = path.strip_prefix(behind).ok()?.iter();
    let folder = rest.next();
    rest.next().and(folder).map(Path::new)
}

fn is_split_name(name: &Path) -> bool {
    name.to_str().is_some_and(|name| Split::from_name(name).is_some())
}
