//! How a label table and the flows of its captures go together, counted, and why where they do not.

use super::record::{Dataset, RecordError, RecordPlan, record};
use serveflow_core::FlowConfig;
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, MaskSet};
use serveflow_label::diagnose::{
    Cause, Diagnosis, DiagnosisInput, Entry, Unexplained, diagnose, grouped,
};
use serveflow_label::{FileLabels, LabelBook};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

/// Captures that are named one by one.
const NAMED: usize = 3;

/// The rows of a label table beside the flows of its captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMatch {
    /// The table, or the captures that label themselves.
    pub path: PathBuf,
    /// Rows of the table, each flow once; none where captures label themselves.
    pub rows: usize,
    /// Rows that match a flow.
    pub met: usize,
    /// Flows of the captures that were read.
    pub flows: usize,
    /// Flows without a label.
    pub unlabelled: usize,
    /// Captures that the table names.
    pub captures: usize,
    /// Those of them that are not there, as the table names them.
    pub absent: Vec<String>,
    /// Why rows match no flow, in words behind "would match a flow if", with how many rows.
    pub causes: Vec<(String, usize)>,
    /// What can be said of the other rows.
    pub unexplained: Unexplained,
}

impl LabelMatch {
    /// Compares a book with the flows that were recorded with it. `captures` are those that there
    /// are, to find the ones that the table means; only those whose names are like one that is not
    /// there are read.
    ///
    /// # Errors
    /// When the engine cannot be built.
    pub fn new(
        book: &LabelBook,
        dataset: &Dataset,
        captures: &[PathBuf],
        flows: FlowConfig,
    ) -> Result<Self, RecordError> {
        let unlabelled = dataset.flows.iter().filter(|flow| flow.label.is_none()).count();
        let mut found = Self {
            path: book.path.clone(),
            flows: dataset.flows.len(),
            unlabelled,
            captures: book.files.len(),
            ..Self::default()
        };
        found.rows = book.files.values().map(FileLabels::listed).sum();
        found.met = found.rows.saturating_sub(dataset.missing);
        if dataset.missing == 0 {
            return Ok(found);
        }
        let name = |path: &Path| {
            path.strip_prefix(&book.captures).unwrap_or(path).to_string_lossy().into_owned()
        };
        let absent = book.files.keys().filter(|path| !path.exists());
        found.absent = absent.map(|path| name(path)).collect();
        let mut files: Vec<PathBuf> = book.files.keys().cloned().collect();
        let mut entries = entries(dataset, 0);
        let more = unlabelled_book(&alike(book, captures));
        if !more.files.is_empty() {
            let dataset = survey(&more, flows, &mut |_| {})?;
            entries.extend(self::entries(&dataset, files.len()));
            // A dataset numbers captures as its book has them, however they were listed.
            files.extend(more.files.into_keys());
        }
        let rows = rows(book);
        let tables = DiagnosisInput { files: &files, rows: &rows, flows: &entries };
        let Diagnosis { met, causes, unexplained, .. } = diagnose(tables);
        let words = |cause: &Cause| (cause.words(&|file| name(&files[file])), cause.rows);
        found.causes = causes.iter().map(words).collect();
        (found.met, found.unexplained) = (met, unexplained);
        Ok(found)
    }

    /// Whether the table has rows and none matches a flow.
    #[must_use]
    pub fn is_futile(&self) -> bool {
        self.rows > 0 && self.met == 0
    }

    /// Whether each row matches a flow.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.met == self.rows
    }
}

impl fmt::Display for LabelMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: usize| grouped(count as u64);
        write!(
            f,
            "{}: {} of {} rows match a flow, {} {} not",
            self.path.display(),
            number(self.met),
            number(self.rows),
            number(self.rows - self.met),
            if self.rows - self.met == 1 { "does" } else { "do" }
        )?;
        if self.flows > 0 {
            let (without, all) = (number(self.unlabelled), number(self.flows));
            write!(f, "; {without} of {all} flows have no label")?;
        }
        if !self.absent.is_empty() {
            let named: Vec<String> =
                self.absent.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
            let more = if self.absent.len() > NAMED { ", ..." } else { "" };
            write!(
                f,
                "\n  {} of {} captures named in `file` do not exist: {}{more}",
                number(self.absent.len()),
                number(self.captures),
                named.join(", ")
            )?;
        }
        for (words, rows) in &self.causes {
            write!(f, "\n  {} would match a flow if {words}", counted(*rows))?;
        }
        let Unexplained { no_capture, no_hosts, other_time, other_ports } = self.unexplained;
        for (rows, words) in [
            (no_capture, "of captures that do not exist or hold no flow"),
            (no_hosts, "between addresses that no flow has"),
            (other_time, "of five-tuples whose flows all begin at other times"),
            (other_ports, "between addresses whose flows have other ports or protocols"),
        ] {
            if rows > 0 {
                write!(f, "\n  nothing explains {} {words}", counted(rows))?;
            }
        }
        Ok(())
    }
}

fn counted(rows: usize) -> String {
    format!("{} row{}", grouped(rows as u64), if rows == 1 { "" } else { "s" })
}

/// Records the flows of a book with the least there is of features: who, when, which label.
///
/// # Errors
/// When the engine cannot be built.
pub fn survey(
    book: &LabelBook,
    flows: FlowConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<Dataset, RecordError> {
    let spec = FeatureSpec {
        encoders: vec!["packet_series".to_owned()],
        packets: 1,
        layout: HeaderLayout::new(&[]),
        masks: MaskSet::default(),
    };
    let plan = RecordPlan { specs: vec![spec], wait_ns: 0, of_window: 0, flows };
    record(book, &plan, progress)
}

/// Captures whose names are like that of one which the book names and which is not there.
fn alike(book: &LabelBook, captures: &[PathBuf]) -> Vec<PathBuf> {
    let stem = serveflow_label::diagnose::stem;
    let absent: BTreeSet<String> =
        book.files.keys().filter(|path| !path.exists()).map(|path| stem(path)).collect();
    let is_meant = |path: &&PathBuf| {
        absent.contains(&stem(path)) && !book.files.contains_key(*path) && path.is_file()
    };
    captures.iter().filter(is_meant).cloned().collect()
}

/// Captures none of whose flows is listed.
fn unlabelled_book(captures: &[PathBuf]) -> LabelBook {
    let none = |path: &PathBuf| (path.clone(), FileLabels::Flows(HashMap::new()));
    LabelBook { files: captures.iter().map(none).collect(), ..LabelBook::default() }
}

/// The flows that were recorded; their captures are numbered from `first` on.
fn entries(dataset: &Dataset, first: usize) -> Vec<Entry> {
    let entry = |flow: &crate::dataset::FlowInfo| Entry {
        file: first + flow.file,
        flow: flow.flow,
        first_us: flow.first_ns / 1_000,
    };
    dataset.flows.iter().map(entry).collect()
}

/// The rows of a table, capture by capture in the book's order.
fn rows(book: &LabelBook) -> Vec<Entry> {
    let mut rows = Vec::new();
    for (file, labels) in book.files.values().enumerate() {
        let FileLabels::Flows(flows) = labels else { continue };
        for (key, listed) in flows {
            let flow = key.five_tuple(true);
            rows.extend(listed.iter().map(|&(first_us, _)| Entry { file, flow, first_us }));
        }
    }
    // A hash map has no order, and what is told must not change from run to run.
    rows.sort_by_key(|row| (row.file, row.first_us, row.flow));
    rows
}
